"""What servers do to themselves, and what callers notice of it."""

import itertools
import os
import shlex
from pathlib import Path

import psutil
import pytest

from tests.e2e.running import EITHER_LOOP, backoff, running
from tests.endpoints import Peer, broker
from tests.servers import alive, ended, entry, stub
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

NEVER = backoff(initial=300, longest=300)  # what comes back meanwhile did not wait for a restart
GOOD = backoff(reset=0.001)  # every life that becomes ready is a good one


def refusal(answer: dict) -> str:
    """The words of a JSON-RPC error."""
    assert "error" in answer, answer
    return answer["error"]["message"]


async def pid_of(peer: Peer) -> int:
    return value(await peer.call("pids"))["pid"]


def doubling(waits: list[float], initial: float, longest: float) -> bool:
    """Whether these are the waits of a backoff, of which jitter takes up to a fifth."""
    bases = (min(initial * 2**n, longest) for n in itertools.count())
    return all(0.8 * base <= wait <= base for base, wait in zip(bases, waits, strict=False))


@EITHER_LOOP
async def test_a_server_that_dies_in_a_call_costs_every_caller_an_answer_but_not_the_link(
    tmp_path: Path, python: tuple[str, ...]
) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": entry()}, endpoint.url, *NEVER, python=python) as xzpipe,
    ):
        peer = await endpoint.accept()
        tools = await peer.handshake()
        waiting = [await peer.start_call("hold", id=id) for id in (*range(10, 20), "11", 1.5)]
        died = await peer.call("die", {"code": 7})
        for answer in [died, *[await peer.answer(id) for id in waiting]]:
            assert "MCP server 'stub' went away before it answered" in refusal(answer)
        down = await xzpipe.event("ServerDown")
        assert "code 7" in down["reason"] and 200 < down["retry_in"] <= 300

        # it is not back, and everything is answered all the same
        assert "stub is restarting" in refusal(await peer.call("echo", {"text": "?"}))
        assert "stub is restarting" in refusal(await peer.request("prompts/list"))
        assert await peer.handshake() == tools
        await peer.ping()
        assert peer.initialized["serverInfo"]["name"] == "stub"
        assert len(endpoint.attempts) == 1 and not xzpipe.found("LinkDown")


async def test_a_server_that_dies_while_idle_is_back_at_once_on_the_same_link(
    tmp_path: Path,
) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": entry()}, endpoint.url, *GOOD) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        for n in range(1, 6):
            before = await pid_of(peer)
            psutil.Process(before).kill()
            down = await xzpipe.event("ServerDown", n)
            assert "SIGKILL" in down["reason"] and down["retry_in"] == 0
            await xzpipe.event("ServerReady", n + 1)
            assert await pid_of(peer) != before
        assert len(endpoint.attempts) == 1 and not xzpipe.found("LinkDown")


