"""Everything put together: signals and exit codes, the servers and links of a config, callers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.core.kit import seeing
from tests.endpoints import TOKEN, broker, wire
from tests.servers import alive, ended, entry, stub
from tests.servers.session import WAIT, Bell
from xzpipe import app
from xzpipe.config.load import Config, load
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import (
    Event,
    NameChanged,
    ServerDown,
    ServerReady,
    ServerStarting,
    ServerStopped,
)
from xzpipe.core.link_events import LinkUp
from xzpipe.core.shaping import Shape
from xzpipe.errors import CallError, ServerError, UsageError
from xzpipe.guard import Guard

ENV = {"PATH": os.environ["PATH"]}
DIRECT = {"proxy": "none", "backoff": {"initial": 0.01, "maximum": 0.05}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def config(folder: Path, servers: Mapping[str, Any], **settings: Any) -> Config:
    path = folder / "mcp_config.json"
    path.write_text(json.dumps({"mcpServers": servers, "xzpipe": {**DIRECT, **settings}}))
    return load(path, ENV, folder)


class Heard:
    """Every event; `of` those of a kind, `event` to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._bell = Bell()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._bell.ring()

    def of(self, kind: type[Event]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]

    async def event(self, kind: type[Event], nth: int = 1) -> Any:
        await self._bell.until(lambda: len(self.of(kind)) >= nth)
        return self.of(kind)[nth - 1]


# Signals


def test_the_exit_code_is_the_bodys():
    async def body(_: Guard) -> int:
        return 7

    assert app.main(body) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_its_exit_code(number, code):
    async def body(_: Guard) -> int:
        os.kill(os.getpid(), number)
        await anyio.sleep_forever()
        return 7

    assert app.main(body) == code


def test_a_body_is_let_finish_what_it_shields():
    finished = False

    async def body(_: Guard) -> int:
        nonlocal finished
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
                finished = True
        return 7

    assert app.main(body) == 0
    assert finished


def test_an_error_of_the_body_comes_through_whatever_group_it_is_in():
    async def body(_: Guard) -> int:
        raise CallError("it failed")

    with pytest.raises(BaseExceptionGroup) as raised:
        app.main(body)
    assert raised.group_contains(CallError, match="it failed")


TWICE = """
import json, os, signal, sys
import anyio
from xzpipe import app
from xzpipe.core.launch import Launch
from xzpipe.process import spawn

async def body(guard):
    heard = anyio.Event()
    launch = Launch("s", tuple(json.loads(sys.argv[1])), {})
    child = await spawn(launch, lambda _: heard.set(), lambda _: None, lambda _: None, 2**20)
    guard.watch(child)
    child.write(b'{"id":1,"method":"ping"}')
    await heard.wait()
    print(child.pid, flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

sys.exit(app.main(body))
"""


def test_a_second_signal_kills_the_servers_at_once():
    argv = json.dumps(stub("--ignore-eof", "--ignore-sigterm"))
    process = subprocess.Popen(
        [sys.executable, "-c", TWICE, argv], stdout=subprocess.PIPE, text=True
    )
    with process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
    anyio.run(ended, pid)


# Servers and links of a config


@pytest.mark.anyio
async def test_servers_are_kept_alive_until_the_block_ends(tmp_path):
    heard = Heard()
    servers = {"one": entry(), "two": entry()}
    async with app.serving(Guard(), config(tmp_path, servers), heard) as (bridge, _):
        await heard.event(ServerReady, 2)
        assert bridge.hub.ready(seeing("one"))
        assert bridge.hub.ready(seeing("two"))
        pids = [each.pid for each in heard.of(ServerStarting)]
    assert not any(map(alive, pids))
    assert {each.server for each in heard.of(ServerStopped)} == {"one", "two"}


@pytest.mark.anyio
async def test_each_server_has_a_link_of_its_own(tmp_path):
    heard = Heard()
    servers = {"one": entry("--only", "echo"), "two": entry("--only", "whoami")}
    async with broker() as endpoint, anyio.create_task_group() as tasks:
        chosen = config(tmp_path, servers, endpoint=endpoint.url)
        tasks.start_soon(app.run, Guard(), chosen, heard)
        peers = [await endpoint.accept(), await endpoint.accept()]
        offers = sorted([list(await peer.handshake()) for peer in peers])
        assert offers == [["echo"], ["whoami"]]
        assert {peer.path for peer in peers} == {f"/mcp/?token={TOKEN}"}
        tasks.cancel_scope.cancel()
    assert {each.link for each in heard.of(LinkUp)} == {"one", "two"}


