"""Everything put together: signals and exit codes, the servers and links of a config, callers."""

import json
import os
import signal
import subprocess
import sys

import anyio
import pytest

from tests.configs import Announced, Heard, config
from tests.endpoints import TOKEN, broker
from tests.servers import ended, entry, stub
from tests.servers.session import WAIT
from xzpipe import app, calling
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import (
    ServerDown,
    ServerReady,
    ServerStarting,
)
from xzpipe.core.link_events import LinkUp
from xzpipe.core.shaping import Shape
from xzpipe.errors import CallError
from xzpipe.guard import Guard


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
        async with calling.calling_endpoint(address) as session:
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
        async with calling.calling_endpoint(announced.addresses[0]) as session:
            assert "echo" in {tool["name"] for tool in await session.tools()}
            with anyio.fail_after(WAIT):
                while len(await session.tools()) < 2:
                    pass
        tasks.cancel_scope.cancel()
    assert len(announced.addresses) == 1


def test_a_local_endpoint_waits_longer_than_its_slowest_server_may_take(tmp_path):
    """Else its own limit, and its own words, would end a call that a server has longer for."""
    servers = {"one": {**entry(), "timeout": 5}, "two": {**entry(), "timeout": 600}}
    assert app.local_serving(config(tmp_path, servers)).call_timeout == 610


# Calling
