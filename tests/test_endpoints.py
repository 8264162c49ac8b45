"""The scripted broker does what its script says. The bridge's place is taken by a bare client."""

import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

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


# -- one connection per token --------------------------------------------------------------------


async def evicted(client: ClientConnection) -> tuple[int, str]:
    with anyio.fail_after(5):
        await client.wait_closed()
    return client.close_code, client.close_reason


async def test_of_one_token_the_newest_connection_evicts_the_older_and_is_then_forgotten():
    async with broker(one_per_token=True) as endpoint, bridge(endpoint.url) as first:
        await endpoint.until(endpoint.registered)
        assert await endpoint.robot().handshake() == {"echo": {"name": "echo"}}
        async with bridge(endpoint.url) as second:
            assert await evicted(first) == (1000, "新连接替换")
            await endpoint.until(lambda: endpoint.connected == 1)
            assert endpoint.registered() is None
            robot = endpoint.robot()
            refused = await robot.request("ping", id=5)
            assert (refused["error"]["code"], refused["result"]) == (-32001, None)
            await robot.notify("notifications/initialized")
            assert (await robot.receive())["id"] is None
            await (await second.ping())  # it stays open all the same


async def test_an_orphan_is_not_evicted_but_makes_the_server_forget_the_next_when_it_ends():
    async with broker(one_per_token=True) as endpoint:
        async with bridge(endpoint.url), bridge(endpoint.url) as orphan:
            await endpoint.until(lambda: endpoint.connected == 1 and not endpoint.registered())
            async with bridge(endpoint.url) as third:
                await endpoint.until(endpoint.registered)
                await (await orphan.ping())
                await orphan.close()
                await endpoint.until(lambda: not endpoint.registered())
                await (await third.ping())


async def test_whoever_waits_until_the_old_connection_is_done_with_is_registered():
    async with broker(one_per_token=True, lingers=0.1) as endpoint:
        async with bridge(endpoint.url):
            await endpoint.until(endpoint.registered)
        async with bridge(endpoint.url):  # the old one's handler has not ended
            await endpoint.until(lambda: len(endpoint.attempts) == 2 and endpoint.connected == 1)
            assert endpoint.registered() is None
        await endpoint.all_gone()
        async with bridge(endpoint.url):
            await endpoint.until(endpoint.registered)
            assert text(await endpoint.robot().call("echo", {"text": "here"})) == "here"
        await endpoint.all_gone()
        assert endpoint.registered() is None


async def test_without_the_bug_the_newest_connection_stays_registered():
    options = {"evicts_with": "replaced", "orphans": False}
    async with broker(one_per_token=True, **options) as endpoint, bridge(endpoint.url) as first:
        await endpoint.until(endpoint.registered)
        async with bridge(endpoint.url):
            assert await evicted(first) == (1000, "replaced")
            await endpoint.until(lambda: endpoint.connected == 1)
            assert await endpoint.robot().refresh() == ["echo"]


async def test_other_tokens_and_other_server_ids_have_places_of_their_own():
    places = [("one", ""), ("two", ""), ("two", "calc"), ("two", "时间")]
    async with broker(one_per_token=True) as endpoint, contextlib.AsyncExitStack() as stack:
        for token, server in places:
            url = endpoint.url_for(token) + (f"&server_id={quote(server)}" if server else "")
            await stack.enter_async_context(bridge(url))
        await endpoint.until(lambda: endpoint.connected == len(places))
        for token, server in places:
            peer = endpoint.registered(token, server or "default")
            assert peer.path.endswith(quote(server) if server else token)
            assert await endpoint.robot(token, server or "default").refresh() == ["echo"]
        async with bridge(endpoint.url_for("two") + "&server_id=calc"):
            await endpoint.until(lambda: len(endpoint.attempts) == 5 and endpoint.connected == 4)
            assert endpoint.registered("two", "calc") is None
            assert endpoint.registered("two", "时间") and endpoint.registered("two")


async def test_robots_share_a_connection_and_their_ids_do_not_collide():
    async with broker(one_per_token=True) as endpoint, connect(endpoint.url, proxy=None) as client:
        await endpoint.until(endpoint.registered)
        one, two = endpoint.robot(), endpoint.robot()
        asked = [await one.start("ping", id=1), await one.start("ping", id="一")]
        await two.start("ping", id=1)
        inner = [json.loads(await client.recv())["id"] for _ in range(3)]
        assert inner == [f"{one.uuid}_n_1", f"{one.uuid}_s_一", f"{two.uuid}_n_1"]
        for n, id in reversed(list(enumerate(inner))):
            await client.send(json.dumps({"jsonrpc": "2.0", "id": id, "result": {"n": n}}))
        assert (await two.answer(1)) == {"jsonrpc": "2.0", "id": 1, "result": {"n": 2}}
        assert [(await one.answer(id))["result"]["n"] for id in asked] == [0, 1]


async def test_robots_hear_nothing_but_answers_to_themselves():
    async with broker(one_per_token=True) as endpoint, connect(endpoint.url, proxy=None) as client:
        await endpoint.until(endpoint.registered)
        robot = endpoint.robot()
        await robot.start("ping", id=0)
        assert json.loads(await client.recv())["id"] == 0
        await robot.send([{"id": 1, "method": "ping"}])
        await robot.send("not JSON")
        assert await client.recv() == "not JSON"
        unheard = ['{"method":"x"}', '{"id":0,"result":{}}', "[]", '{"id":"x_n_1","result":{}}']
        for frame in unheard:
            await client.send(frame)
        await robot.start("ping", id=1)
        await client.send(f'{{"id":"{robot.uuid}_n_1","result":{{}}}}')
        await robot.answer(1)
        assert len(robot.frames) == 1
        assert len(endpoint.registered().inbox) == len(unheard)


async def test_a_robot_says_all_at_once_and_the_console_says_params_null():
    async with broker(one_per_token=True) as endpoint, connect(endpoint.url, proxy=None) as client:
        await endpoint.until(endpoint.registered)
        robot = endpoint.robot()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(robot.handshake)
            asked = [json.loads(await client.recv()) for _ in range(3)]
            assert [m["method"].split("/")[0] for m in asked] == [
                "initialize", "notifications", "tools",
            ]  # fmt: skip
            assert "params" not in asked[2]
            pages = [{"tools": [{"name": "a"}], "nextCursor": "b"}, {"tools": [{"name": "b"}]}]
            await client.send(json.dumps({"id": asked[0]["id"], "result": {}}))
            await client.send(json.dumps({"id": asked[2]["id"], "result": pages[0]}))
            more = json.loads(await client.recv())
            assert (more["id"], more["params"]) == (asked[2]["id"], {"cursor": "b"})
            await client.send(json.dumps({"id": more["id"], "result": pages[1]}))
        assert await robot.start("ping") == 1  # an id that has been used
        async with anyio.create_task_group() as tasks:
            await client.recv()
            tasks.start_soon(endpoint.robot().refresh)
            asked = json.loads(await client.recv())
            await client.send(json.dumps({"id": asked["id"], "result": {}}))
            await client.recv()
            asked = json.loads(await client.recv())
            assert asked.items() >= {"method": "tools/list", "params": None}.items()
            await client.send(json.dumps({"id": asked["id"], "result": {"tools": []}}))


async def test_a_robot_learns_that_a_frame_could_not_be_forwarded():
    async with broker(one_per_token=True, lingers=0.2) as endpoint:
        async with connect(endpoint.url, proxy=None):
            await endpoint.until(endpoint.registered)
        answer = await endpoint.robot().request("ping", id=1)
        assert answer["error"]["code"] == -32002