@pytest.mark.anyio
async def test_an_endpoint_may_see_several_servers_over_one_link_and_others_by_their_own(tmp_path):
    heard = Heard()
    servers = {name: entry("--only", "echo", "--name", name) for name in ("one", "two", "unseen")}
    async with broker() as endpoint, anyio.create_task_group() as tasks:
        endpoints = {
            "home": {"url": endpoint.url_for("at-home-token"), "mode": "aggregate"},
            "work": {"url": endpoint.url_for("at-work-token"), "mode": "separate"},
        }
        for each in endpoints.values():
            each["servers"] = ["one", "two"]
        chosen = config(tmp_path, servers, endpoints=endpoints)
        tasks.start_soon(app.run, Guard(), chosen, heard)
        peers = [await endpoint.accept() for _ in range(3)]
        offers = sorted(
            [(peer.path.partition("=")[2], sorted(await peer.handshake())) for peer in peers]
        )
        assert offers == [
            ("at-home-token", ["one__echo", "two__echo"]),
            ("at-work-token", ["echo"]),
            ("at-work-token", ["echo"]),
        ]
        tasks.cancel_scope.cancel()
    assert {each.link for each in heard.of(LinkUp)} == {"home", "one@work", "two@work"}
    assert {each.server for each in heard.of(ServerStarting)} == {"one", "two"}


