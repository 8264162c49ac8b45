"""Sessions with the servers of a config, and with endpoints."""

import contextlib
from typing import Any

import anyio
import pytest

from tests.configs import Announced, Heard, config
from tests.endpoints import TOKEN, broker, wire
from tests.servers import alive, entry
from tests.servers.session import WAIT
from xzpipe import app, calling
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import ServerDown, ServerReady, ServerStarting
from xzpipe.core.notes import NameChanged
from xzpipe.errors import CallError, ServerError, UsageError
from xzpipe.guard import Guard


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_what_each_endpoint_sees_is_known_without_it(tmp_path):
    heard = Heard()
    policy = {"rename": {"echo": "say"}}
    servers = {name: {**entry("--only", "echo"), "tools": policy} for name in "ab"}
    endpoints = {"home": {"mode": "aggregate"}, "work": {"servers": ["a"]}}
    chosen = config(tmp_path, servers, endpoints=endpoints)
    async with calling.calling_servers(Guard(), chosen, heard) as called:
        shown = {
            name: [(each.name, each.server, each.tool) for each in tools]
            for name, tools in called.seen.items()
        }
        assert shown == {
            "home": [("a__say", "a", "echo"), ("b__say", "b", "echo")],
            "work": [("say", "a", "echo")],
        }
    assert {(each.server, each.listed) for each in heard.of(NameChanged)} == {
        ("a", "a__say"),
        ("b", "b__say"),
    }


@pytest.mark.anyio
async def test_a_session_with_a_config_begins_when_every_server_is_ready_or_has_failed(tmp_path):
    servers = {
        "slow": entry("--start-delay", 0.2, "--only", "echo"),
        "bad": entry("--exit-at-start", 1),
    }
    heard = Heard()
    async with calling.calling_servers(Guard(), config(tmp_path, servers), heard) as called:
        session, failed = called.session, called.failed
        assert [tool["name"] for tool in await session.tools()] == ["echo"]
        assert (await session.call("echo", {"text": "x"}))["content"][0]["text"] == "x"
        with pytest.raises(CallError, match=r"unknown tool: nope \(-32602\)"):
            await session.call("nope", {})
        assert list(failed) == ["bad"]
        assert failed["bad"].reason.endswith("it exited with code 1")
        assert "ModuleNotFoundError" in failed["bad"].stderr[-1]
    assert len(heard.of(ServerReady)) == 1
    assert heard.of(ServerDown) == []
    assert not any(alive(each.pid) for each in heard.of(ServerStarting))


@pytest.mark.anyio
async def test_without_a_server_that_is_ready_there_is_no_session(tmp_path):
    servers = {"one": entry("--exit-at-start", 3), "two": {"command": "no-such-command-xyz"}}
    heard = Heard()
    with pytest.raises(BaseExceptionGroup) as raised:
        async with calling.calling_servers(Guard(), config(tmp_path, servers), heard):
            pass
    [error] = raised.value.exceptions
    assert isinstance(error, ServerError)
    assert "it exited with code 3; it last wrote:\n    Traceback" in error.message
    assert "two: " in error.message and "no-such-command-xyz" in error.message
    assert "next try" not in error.message and "restarting" not in error.message
    assert heard.of(ServerDown) == []


@pytest.mark.anyio
async def test_a_server_whose_next_try_was_in_time_has_not_failed(tmp_path):
    flaky = entry("--fail-first", 1, "--diary", tmp_path / "diary", "--only", "echo")
    servers = {"flaky": flaky, "slow": entry("--start-delay", 1, "--only", "whoami")}
    chosen = config(tmp_path, servers)
    async with calling.calling_servers(Guard(), chosen, lambda _: None) as called:
        assert {tool["name"] for tool in await called.session.tools()} == {"echo", "whoami"}
        assert called.failed == {}


@pytest.mark.anyio
@pytest.mark.parametrize(("timeouts", "longest"), [((5, 600), 610), ((5,), 15)])
async def test_a_session_waits_longer_than_its_slowest_server_may_take(timeouts, longest, tmp_path):
    servers = {f"s{seconds}": {**entry(), "timeout": seconds} for seconds in timeouts}
    chosen = config(tmp_path, servers)
    async with calling.calling_servers(Guard(), chosen, lambda _: None) as called:
        assert called.session.answer_within == longest


