"""One WebSocket: dial it, frames in and out, how it ended. The library's errors become `Failure`s.

No error text of the library goes any further: some of it holds the address with its token.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import unquote

import anyio
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from xzpipe import __version__
from xzpipe.core.endpoint import Endpoint, redact
from xzpipe.core.hub import MAX_MESSAGE_BYTES
from xzpipe.core.verdict import Cause, Failure
from xzpipe.frames import Dialled, Frames
from xzpipe.outbox import Outbox

OPEN_TIMEOUT = 10.0  # seconds
PING_INTERVAL = 20.0  # seconds; keeps NAT entries alive; the broker answers it (wire.md §1)
PING_TIMEOUT = 20.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
LOOPBACK = {"localhost", "127.0.0.1", "::1"}  # a proxy would look for it on a machine of its own

CLOSED_BY_US = {  # what the library closes a connection for, without being asked
    1002: "the endpoint breaks the WebSocket protocol",
    1007: "the endpoint breaks the WebSocket protocol",
    1009: "the endpoint sent a message over the limit (maxMessageBytes)",
    1011: "the endpoint does not answer pings any more",
}
LOST = Failure(Cause.CLOSED, 1006)  # without a close frame

logger = logging.getLogger("xzpipe.websocket")


# of the library; their tracebacks quote a request
UNREADABLE = ("! no valid HTTP request", "opening handshake failed")


def _may_be_logged(record: logging.LogRecord) -> bool:
    """Not what is said in calls. Of a request, the path as it is meant, since in `%74oken=` nobody
    would see a secret; and of one that cannot be read, nothing."""
    if record.msg in UNREADABLE:
        record.exc_info = None
    if isinstance(record.args, tuple):
        record.args = tuple(
            unquote(redact(arg)) if isinstance(arg, str) else arg for arg in record.args
        )
    return not any(isinstance(arg, Frame) for arg in record.args or ())


logger.addFilter(_may_be_logged)


class DialFailed(Exception):
    """No connection came about; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause.value)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Dialling:
    """How to dial. `proxy` is "env", "none" or a URL; times in seconds."""

    proxy: str = field(default="env", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_message_bytes: int = MAX_MESSAGE_BYTES
    ping_interval: float = PING_INTERVAL
    ping_timeout: float = PING_TIMEOUT
    open_timeout: float = OPEN_TIMEOUT

    def proxy_for(self, endpoint: Endpoint) -> str | None:
        """The proxy that a link to this endpoint goes through."""
        if self.proxy == "env":
            uri = parse_uri(endpoint.url)
            return None if uri.host in LOOPBACK else get_proxy(uri)
        return None if self.proxy == "none" else self.proxy


class Socket:
    """An open connection: `put` queues a message, `run` serves it until it ends."""

    def __init__(self, connection: Frames) -> None:
        self.put = Outbox(connection.transport, connection.pack).put
        self._connection = connection
        self._scope = anyio.CancelScope()
        self._dropped: Failure | None = None

    def drop(self, reason: str) -> None:
        """Make `run` return, with a failure of our own doing."""
        self._dropped = Failure(Cause.OURS, reason=reason)
        self._scope.cancel()

    async def run(
        self,
        receive: Callable[[bytes], object],
        answered: Callable[[float], object] | None = None,
    ) -> Failure:
        """Hand every message to `receive` until the connection ends; how it ended. `answered` is
        told how many seconds the answer to a ping of the keepalive took."""
        self._connection.on_answered = answered
        with self._scope:
            self._connection.hand_to(receive)
            await self._connection.wait_closed()
        if self._connection.bug is not None:
            raise self._connection.bug
        return self._dropped or self._ending()

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Close it, whatever its state; bounded, and not cut short by cancellation."""
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self._connection.close(code, reason)
        self._connection.transport.abort()

    def _ending(self) -> Failure:
        received = self._connection.protocol.close_rcvd
        sent = self._connection.protocol.close_sent
        if received is not None:
            return Failure(Cause.CLOSED, received.code, received.reason)
        if sent is not None and sent.code in CLOSED_BY_US:
            return Failure(Cause.OURS, reason=CLOSED_BY_US[sent.code])
        return LOST


async def dial(endpoint: Endpoint, dialling: Dialling, cookie: str = "") -> Socket:
    """Open a connection. Raises `DialFailed`."""
    proxy = None
    try:
        proxy = dialling.proxy_for(endpoint)
        connection = await connect(
            endpoint.url,
            create_connection=Dialled,
            additional_headers=_headers(dialling, cookie),
            user_agent_header=None,
            proxy=proxy,
            compression=None,  # 0.3 MB a link, and CPU, for messages of a few hundred bytes
            open_timeout=dialling.open_timeout,
            ping_interval=dialling.ping_interval,
            ping_timeout=dialling.ping_timeout,
            close_timeout=CLOSE_TIMEOUT,
            max_size=dialling.max_message_bytes,
            logger=logger,
        )
    except (OSError, WebSocketException, ImportError, ValueError, EOFError) as error:
        raise DialFailed(_failed(error, proxied=proxy is not None)) from None
    assert isinstance(connection, Dialled)
    return Socket(connection)


def _headers(dialling: Dialling, cookie: str) -> Headers:
    headers = Headers(dialling.headers)
    headers.setdefault("User-Agent", f"xzpipe/{__version__}")
    if cookie:
        own = headers.get_all("Cookie")
        if own:
            del headers["Cookie"]
        headers["Cookie"] = "; ".join([*own, cookie])
    return headers


def _failed(error: Exception, proxied: bool) -> Failure:
    match error:
        case InvalidStatus():
            return _refused(error.response)
        case ssl.SSLCertVerificationError():  # a ValueError too
            return Failure(Cause.TLS, reason=error.verify_message)
        case ssl.SSLError():
            return Failure(Cause.TLS, reason=error.reason or "")
        case ProxyError() | InvalidProxy():
            return Failure(Cause.PROXY)
        case ImportError():
            return Failure(Cause.PROXY, reason="SOCKS needs the package python-socks[asyncio]")
        case socket.gaierror() | ConnectionRefusedError() | ValueError() if proxied:
            return Failure(Cause.PROXY, reason="it cannot be reached")
        case InvalidHandshake():
            return Failure(Cause.NETWORK, reason="no WebSocket server is there")
        case InvalidURI() | ValueError():
            return Failure(Cause.NETWORK, reason="the address cannot be dialled")
        case TimeoutError():
            return Failure(Cause.TIMEOUT)
        case socket.gaierror():
            return Failure(Cause.DNS)
        case ConnectionRefusedError():
            return Failure(Cause.REFUSED)
        case OSError():
            untold = "cut off, or none of the host's addresses answers"
            return Failure(Cause.NETWORK, reason=error.strerror or untold)
    return Failure(Cause.NETWORK)


def _refused(response: Response) -> Failure:
    cookies = response.headers.get_all("Set-Cookie")
    acw = next((c.partition(";")[0] for c in cookies if c.startswith("acw_tc=")), "")
    after = response.headers.get_all("Retry-After")
    return Failure(
        Cause.STATUS,
        response.status_code,
        retry_after=_seconds(after[0]) if after else None,
        cookie=acw,
    )


def _seconds(retry_after: str) -> float | None:
    """The value of a Retry-After header, which is seconds or a date; None if it is neither."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (TypeError, ValueError, OverflowError):
        return None