@EITHER_LOOP
async def test_what_a_server_leaves_behind_does_not_outlive_it(
    tmp_path: Path, python: tuple[str, ...]
) -> None:
    servers = {"stub": entry("--grandchild")}
    async with (
        broker() as endpoint,
        running(tmp_path, servers, endpoint.url, *GOOD, python=python) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        grandchild = value(await peer.call("pids"))["grandchild"]
        assert alive(grandchild)
        await peer.call("die")  # the grandchild holds its pipes, and is no reason to wait
        await xzpipe.event("ServerReady", 2)
        await ended(grandchild)
        assert value(await peer.call("pids"))["grandchild"] != grandchild


NOT_READY = {  # flags, and what the report of it says
    "exits": (("--exit-at-start", 3), "it exited with code 3"),
    "dies": (("--die-on", "initialize"), "it exited with code 1"),
    "refuses": (("--init-error", "No AWS credentials"), "it answered initialize with an error: No"),
    "says nothing": (("--no-init-answer",), "it did not answer initialize within 0.2 s"),
    "has no list": (("--die-on", "tools/list"), "it exited with code 1"),
}


async def test_a_server_that_does_not_become_ready_is_tried_again_ever_more_slowly(
    tmp_path: Path,
) -> None:
    servers = {
        name: entry("--diary", tmp_path / name, *flags) for name, (flags, _) in NOT_READY.items()
    }
    # the others have time: this machine may be slow
    servers["says nothing"]["startTimeout"] = 0.2
    # reset 0.001: however short, only a life that became ready starts the waits over
    quick = backoff(initial=0.05, longest=0.2, reset=0.001)
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *quick) as xzpipe:
        for name, (_, reason) in NOT_READY.items():
            downs = [await xzpipe.event("ServerDown", n, server=name) for n in range(1, 5)]
            assert doubling([each["retry_in"] for each in downs], 0.05, 0.2)
            for down in downs:
                assert reason in down["reason"]
                again = f"{name}: {down['reason']}; next try in {down['retry_in']:.1f} s"
                assert down["message"].startswith(again)
        last_words = "ModuleNotFoundError: No module named 'fastmcp'"
        for down in xzpipe.found("ServerDown"):
            assert down["stderr"][-1:] == ([last_words] if down["server"] == "exits" else [])
            assert (last_words in down["message"]) is (down["server"] == "exits")
        assert endpoint.attempts == [] and not xzpipe.found("ServerReady")


async def test_a_failed_start_is_over_before_the_next_however_stubborn_the_process(
    tmp_path: Path,
) -> None:
    diary = tmp_path / "diary"
    flags = ("--ignore-eof", "--ignore-sigterm", "--grandchild", "--init-error", "not today")
    servers = {"bad": entry("--diary", diary, *flags)}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *GOOD) as xzpipe:
        first = await xzpipe.event("ServerStarting")
        await xzpipe.event("ServerStarting", 2)
        lines = diary.read_text().split("\n")
        assert lines[0] == f"server {first['pid']}" and lines[1].startswith("grandchild ")
        assert not any(alive(int(line.split()[1])) for line in lines[:2])


async def test_a_server_whose_command_is_missing_is_started_once_it_is_there(
    tmp_path: Path,
) -> None:
    servers = {"late": {"command": "./late", "cwd": "."}, "none": {"command": "no-such-command"}}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *GOOD) as xzpipe:
        for name in servers:
            down = await xzpipe.event("ServerDown", 2, server=name)
            command = servers[name]["command"]
            assert f"the command '{command}' was not found. Install it" in down["reason"]
            assert down["stderr"] == []
        assert endpoint.attempts == []
        script = tmp_path / "late.tmp"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(stub())}\n")
        script.chmod(0o755)
        os.rename(script, tmp_path / "late")
        assert "echo" in await (await endpoint.accept()).handshake()


async def test_a_command_that_cannot_be_executed_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    servers = {"bad": {"command": str(program)}}
    async with running(tmp_path, servers, "ws://127.0.0.1:1/", *GOOD) as xzpipe:
        down = await xzpipe.event("ServerDown", 2)
        assert "could not be started" in down["reason"]


async def test_the_link_is_not_dialled_before_a_slow_server_is_ready(tmp_path: Path) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"slow": entry("--start-delay", 3)}, endpoint.url) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake(timeout=2)  # less than its start took, as 10 s are less than 15 s
        assert (await xzpipe.event("ServerReady"))["seconds"] >= 3
        names = [each["event"] for each in xzpipe.events]
        assert names.index("LinkWaiting") < names.index("ServerReady")
        assert len(endpoint.attempts) == 1


async def test_a_server_is_initialized_once_however_often_the_endpoint_does_it(
    tmp_path: Path,
) -> None:
    servers = {"once": entry("--refuse-second-initialize")}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *GOOD) as xzpipe:
        for _ in range(3):
            peer = await endpoint.accept()
            await peer.handshake()
            await peer.handshake()
            received = value(await peer.call("received"))
            assert received.count("initialize") == 1
            assert received.count("notifications/initialized") == 1
            await peer.close()
        assert not xzpipe.found("ServerDown")


