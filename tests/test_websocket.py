"""One WebSocket against a scripted endpoint: how it is dialled, what goes over it, how it ends."""

import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.endpoints import TOKEN, Broker, Peer, broker, wire
from tests.servers.session import WAIT
from xzpipe import __version__
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.verdict import Cause, Failure, judge
from xzpipe.outbox import OUTBOX_BYTES, OUTBOX_MESSAGES
from xzpipe.websocket import (
    LOST,
    DialFailed,
    Dialling,
    Socket,
    dial,
)

pytestmark = pytest.mark.anyio

DIRECT = Dialling(proxy="none")
MIB = 2**20


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def refused(url: str, dialling: Dialling = DIRECT, cookie: str = "") -> Failure:
    """Why a dial fails; nobody is shown the token."""
    with pytest.raises(DialFailed) as failed, anyio.fail_after(WAIT):
        await dial(Endpoint(url), dialling, cookie)
    error = failed.value
    assert error.__suppress_context__
    assert TOKEN not in f"{error!r} {error.failure}"
    return error.failure


def nowhere() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Talk:
    """An open link and its far end. `run` is running; `received` are the frames that came in."""

    def __init__(self, endpoint: Broker, link: Socket, peer: Peer) -> None:
        self.endpoint = endpoint
        self.link = link
        self.peer = peer
        self.received: list[bytes] = []
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self.failure: Failure | None = None

    def receive(self, frame: bytes) -> None:
        self.received.append(frame)
        self._arrived.set()
        self._arrived = anyio.Event()

    async def frames(self, number: int) -> list[bytes]:
        with anyio.fail_after(WAIT):
            while len(self.received) < number:
                await self._arrived.wait()
        return self.received

    async def run(self) -> None:
        self.failure = await self.link.run(self.receive)
        self._ended.set()

    async def end(self) -> Failure:
        """How the link ended, once it has."""
        with anyio.fail_after(WAIT):
            await self._ended.wait()
        assert self.failure is not None
        return self.failure


@contextlib.asynccontextmanager
async def talk(dialling: Dialling = DIRECT) -> AsyncIterator[Talk]:
    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), dialling)
        talking = Talk(endpoint, link, await endpoint.accept())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talking.run)
            try:
                yield talking
            finally:
                await link.close()
                tasks.cancel_scope.cancel()


# Dialling


async def test_it_dials_as_xzpipe_with_nothing_that_could_put_an_endpoint_off():
    async with talk() as talking:
        headers = talking.peer.headers
        assert headers["User-Agent"] == f"xzpipe/{__version__}"
        for name in ("Cookie", "Authorization", "Sec-WebSocket-Extensions", "Origin"):
            assert name not in headers


async def test_the_cookie_is_sent_back():
    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), DIRECT, "acw_tc=abc")
        assert (await endpoint.accept()).headers["Cookie"] == "acw_tc=abc"
        await link.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 426, 429, 500, 502, 503])
async def test_a_status_is_a_failure(status):
    async with broker() as endpoint:
        endpoint.refuse(status)
        assert await refused(endpoint.url) == Failure(Cause.STATUS, status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, float("inf")),
        ("Mon, 01 Jan 0001 00:00:00 +2400", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
async def test_retry_after_is_seconds(header, seconds):
    async with broker() as endpoint:
        endpoint.refuse(429, {"Retry-After": header})
        assert (await refused(endpoint.url)).retry_after == seconds


async def test_retry_after_may_be_a_date():
    later = datetime.now(UTC) + timedelta(seconds=3000)
    async with broker() as endpoint:
        endpoint.refuse(503, {"Retry-After": format_datetime(later, usegmt=True)})
        failure = await refused(endpoint.url)
        assert 2900 < failure.retry_after <= 3000


@pytest.mark.parametrize(
    ("header", "cookie"),
    [
        ("acw_tc=0a1b;path=/;HttpOnly;Max-Age=1800", "acw_tc=0a1b"),
        ("acw_tc=0a1b", "acw_tc=0a1b"),
        ("session=1; path=/", ""),
    ],
)
async def test_the_firewalls_cookie_is_kept_and_no_other(header, cookie):
    async with broker() as endpoint:
        endpoint.refuse(426, {"Set-Cookie": header})
        assert await refused(endpoint.url) == Failure(Cause.STATUS, 426, cookie=cookie)


async def test_a_port_where_nobody_listens():
    assert await refused(f"ws://{nowhere()}/?token={TOKEN}") == Failure(Cause.REFUSED)


async def test_a_name_that_does_not_resolve():
    assert await refused(f"ws://nowhere.invalid/?token={TOKEN}") == Failure(Cause.DNS)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "%00", "["])
async def test_an_address_that_cannot_be_dialled_is_a_failure(host):
    assert (await refused(f"ws://{host}/?token={TOKEN}")).cause in {Cause.NETWORK, Cause.DNS}


