"""The scripted broker does what its script says. The bridge's place is taken by a bare client."""

import contextlib
import json
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.endpoints import Gone, broker, wire
from tests.servers.session import INITIALIZE, text

pytestmark = pytest.mark.anyio

RESULTS = {
    "initialize": {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {}},
    "tools/list": {"tools": [{"name": "echo"}]},
    "ping": {},
}


@contextlib.asynccontextmanager
async def bridge(url: str, **options: object) -> AsyncIterator[ClientConnection]:
    """A client that answers as a bridge with one echo tool would, until its connection ends."""
    async with (
        connect(url, ping_interval=None, close_timeout=1, proxy=None, **options) as connection,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_answer, connection)
        yield connection
        tasks.cancel_scope.cancel()


async def _answer(connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for frame in connection:
            with contextlib.suppress(ValueError, KeyError):
                message = json.loads(frame)
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": _result(message)}
                await connection.send(json.dumps(answer))


def _result(message: dict) -> dict:
    if message["method"] in RESULTS:
        return RESULTS[message["method"]]
    return {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}


async def test_a_peer_shakes_hands_as_the_broker_does():
    async with broker() as endpoint, connect(endpoint.url, proxy=None) as client:
        peer = await endpoint.accept()
        await peer.start("initialize", INITIALIZE)
        assert await client.recv() == (
            '{"id":0,"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2024-11-05",'
            '"capabilities":{"sampling":{},"roots":{"listChanged":false}},'
            '"clientInfo":{"name":"xz-mcp-broker","version":"0.0.1"}}}'
        )


async def test_calls_in_flight_find_their_answers():
    async with broker() as endpoint, bridge(endpoint.url):
        peer = await endpoint.accept()
        assert list(await peer.handshake()) == ["echo"]
        ids = [await peer.start_call("echo", {"text": str(n)}) for n in range(100)]
        assert ids[0] == 2
        assert [text(await peer.answer(id)) for id in ids[::-1]] == [
            str(n) for n in range(99, -1, -1)
        ]
        assert text(await peer.call("echo", {"text": "é"}, id="идентификатор")) == "é"
        assert peer.inbox == []


async def test_what_answers_nothing_is_kept_in_the_inbox():
    async with broker() as endpoint, connect(endpoint.url, proxy=None) as client:
        peer = await endpoint.accept()
        for frame in ('{"method":"x"}', "junk", b"\xff", '{"id":9,"result":1}'):
            await client.send(frame)
        assert await peer.receive() == {"method": "x"}
        assert await peer.receive_raw() == b"junk"
        assert await peer.receive() == b"\xff"
        assert await peer.receive() == {"id": 9, "result": 1}
        assert len(peer.frames) == 4
        assert peer.binary_frames == 1


async def test_a_peer_sends_any_frame():
    async with broker() as endpoint, connect(endpoint.url, proxy=None) as client:
        peer = await endpoint.accept()
        await peer.send({"a": "é\ud800"})
        await peer.send({"a": "é"})
        await peer.send("[")
        await peer.send(b"{}")
        await peer.send_raw(b"[]")
        received = [await client.recv() for _ in range(5)]
        assert received == ['{"a":"\\u00e9\\ud800"}', '{"a":"é"}', "[", b"{}", "[]"]


async def test_the_script_refuses_and_then_relents():
    async with broker() as endpoint:
        endpoint.refuse(401)
        endpoint.refuse(429, {"Retry-After": "3"}, times=2)
        endpoint.refuse(426, {"Set-Cookie": "acw_tc=abc; Path=/"}, times=None)
        for status in (401, 429, 429, 426, 426):
            with pytest.raises(InvalidStatus) as refused:
                await connect(endpoint.url, proxy=None)
            response = refused.value.response
            assert response.status_code == status
            assert response.headers.get("Retry-After") == ("3" if status == 429 else None)
        assert response.headers["Set-Cookie"].startswith("acw_tc")
        endpoint.relent()
        cookie = {"Cookie": "acw_tc=abc"}
        async with connect(endpoint.url, proxy=None, additional_headers=cookie):
            peer = await endpoint.accept()
        attempts = await endpoint.attempted(6)
        assert [attempt.status for attempt in attempts] == [401, 429, 429, 426, 426, 101]
        assert attempts[-1].headers["Cookie"] == peer.headers["Cookie"] == "acw_tc=abc"
        assert sorted(attempts, key=lambda attempt: attempt.at) == attempts


async def test_the_script_hangs_up_at_once():
    async with broker() as endpoint:
        endpoint.hang_up(4004, "Internal server error")
        async with connect(endpoint.url, proxy=None) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd.code == 4004
        with pytest.raises(TimeoutError):
            await endpoint.accept(timeout=0.01)


async def test_paths_tell_endpoints_apart():
    async with broker() as endpoint:
        async with connect(endpoint.url_for("two", "/mcp_endpoint/mcp/"), proxy=None):
            assert (await endpoint.accept()).path == "/mcp_endpoint/mcp/?token=two"


async def test_both_sides_see_a_close():
    async with broker() as endpoint:
        async with connect(endpoint.url, proxy=None) as client:
            peer = await endpoint.accept()
            await peer.close(1000, "新连接替换")
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (1000, "新连接替换")
        async with connect(endpoint.url, proxy=None):
            peer = await endpoint.accept()
        assert await peer.closed() == (1000, "")
        await endpoint.all_gone()
        with pytest.raises(Gone):
            await peer.receive()


async def test_a_reset_is_no_close():
    async with broker() as endpoint, bridge(endpoint.url) as client:
        peer = await endpoint.accept()
        peer.reset()
        assert await peer.closed() == (1006, "")
        await client.wait_closed()
        assert client.close_code == 1006
        with pytest.raises(Gone):
            await peer.request("ping")


async def test_a_lost_connection_ends_every_wait():
    async with broker() as endpoint, connect(endpoint.url, proxy=None) as client:
        peer = await endpoint.accept()
        waiting = await peer.start("ping")
        await client.close()
        with pytest.raises(Gone):
            await peer.answer(waiting)


async def test_it_can_stop_listening_and_listen_again():
    async with broker() as endpoint, bridge(endpoint.url):
        standing = await endpoint.accept()
        endpoint.stop_listening()
        with pytest.raises(OSError):
            await connect(endpoint.url, proxy=None)
        await standing.ping()
        await endpoint.listen_again()
        async with bridge(endpoint.url):
            await (await endpoint.accept()).ping()
            assert endpoint.connected == 2


async def test_auto_shakes_hands_and_pings_by_itself():
    async with broker(auto=True, ping_every=0.01) as endpoint, bridge(endpoint.url):
        peer = await endpoint.accept()
        assert list(peer.tools) == ["echo"]
        await peer.until(lambda: len(peer.frames) > 3)


async def test_a_peer_that_does_not_read_stalls_the_other_side():
    async with broker() as endpoint, connect(endpoint.url, proxy=None) as client:
        peer = await endpoint.accept()
        peer.stop_reading()
        with anyio.move_on_after(1) as patience:
            while True:
                await client.send("x" * 2**20)
        assert patience.cancelled_caught
        received = len(peer.frames)
        peer.read_again()
        await peer.until(lambda: len(peer.frames) > received + 1)
        peer.reset()


async def test_a_frozen_wire_is_half_open():
    async with broker() as endpoint, wire(endpoint.url) as line, bridge(line.url):
        peer = await endpoint.accept()
        await peer.ping()
        line.freeze()
        with pytest.raises(TimeoutError):
            await peer.ping(timeout=0.05)
        assert not peer.gone
        async with bridge(line.url):
            await (await endpoint.accept()).ping()
        line.thaw()
        await peer.ping()
        line.freeze(new=True)
        with pytest.raises(TimeoutError):
            await connect(line.url, open_timeout=0.05, proxy=None)
        line.thaw()


async def test_a_cut_wire_resets_both_sides():
    async with broker() as endpoint, wire(endpoint.url) as line, bridge(line.url) as client:
        peer = await endpoint.accept()
        line.freeze()
        line.cut()
        assert await peer.closed() == (1006, "")
        await client.wait_closed()