async def test_a_server_that_crashes_again_and_again_is_started_ever_more_slowly(
    tmp_path: Path,
) -> None:
    slower = backoff(initial=0.05, longest=0.4, reset=60)
    servers = {"stub": entry()}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *slower) as xzpipe:
        peer = await endpoint.accept()
        await peer.handshake()
        for n in range(1, 6):
            await xzpipe.event("ServerReady", n)
            await peer.call("die")
        downs = await xzpipe.all("ServerDown", 5)
        assert doubling([each["retry_in"] for each in downs], 0.05, 0.4)
        assert len(endpoint.attempts) == 1 and not xzpipe.found("LinkDown")


async def test_a_good_life_ends_the_waits_of_the_failed_ones_before_it(tmp_path: Path) -> None:
    quick = backoff(initial=0.05, longest=10, reset=0.001)
    servers = {"stub": entry("--diary", tmp_path / "diary", "--fail-first", 3)}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *quick) as xzpipe:
        peer = await endpoint.accept()
        downs = await xzpipe.all("ServerDown", 3)
        assert len(downs) == 3
        assert doubling([each["retry_in"] for each in downs], 0.05, 10)
        await peer.handshake()
        await peer.call("die")
        assert (await xzpipe.event("ServerDown", 4))["retry_in"] == 0


def second_life(tmp_path: Path, *flags: object) -> dict:
    """A server that is started with these flags from its second life on."""
    first, later = shlex.join(stub()), shlex.join(stub(*flags))
    script = f"if mkdir '{tmp_path / 'lived'}'; then exec {first}; else exec {later}; fi"
    return {"command": "/bin/sh", "args": ["-c", script]}


async def test_while_a_server_starts_again_calls_wait_for_it_and_all_else_is_answered(
    tmp_path: Path,
) -> None:
    servers = {"stub": second_life(tmp_path, "--start-delay", 1.5)}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *GOOD) as xzpipe:
        peer = await endpoint.accept()
        tools, greeting = await peer.handshake(), peer.initialized
        assert greeting["serverInfo"]["name"] == "stub"
        await peer.call("die")
        await xzpipe.event("ServerStarting", 2)
        waiting = await peer.start_call("echo", {"text": "patience"})
        assert await peer.handshake() == tools and peer.initialized == greeting
        await peer.ping()
        assert len(xzpipe.found("ServerReady")) == 1
        assert text(await peer.answer(waiting)) == "patience"
        assert not xzpipe.found("LinkDown")


async def test_a_server_that_comes_back_with_other_tools_is_shown_by_a_new_connection(
    tmp_path: Path,
) -> None:
    servers = {"stub": second_life(tmp_path, "--tools", 1)}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *GOOD) as xzpipe:
        peer = await endpoint.accept()
        assert "extra_0" not in await peer.handshake()
        await peer.call("die")
        told = await peer.receive()
        assert told["method"] == "notifications/tools/list_changed"
        again = await endpoint.accept()
        assert "extra_0" in await again.handshake()
        assert text(await again.call("extra_0")) == "stub:extra_0"
        await xzpipe.event("LinkRenewed")
        assert (await peer.closed())[0] == 1001
        assert len(endpoint.attempts) == 2


async def test_several_thousand_lines_of_last_words_are_reported_by_their_end(
    tmp_path: Path,
) -> None:
    script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i >&2; done; exit 1"
    servers = {"wordy": {"command": "/bin/sh", "args": ["-c", script]}}
    async with running(tmp_path, servers, "ws://127.0.0.1:1/", *NEVER) as xzpipe:
        lines = (await xzpipe.event("ServerDown"))["stderr"]
        assert lines[-1] == "line 5000" and len(lines) < 100