async def test_tls_where_there_is_none():
    async with broker() as endpoint:
        failure = await refused(endpoint.url.replace("ws://", "wss://"))
        assert failure.cause in {Cause.TLS, Cause.NETWORK}
        assert failure.reason


@contextlib.asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A TCP server that answers every connection so and hangs up; None: it is silent for ever."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
                if answer is None:
                    await anyio.sleep_forever()
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/mcp/?token={TOKEN}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_an_endpoint_that_says_nothing_is_not_waited_for_for_long(scheme):
    async with answering(None) as url:
        url = url.replace("ws://", f"{scheme}://")
        assert await refused(url, Dialling("none", open_timeout=0.1)) == Failure(Cause.TIMEOUT)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 400 \xff\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    ],
)
async def test_whatever_answers_instead_of_an_endpoint_is_a_failure(answer):
    async with answering(answer) as url:
        assert (await refused(url)).cause in {Cause.NETWORK, Cause.STATUS}


async def test_a_redirect_is_followed():
    async with broker() as far, broker() as near:
        near.refuse(307, {"Location": far.url})
        link = await dial(Endpoint(near.url), DIRECT, "acw_tc=1")
        peer = await far.accept()
        assert "Cookie" not in peer.headers  # it is another host's
        await link.close()


async def test_redirects_end_sometime():
    async with broker() as endpoint:
        endpoint.refuse(302, {"Location": endpoint.url}, times=None)
        assert (await refused(endpoint.url)).cause is Cause.NETWORK
        assert len(endpoint.attempts) < 20


async def test_a_redirect_to_a_page_is_a_failure():
    async with broker() as endpoint:
        endpoint.refuse(302, {"Location": f"https://h/login?token={TOKEN}"})
        assert (await refused(endpoint.url)).cause is Cause.NETWORK


# Proxies


@pytest.mark.parametrize(
    "proxy",
    [
        "gopher://127.0.0.1:1",
        "http://",
        "http://user@127.0.0.1:1",
        "http://127.0.0.1:1/path",
        "http://127.0.0.1:port",
        "socks5://127.0.0.1:1",
        "http://nowhere.invalid:3128",
        pytest.param(f"http://{nowhere()}", id="nobody listens"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_named_as_the_cause(proxy):
    async with broker() as endpoint:
        failure = await refused(endpoint.url, Dialling(proxy))
        assert failure.cause is Cause.PROXY
        assert endpoint.attempts == []


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n", b"?\r\n"]
)
async def test_a_proxy_that_refuses_is_named_as_the_cause(answer):
    async with broker() as endpoint, answering(answer) as url:
        proxy = url.replace("ws://", "http://").partition("/mcp/")[0]
        assert (await refused(endpoint.url, Dialling(proxy))).cause is Cause.PROXY


def test_the_proxy_is_none_or_the_one_that_is_set():
    endpoint = Endpoint("wss://h/mcp/?token=t")
    assert Dialling("none").proxy_for(endpoint) is None
    assert Dialling("http://p:1").proxy_for(endpoint) == "http://p:1"


# Frames


async def test_frames_come_in_as_bytes_be_they_text_or_binary():
    async with talk() as talking:
        await talking.peer.send("文本")
        await talking.peer.send(b"\xff\x00")
        assert await talking.frames(2) == ["文本".encode(), b"\xff\x00"]


async def test_what_is_put_goes_out_as_text_frames_in_order():
    async with talk() as talking:
        for n in range(100):
            assert talking.link.put(b"[%d]" % n)
        for n in range(100):
            assert await talking.peer.receive() == [n]
        assert talking.peer.binary_frames == 0


async def test_a_frame_over_the_limit_ends_the_link():
    async with talk(Dialling("none", max_message_bytes=1000)) as talking:
        await talking.peer.send("x" * 1000)
        await talking.peer.send("x" * 1001)
        failure = await talking.end()
        assert failure.cause is Cause.OURS
        assert "maxMessageBytes" in failure.reason
        assert (await talking.peer.closed())[0] == 1009
        assert len(talking.received) == 1


@pytest.mark.parametrize(
    ("message", "room"), [(b"x", OUTBOX_MESSAGES), (b"x" * 16 * MIB, OUTBOX_BYTES // (16 * MIB))]
)
async def test_the_outbox_has_a_bound(message, room):
    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), DIRECT)
        assert [link.put(message) for _ in range(room + 2)] == [True] * room + [False] * 2
        await link.close()


async def test_the_outbox_has_room_again_when_messages_have_left():
    async with talk() as talking:
        talking.peer.stop_reading()
        message = b'"%b"' % (b"x" * 16 * MIB)
        accepted = 0
        while talking.link.put(message):
            accepted += 1
            await anyio.lowlevel.checkpoint()
        talking.peer.read_again()
        for _ in range(accepted):
            await talking.peer.receive_raw()
        assert talking.link.put(b'"more"')
        assert await talking.peer.receive() == "more"


# Ends


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "新连接替换"), (1008, "token解密失败"), (4004, "error")]
)
async def test_the_endpoints_close_is_told(code, reason):
    async with talk() as talking:
        await talking.peer.close(code, reason)
        assert await talking.end() == Failure(Cause.CLOSED, code, reason)


