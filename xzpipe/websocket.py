"""One WebSocket: dial it, frames in and out, how it ended. The library's errors become `Failure`s.

No error text of the library goes any further: some of it holds the address with its token.
"""

import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time

import anyio
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.http11 import Response
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from xzpipe import __version__
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.verdict import Cause, Failure

OPEN_TIMEOUT = 10.0  # seconds
PING_INTERVAL = (
    20.0  # seconds; keeps NAT entries alive, and the official broker answers (wire.md §1)
)
PING_TIMEOUT = 20.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
TAKEN_WITHIN = 120.0  # seconds for one message to leave; 16 MiB at 1.1 Mbit/s
FRAMES = 1024  # received and not looked at; we look at each at once, so one read's worth is here
OUTBOX_MESSAGES = 4096  # more than the answers to all requests that may be pending
OUTBOX_BYTES = 64 * 2**20  # a few of the largest messages

LOST = Failure(Cause.CLOSED, 1006)  # without a close frame

logger = logging.getLogger("xzpipe.websocket")


class DialFailed(Exception):
    """No connection came about; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.cause.value)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Dialling:
    """How to dial. `proxy` is "env", "none" or a URL; times in seconds."""

    proxy: str = "env"
    max_message_bytes: int = 16 * 2**20
    ping_interval: float = PING_INTERVAL
    ping_timeout: float = PING_TIMEOUT
    open_timeout: float = OPEN_TIMEOUT

    def proxy_for(self, endpoint: Endpoint) -> str | None:
        """The proxy that a link to this endpoint goes through."""
        if self.proxy == "env":
            return get_proxy(parse_uri(endpoint.url))
        return None if self.proxy == "none" else self.proxy


class Socket:
    """An open connection. `put` queues a message, `run` serves it until it ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._arrived = anyio.Event()
        self._scope = anyio.CancelScope()
        self._dropped: Failure | None = None

    def put(self, text: bytes) -> bool:
        """Queue a message; False when the outbox is full, because the peer does not take them."""
        if len(self._queue) >= OUTBOX_MESSAGES or self._bytes + len(text) > OUTBOX_BYTES:
            return False
        self._queue.append(text)
        self._bytes += len(text)
        self._arrived.set()
        return True

    def drop(self, reason: str) -> None:
        """Make `run` return, with a failure of our own doing."""
        self._dropped = Failure(Cause.OURS, reason=reason)
        self._scope.cancel()

    async def run(self, receive: Callable[[bytes], object]) -> Failure:
        """Hand every frame to `receive` and send what is queued, until the connection ends."""
        failure = LOST
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send)
                    while True:
                        receive(await self._connection.recv(decode=False))
        except* ConnectionClosed as closed:
            failure = _closed(closed)
        except* TimeoutError:
            failure = Failure(Cause.TIMEOUT, reason="a message was not taken")
        return self._dropped or failure

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Close it, whatever its state; bounded, and not cut short by cancellation."""
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self._connection.close(code, reason)
        self._connection.transport.abort()

    async def _send(self) -> None:
        while True:
            while self._queue:
                text = self._queue.popleft()
                with anyio.fail_after(TAKEN_WITHIN):
                    await self._connection.send(text, text=True)
                self._bytes -= len(text)
            self._arrived = anyio.Event()
            await self._arrived.wait()


async def dial(endpoint: Endpoint, dialling: Dialling, cookie: str = "") -> Socket:
    """Open a connection. Raises `DialFailed`."""
    try:
        return Socket(
            await connect(
                endpoint.url,
                additional_headers={"Cookie": cookie} if cookie else None,
                user_agent_header=f"xzpipe/{__version__}",
                proxy=dialling.proxy_for(endpoint),
                compression=None,  # 0.3 MB a link, and CPU, for messages of a few hundred bytes
                open_timeout=dialling.open_timeout,
                ping_interval=dialling.ping_interval,
                ping_timeout=dialling.ping_timeout,
                close_timeout=CLOSE_TIMEOUT,
                max_size=dialling.max_message_bytes,
                max_queue=FRAMES,
                logger=logger,
            )
        )
    except (OSError, WebSocketException, ImportError, ValueError, EOFError) as error:
        raise DialFailed(_failed(error)) from None


def _failed(error: Exception) -> Failure:
    match error:
        case InvalidStatus():
            return _refused(error.response)
        case ProxyError() | InvalidProxy():
            return Failure(Cause.PROXY)
        case ImportError():
            return Failure(
                Cause.PROXY, reason="a SOCKS proxy needs the package python-socks[asyncio]"
            )
        case InvalidHandshake():
            return Failure(Cause.NETWORK, reason="no WebSocket server is there")
        case InvalidURI() | ValueError():
            return Failure(Cause.NETWORK, reason="the address cannot be dialled")
        case TimeoutError():
            return Failure(Cause.TIMEOUT)
        case socket.gaierror():
            return Failure(Cause.DNS)
        case ssl.SSLCertVerificationError():
            return Failure(Cause.TLS, reason=error.verify_message)
        case ssl.SSLError():
            return Failure(Cause.TLS, reason=error.reason or "")
        case ConnectionRefusedError():
            return Failure(Cause.REFUSED)
        case OSError():
            return Failure(Cause.NETWORK, reason=error.strerror or "")
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


def _closed(group: BaseExceptionGroup[ConnectionClosed]) -> Failure:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _closed(first)
    frame = first.rcvd or first.sent
    return Failure(Cause.CLOSED, frame.code, frame.reason) if frame else LOST
