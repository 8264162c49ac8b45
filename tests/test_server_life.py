"""The lives of a real server, and the link side that does not notice them."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import anyio
import pytest

from tests.core.kit import seeing
from tests.servers import alive, ended, stub
from tests.servers.session import WAIT, Bell
from tests.servers.stub import TRACEBACK
from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.events import (
    Event,
    ServerDown,
    ServerReady,
    ServerRemoved,
    ServerStarting,
    ServerStopped,
    ServerWrote,
    TooLarge,
)
from xzpipe.core.hub import Hub
from xzpipe.core.launch import Launch
from xzpipe.guard import Guard
from xzpipe.server_life import keep_server

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)
MIB = 2**20


class Life:
    """One server that is kept alive behind a bridge, and a client that sees it."""

    def __init__(self, *flags: object, **limits: float) -> None:
        self.launch = Launch("stub", tuple(stub(*flags)), {"PATH": os.environ["PATH"]}, **limits)
        self.events: list[Event] = []
        self.bridge = Bridge(Hub(max_message_bytes=MIB), self.hear)
        self.guard = Guard()
        self.answers: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        self._bell = Bell()

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self._bell.ring()

    def put(self, text: bytes) -> bool:
        self.answers.append(json.loads(text))
        self._bell.ring()
        return True

    def of(self, kind: type[E]) -> list[E]:
        return [each for each in self.events if isinstance(each, kind)]

    async def event(self, kind: type[E], nth: int = 1) -> E:
        """The nth event of a kind, once it has happened."""
        await self._bell.until(lambda: len(self.of(kind)) >= nth)
        return self.of(kind)[nth - 1]

    def start_call(self, tool: str, id: int = 1, **arguments: object) -> None:
        params = {"name": tool, "arguments": arguments}
        call = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
        self.bridge.client_text("link", json.dumps(call).encode())

    async def call(self, tool: str, id: int = 1, **arguments: object) -> dict[str, Any]:
        self.start_call(tool, id, **arguments)
        return await self.answer(id)

    async def answer(self, id: int) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [each for each in self.answers if each.get("id") == id]

        await self._bell.until(found)
        return found()[0]


@contextlib.asynccontextmanager
async def living(
    *flags: object, waits: tuple[float, float] = (0.01, 0.04), at_once: bool = True, **limits: float
) -> AsyncIterator[Life]:
    life = Life(*flags, **limits)
    backoff = Backoff(*waits, 60.0, lambda: 0.0, at_once)
    life.bridge.client_joined("link", Peer(life.put, life.dropped.append), seeing("stub"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life.bridge.run)
        tasks.start_soon(keep_server, life.bridge, life.launch, backoff, life.guard, MIB)
        yield life
        tasks.cancel_scope.cancel()


async def test_a_server_starts_gets_ready_and_serves():
    async with living("--name", "calc", "--only", "echo") as life:
        ready = await life.event(ServerReady)
        assert (ready.server, ready.name, ready.version, ready.tools) == ("stub", "calc", "1.0", 1)
        answer = await life.call("echo", text="你好")
        assert answer["result"]["content"][0]["text"] == "你好"
        assert [type(each) for each in life.events[1:3]] == [ServerStarting, ServerReady]


async def test_cancelled_it_stops_its_server_and_says_how():
    async with living("--grandchild") as life:
        await life.event(ServerReady)
        pid = life.of(ServerStarting)[0].pid
        assert alive(pid)
    assert not alive(pid)
    stopped = ServerStopped("stub", "at the end of its input")
    assert life.events[-2:] == [stopped, ServerRemoved("stub")]
    assert life.of(ServerDown) == []
    assert not life.bridge.hub.ready(None)


async def test_cancelled_while_it_starts_it_leaves_nothing_behind():
    async with living("--start-delay", 30, "--grandchild") as life:
        pid = (await life.event(ServerStarting)).pid
    await ended(pid)
    assert life.events[-2:] == [ServerStopped("stub", "by SIGTERM"), ServerRemoved("stub")]


async def test_a_server_that_dies_is_started_again_and_its_clients_stay():
    async with living() as life:
        await life.event(ServerReady)
        answer = await life.call("die", id=1, code=7)
        assert answer["error"]["message"].endswith("it exited with code 7")
        await life.event(ServerReady, 2)
        assert (await life.call("echo", id=2, text="again"))["result"]
        first, second = (each.pid for each in life.of(ServerStarting))
        assert first != second
        assert life.dropped == []
        assert [each.reason for each in life.of(ServerDown)] == ["it exited with code 7"]


async def test_the_last_words_of_a_server_are_in_the_report_of_its_end():
    async with living("--exit-at-start", 3) as life:
        down = await life.event(ServerDown)
        assert down.reason == "it exited with code 3"
        assert down.stderr == tuple(line.rstrip() for line in TRACEBACK.splitlines())
        assert "ModuleNotFoundError: No module named 'fastmcp'" in str(down)
        assert [each.line for each in life.of(ServerWrote)][:4] == list(down.stderr)


async def test_a_server_that_fails_again_and_again_is_tried_less_and_less():
    async with living("--exit-at-start", 1) as life:
        await life.event(ServerDown, 5)
        assert [each.retry_in for each in life.of(ServerDown)[:5]] == [0.01, 0.02, 0.04, 0.04, 0.04]


async def test_a_server_that_fails_at_first_comes_up(tmp_path):
    async with living("--diary", tmp_path / "diary", "--fail-first", 2) as life:
        await life.event(ServerReady)
        assert len(life.of(ServerDown)) == 2


async def test_after_a_good_life_a_server_is_restarted_at_once():
    life = Life()
    backoff = Backoff(600.0, 600.0, 0.0, lambda: 0.0, at_once=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_server, life.bridge, life.launch, backoff, life.guard, MIB)
        pid = (await life.event(ServerStarting)).pid
        await life.event(ServerReady)
        os.kill(pid, 9)
        assert (await life.event(ServerDown)).retry_in == 0.0
        assert life.of(ServerDown)[0].reason == "it was killed by SIGKILL"
        await life.event(ServerReady, 2)
        tasks.cancel_scope.cancel()


async def test_a_server_that_cannot_be_started_is_reported_and_tried_again():
    life = Life()
    missing = Launch("stub", ("no-such-command-xyz",), {"PATH": "/bin"})
    backoff = Backoff(0.001, 0.001, 60.0, lambda: 0.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_server, life.bridge, missing, backoff, life.guard, MIB)
        assert (await life.event(ServerDown, 2)).reason == (
            "the command 'no-such-command-xyz' was not found. "
            "Install it, or give its full path as `command`"
        )
        tasks.cancel_scope.cancel()
    assert life.of(ServerStarting) == []
    assert life.of(ServerStopped) == []


@pytest.mark.parametrize(
    ("flags", "limit", "reason"),
    [
        (["--init-error", "no credentials"], 60.0, "error: no credentials"),
        (["--no-init-answer"], 0.2, "it did not answer initialize within 0.2 s"),
    ],
)
async def test_a_server_that_lives_but_cannot_be_used_is_ended_and_tried_again(
    flags, limit, reason
):
    async with living(*flags, start_timeout=limit) as life:
        assert (await life.event(ServerDown)).reason.endswith(reason)
        assert not alive(life.of(ServerStarting)[0].pid)
        await life.event(ServerStarting, 2)


async def test_a_call_that_is_made_while_a_server_starts_is_answered_once_it_is_ready():
    async with living("--start-delay", 0.1) as life:
        await life.event(ServerReady)
        life.start_call("die", id=1)
        await life.event(ServerStarting, 2)
        life.start_call("echo", id=2, text="early")
        assert len(life.of(ServerReady)) == 1
        assert (await life.answer(2))["result"]["content"][0]["text"] == "early"


async def test_a_call_has_the_time_limit_of_its_server():
    async with living(call_timeout=0.05) as life:
        await life.event(ServerReady)
        answer = await life.call("silent")
        assert answer["error"]["message"] == "MCP server 'stub' did not answer within 0.05 s"
        assert life.of(ServerDown) == []


async def test_a_line_over_the_limit_costs_one_call_and_nothing_else():
    async with living() as life:
        await life.event(ServerReady)
        answer = await life.call("size", id=1, bytes=2 * MIB)
        assert "over the limit" in answer["error"]["message"]
        assert (await life.call("echo", id=2, text="x"))["result"]
        assert life.of(TooLarge)


async def test_the_guard_is_told_of_every_start_and_end():
    class Told(Guard):
        def __init__(self) -> None:
            super().__init__()
            self.story: list[tuple[str, int]] = []

        def watch(self, child: Any) -> None:
            self.story.append(("+", child.pid))

        def forget(self, child: Any) -> None:
            assert not alive(child.pid)
            self.story.append(("-", child.pid))

    life, guard = Life(), Told()
    backoff = Backoff(0.001, 0.001, 60.0, lambda: 0.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_server, life.bridge, life.launch, backoff, guard, MIB)
        first = (await life.event(ServerStarting)).pid
        os.kill(first, 9)
        second = (await life.event(ServerStarting, 2)).pid
        tasks.cancel_scope.cancel()
    assert guard.story == [("+", first), ("-", first), ("+", second), ("-", second)]


async def test_twenty_servers_stop_together():
    lives = [Life() for _ in range(20)]
    async with anyio.create_task_group() as tasks:
        for life in lives:
            backoff = Backoff(1.0, 1.0, 60.0, lambda: 0.0)
            tasks.start_soon(keep_server, life.bridge, life.launch, backoff, life.guard, MIB)
        for life in lives:
            await life.event(ServerReady)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(WAIT):
            for life in lives:
                assert (await life.event(ServerStopped)).how == "at the end of its input"
    assert not any(alive(life.of(ServerStarting)[0].pid) for life in lives)