async def test_a_lost_connection_is_told():
    async with talk() as talking:
        talking.peer.reset()
        assert await talking.end() == LOST


async def test_our_close_has_a_code_and_a_reason():
    async with talk() as talking:
        await talking.link.close(4004, "Internal server error")
        assert await talking.peer.closed() == (4004, "Internal server error")
        assert (await talking.end()).code == 4004


async def test_a_dropped_link_ends_for_our_reason_and_then_closes():
    async with talk() as talking:
        talking.link.drop("its tool list changed")
        assert await talking.end() == Failure(Cause.OURS, reason="its tool list changed")
        assert not talking.peer.gone
        await talking.link.close()
        assert (await talking.peer.closed())[0] == 1001


async def test_a_link_that_was_dropped_before_it_ran_does_not_run():
    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), DIRECT)
        link.drop("too late")
        with anyio.fail_after(WAIT):
            assert await link.run(lambda _: None) == Failure(Cause.OURS, reason="too late")
        await link.close()


@pytest.mark.parametrize("anyio_backend", [False], indirect=True, ids=["asyncio"])
async def test_a_half_open_link_is_found_out_by_pings():
    async with broker() as endpoint, wire(endpoint.url) as line:
        dialling = Dialling("none", ping_interval=0.05, ping_timeout=0.1)
        link = await dial(Endpoint(line.url), dialling)
        line.freeze()
        with anyio.fail_after(WAIT):
            failure = await link.run(lambda _: None)
        assert failure == Failure(Cause.OURS, reason="the endpoint does not answer pings any more")
        await link.close()


class Pings(logging.Handler):
    """Counts the pings that an endpoint logs."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.left = enough
        self.counted = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.left -= "< PING" in record.getMessage()
        if self.left == 0:
            self.counted.set()


async def test_a_link_whose_pings_are_answered_stays_up():
    pings = Pings(10)
    log = logging.Logger("endpoint", logging.DEBUG)
    log.addHandler(pings)
    async with broker(logger=log) as endpoint:
        dialling = Dialling("none", ping_interval=0.01, ping_timeout=0.05)
        link = await dial(Endpoint(endpoint.url), dialling)
        with anyio.fail_after(WAIT):
            await pings.counted.wait()
        assert endpoint.connected == 1
        await link.close()


@pytest.mark.parametrize("anyio_backend", [False], indirect=True, ids=["asyncio"])
async def test_closing_a_link_that_is_half_open_does_not_take_long():
    async with broker() as endpoint, wire(endpoint.url) as line:
        link = await dial(Endpoint(line.url), DIRECT)
        line.freeze()
        with anyio.CancelScope() as scope:
            scope.cancel()  # nor is it cut short
            with anyio.fail_after(WAIT):
                await link.close()
        line.thaw()
        await endpoint.all_gone()


async def test_a_receiver_that_fails_is_a_bug_and_comes_through():
    def receive(_: bytes) -> None:
        raise LookupError("a bug")

    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), DIRECT)
        await (await endpoint.accept()).send("x")
        with pytest.raises(LookupError, match="a bug"), anyio.fail_after(WAIT):
            await link.run(receive)
        await link.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_a_certificate_that_nobody_signed_is_a_matter_of_tls(tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files)
    subprocess.run(request, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with broker(ssl=context) as endpoint:
        url = f"wss://localhost:{endpoint.port}/mcp/?token=x"
        with pytest.raises(DialFailed) as raised:
            await dial(Endpoint(url), Dialling("none"))
        assert raised.value.failure.cause is Cause.TLS
        assert "certificate" in judge(raised.value.failure).cause


@pytest.mark.parametrize(
    ("headers", "cookie", "sent"),
    [
        ({}, "", {"User-Agent": f"xzpipe/{__version__}", "Cookie": None}),
        ({"X-Key": "hush"}, "", {"X-Key": "hush", "User-Agent": f"xzpipe/{__version__}"}),
        ({"user-agent": "mine"}, "", {"User-Agent": "mine"}),
        ({"Cookie": "a=1"}, "acw_tc=2", {"Cookie": "a=1; acw_tc=2"}),
        ({}, "acw_tc=2", {"Cookie": "acw_tc=2"}),
    ],
)
async def test_an_endpoint_is_sent_the_headers_that_it_wants(headers, cookie, sent):
    async with broker() as endpoint:
        dialling = Dialling("none", headers)
        socket = await dial(Endpoint(endpoint.url), dialling, cookie)
        got = (await endpoint.accept()).headers
        await socket.close()
        assert {name: got.get(name) for name in sent} == sent
        assert "hush" not in repr(dialling)