@pytest.mark.anyio
async def test_the_limit_of_a_server_is_what_ends_a_call(tmp_path):
    servers = {"one": {**entry(), "timeout": 0.05}}
    async with calling.calling_servers(
        Guard(), config(tmp_path, servers), lambda _: None
    ) as called:
        with pytest.raises(CallError, match=r"\(-32000\)"):
            await called.session.call("silent", {})


@pytest.mark.anyio
async def test_a_server_that_dies_in_a_call_is_a_call_error(tmp_path):
    chosen = config(tmp_path, {"one": entry()})
    async with calling.calling_servers(Guard(), chosen, lambda _: None) as called:
        with pytest.raises(CallError, match="it exited with code 3"):
            await called.session.call("die", {"code": 3})


@pytest.mark.anyio
async def test_an_endpoint_that_cannot_be_called_is_a_call_error_without_its_token():
    async with broker() as endpoint:
        endpoint.refuse(404)
        with pytest.raises(CallError) as failed:
            async with calling.calling_endpoint(Endpoint(endpoint.url)):
                pass
    assert failed.value.message == (
        "there is no endpoint at this address (HTTP 404): "
        f"ws://127.0.0.1:{endpoint.port}/mcp/?token=***"
    )
    assert failed.value.hint
    with pytest.raises(UsageError, match="no side to call from"):
        async with calling.calling_endpoint(Endpoint("ws://h/other/?token=t")):
            pass


@pytest.mark.anyio
async def test_an_endpoint_that_goes_away_ends_the_call():
    async with broker() as endpoint:
        with pytest.raises((CallError, BaseExceptionGroup)) as failed, anyio.fail_after(WAIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_hang_up, endpoint)
                async with calling.calling_endpoint(Endpoint(endpoint.url)):
                    pass
    error = failed.value
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert str(error) == "no answer to initialize: the endpoint is going away (1001)"


async def _hang_up(endpoint: Any) -> None:
    peer = await endpoint.accept()
    with contextlib.suppress(TimeoutError):
        await peer.receive()
    await peer.close(1001)


@pytest.mark.anyio
async def test_a_connection_that_does_not_come_about_in_time_is_a_call_error():
    async with broker() as endpoint, wire(endpoint.url) as mute:
        mute.freeze(new=True)
        with pytest.raises(CallError) as failed, anyio.fail_after(WAIT):
            async with calling.calling_endpoint(Endpoint(mute.url), connect_within=0.05):
                pass
    assert failed.value.message.startswith("the endpoint did not answer in time (0.05 s): ws://")
    assert TOKEN not in failed.value.message


@pytest.mark.anyio
async def test_an_answer_that_does_not_come_in_time_is_a_call_error():
    async with broker() as endpoint:
        with pytest.RaisesGroup(pytest.RaisesExc(CallError, match=r"0\.05 s are over")):
            with anyio.fail_after(WAIT):
                async with calling.calling_endpoint(Endpoint(endpoint.url), answer_within=0.05):
                    pass
        await endpoint.all_gone()


@pytest.mark.anyio
async def test_a_token_that_is_refused_after_the_upgrade_has_its_remedy():
    async with broker() as endpoint:
        endpoint.hang_up(1008, "token解密失败")
        with pytest.RaisesGroup(CallError) as failed:
            async with calling.calling_endpoint(Endpoint(endpoint.url)):
                pass
    [error] = failed.value.exceptions
    assert error.message.endswith("the endpoint refuses this token (1008 token解密失败)")
    assert "%-encoded" in error.hint


@pytest.mark.anyio
async def test_either_side_of_an_endpoint_can_be_given_to_call_it(tmp_path):
    chosen = config(tmp_path, {"one": entry("--only", "echo")})
    async with anyio.create_task_group() as tasks:
        announced = Announced()
        tasks.start_soon(app.run_local, Guard(), chosen, lambda _: None, announced)
        await announced.bell.until(lambda: announced.addresses)
        [address] = announced.addresses
        for side in (address, address.call_side):
            async with calling.calling_endpoint(side) as session:
                assert [tool["name"] for tool in await session.tools()] == ["echo"]
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_caller_of_an_endpoint_without_a_server_is_told_what_is_missing(tmp_path):
    async with (
        app.local_endpoint(config(tmp_path, {"one": entry()}), lambda _: None) as endpoint,
        calling.calling_endpoint(endpoint) as session,
    ):
        with pytest.raises(CallError, match=r"^no MCP server is connected to this endpoint"):
            await session.tools()
        with pytest.raises(CallError, match=r"no MCP server is connected \(-32001\)"):
            await session.call("add", {})