@pytest.mark.anyio
async def test_what_each_endpoint_sees_is_known_without_it(tmp_path):
    heard = Heard()
    policy = {"rename": {"echo": "say"}}
    servers = {name: {**entry("--only", "echo"), "tools": policy} for name in "ab"}
    endpoints = {"home": {"mode": "aggregate"}, "work": {"servers": ["a"]}}
    chosen = config(tmp_path, servers, endpoints=endpoints)
    async with app.calling_servers(Guard(), chosen, heard) as calling:
        shown = {
            name: [(each.name, each.server, each.tool) for each in tools]
            for name, tools in calling.seen.items()
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
@pytest.mark.parametrize(("mode", "links"), [("auto", ["a", "b"]), ("aggregate", ["endpoint"])])
async def test_an_endpoint_of_our_own_is_linked_as_another_would_be(mode, links, tmp_path):
    servers = {"a": entry(), "b": entry()}
    policy = {"deny": ["silent"]}
    chosen = config(tmp_path, servers, mode=mode, tools=policy, resultLimit=512)
    [plan] = app.linked_to(Endpoint("ws://host/mcp/?token=t"), chosen).plans
    assert [view.name for view in plan.views()] == links
    assert (plan.view.policy.deny, plan.view.shape) == (("silent",), Shape())


@pytest.mark.anyio
async def test_a_server_that_never_starts_costs_the_others_nothing(tmp_path):
    heard = Heard()
    servers = {"bad": entry("--exit-at-start", 1), "good": entry("--only", "echo")}
    async with broker() as endpoint, anyio.create_task_group() as tasks:
        chosen = config(tmp_path, servers, endpoint=endpoint.url)
        tasks.start_soon(app.run, Guard(), chosen, heard)
        assert list(await (await endpoint.accept()).handshake()) == ["echo"]
        await heard.event(ServerDown, 2)
        assert len(endpoint.attempts) == 1
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_local_endpoint_offers_all_servers_under_their_names(tmp_path):
    heard = Heard()
    servers = {"one": entry("--only", "echo"), "two": entry("--only", "whoami", "--name", "2nd")}
    chosen = config(tmp_path, servers)
    async with app.local_endpoint(chosen, heard) as address, anyio.create_task_group() as tasks:
        tasks.start_soon(app.run, Guard(), app.linked_to(address, chosen), lambda _: None)
        await heard.event(ServerReady, 2)
        async with app.calling_endpoint(address) as session:
            tools = {tool["name"]: tool["server_id"] for tool in await session.tools()}
            assert tools == {"echo": "one", "whoami": "two"}
            answer = await session.call("whoami", {})
            assert answer["content"][0]["text"] == "2nd"
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_local_endpoint_is_announced_once_when_there_is_something_to_call(tmp_path):
    servers = {
        "bad": entry("--exit-at-start", 1),
        "one": entry("--only", "echo"),
        "two": entry("--only", "whoami", "--start-delay", 0.2),
    }
    heard, announced = Heard(), Announced()
    async with anyio.create_task_group() as tasks:
        chosen = config(tmp_path, servers)
        tasks.start_soon(app.run_local, Guard(), chosen, heard, announced)
        await announced.bell.until(lambda: announced.addresses)
        assert heard.of(ServerReady)
        async with app.calling_endpoint(announced.addresses[0]) as session:
            assert "echo" in {tool["name"] for tool in await session.tools()}
            with anyio.fail_after(WAIT):
                while len(await session.tools()) < 2:
                    pass
        tasks.cancel_scope.cancel()
    assert len(announced.addresses) == 1


class Announced:
    """The addresses that were announced."""

    def __init__(self) -> None:
        self.addresses: list[Endpoint] = []
        self.bell = Bell()

    def __call__(self, address: Endpoint) -> None:
        self.addresses.append(address)
        self.bell.ring()


def test_a_local_endpoint_waits_longer_than_its_slowest_server_may_take(tmp_path):
    """Else its own limit, and its own words, would end a call that a server has longer for."""
    servers = {"one": {**entry(), "timeout": 5}, "two": {**entry(), "timeout": 600}}
    assert app.local_serving(config(tmp_path, servers)).call_timeout == 610


# Calling


@pytest.mark.anyio
async def test_a_session_with_a_config_begins_when_every_server_is_ready_or_has_failed(tmp_path):
    servers = {
        "slow": entry("--start-delay", 0.2, "--only", "echo"),
        "bad": entry("--exit-at-start", 1),
    }
    heard = Heard()
    async with app.calling_servers(Guard(), config(tmp_path, servers), heard) as calling:
        session, failed = calling.session, calling.failed
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
        async with app.calling_servers(Guard(), config(tmp_path, servers), heard):
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
    async with app.calling_servers(Guard(), chosen, lambda _: None) as calling:
        assert {tool["name"] for tool in await calling.session.tools()} == {"echo", "whoami"}
        assert calling.failed == {}


@pytest.mark.anyio
@pytest.mark.parametrize(("timeouts", "longest"), [((5, 600), 610), ((5,), 15)])
async def test_a_session_waits_longer_than_its_slowest_server_may_take(timeouts, longest, tmp_path):
    servers = {f"s{seconds}": {**entry(), "timeout": seconds} for seconds in timeouts}
    chosen = config(tmp_path, servers)
    async with app.calling_servers(Guard(), chosen, lambda _: None) as calling:
        assert calling.session.answer_within == longest


@pytest.mark.anyio
async def test_the_limit_of_a_server_is_what_ends_a_call(tmp_path):
    servers = {"one": {**entry(), "timeout": 0.05}}
    async with app.calling_servers(Guard(), config(tmp_path, servers), lambda _: None) as calling:
        with pytest.raises(CallError, match=r"\(-32000\)"):
            await calling.session.call("silent", {})


@pytest.mark.anyio
async def test_a_server_that_dies_in_a_call_is_a_call_error(tmp_path):
    chosen = config(tmp_path, {"one": entry()})
    async with app.calling_servers(Guard(), chosen, lambda _: None) as calling:
        with pytest.raises(CallError, match="it exited with code 3"):
            await calling.session.call("die", {"code": 3})


@pytest.mark.anyio
async def test_an_endpoint_that_cannot_be_called_is_a_call_error_without_its_token():
    async with broker() as endpoint:
        endpoint.refuse(404)
        with pytest.raises(CallError) as failed:
            async with app.calling_endpoint(Endpoint(endpoint.url)):
                pass
    assert failed.value.message == (
        "there is no endpoint at this address (HTTP 404): "
        f"ws://127.0.0.1:{endpoint.port}/mcp/?token=***"
    )
    assert failed.value.hint
    with pytest.raises(UsageError, match="no side to call from"):
        async with app.calling_endpoint(Endpoint("ws://h/other/?token=t")):
            pass


@pytest.mark.anyio
async def test_an_endpoint_that_goes_away_ends_the_call():
    async with broker() as endpoint:
        with pytest.raises((CallError, BaseExceptionGroup)) as failed, anyio.fail_after(WAIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_hang_up, endpoint)
                async with app.calling_endpoint(Endpoint(endpoint.url)):
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
            async with app.calling_endpoint(Endpoint(mute.url), connect_within=0.05):
                pass
    assert failed.value.message.startswith("the endpoint did not answer in time (0.05 s): ws://")
    assert TOKEN not in failed.value.message


@pytest.mark.anyio
async def test_an_answer_that_does_not_come_in_time_is_a_call_error():
    async with broker() as endpoint:
        with pytest.RaisesGroup(pytest.RaisesExc(CallError, match=r"0\.05 s are over")):
            with anyio.fail_after(WAIT):
                async with app.calling_endpoint(Endpoint(endpoint.url), answer_within=0.05):
                    pass
        await endpoint.all_gone()


@pytest.mark.anyio
async def test_a_token_that_is_refused_after_the_upgrade_has_its_remedy():
    async with broker() as endpoint:
        endpoint.hang_up(1008, "token解密失败")
        with pytest.RaisesGroup(CallError) as failed:
            async with app.calling_endpoint(Endpoint(endpoint.url)):
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
            async with app.calling_endpoint(side) as session:
                assert [tool["name"] for tool in await session.tools()] == ["echo"]
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_caller_of_an_endpoint_without_a_server_is_told_what_is_missing(tmp_path):
    async with (
        app.local_endpoint(config(tmp_path, {"one": entry()}), lambda _: None) as endpoint,
        app.calling_endpoint(endpoint) as session,
    ):
        with pytest.raises(CallError, match=r"^no MCP server is connected to this endpoint"):
            await session.tools()
        with pytest.raises(CallError, match=r"no MCP server is connected \(-32001\)"):
            await session.call("add", {})
