"""Sessions of `tools` and `call`: how long they may take, and what is said when that is over."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import pytest

from tests.endpoints import TOKEN, Broker, Peer, broker, wire
from tests.servers import entry, stub
from tests.servers.session import WAIT
from xzpipe.cli.sessions import CALL_WITHIN, CONNECT_SHARE, LIST_WITHIN
from xzpipe.client import ANSWER_WITHIN, CONNECT_WITHIN
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.tools import MAX_PAGES

pytestmark = pytest.mark.anyio

HELLO = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}}
ECHO = {"name": "echo", "inputSchema": {"type": "object"}}
OVER = "error: the 1 s for the whole session are over: "
MORE = "hint: Allow more with --timeout\n"


async def xzpipe(*args: object, code: int, folder: Path | None = None) -> CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "xzpipe", *map(str, args)]
    with anyio.fail_after(30):
        done = await anyio.run_process(argv, check=False, cwd=folder)
    assert done.returncode == code, done
    return done


@contextlib.asynccontextmanager
async def answering(
    answers: Mapping[str, Any],
) -> AsyncIterator[tuple[Broker, list[dict[str, Any]]]]:
    """An endpoint that answers its first caller as told, by method, and else not at all; and all
    that this caller has sent."""

    async def serve() -> None:
        peer: Peer = await endpoint.accept(30)
        with contextlib.suppress(Exception):
            while True:
                asked = await peer.receive(30)
                heard.append(asked)
                if asked["method"] in answers:
                    outcome = answers[asked["method"]]
                    await peer.send({"jsonrpc": "2.0", "id": asked["id"], **outcome})

    heard: list[dict[str, Any]] = []
    async with broker() as endpoint, anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield endpoint, heard
        tasks.cancel_scope.cancel()


def test_the_limits_are_those_of_the_console_and_the_broker():
    """wire.md §2 and §3."""
    assert (LIST_WITHIN, LIST_WITHIN * CONNECT_SHARE, CONNECT_WITHIN) == (10, 8, 8)
    assert CALL_WITHIN == CALL_TIMEOUT + LIST_WITHIN == ANSWER_WITHIN


async def test_a_list_is_asked_for_as_the_console_does_it():
    listed = {"initialize": {"result": HELLO}, "tools/list": {"result": {"tools": [ECHO]}}}
    async with answering(listed) as (endpoint, heard):
        done = await xzpipe("tools", "--json", "--endpoint", endpoint.url, code=0)
        [attempt] = endpoint.attempts
        assert attempt.path == f"/call/?token={TOKEN}"
        asked = [(each["method"], each.get("id")) for each in heard]
    assert json.loads(done.stdout) == [ECHO]
    assert asked == [("initialize", 1), ("notifications/initialized", None), ("tools/list", 2)]


@pytest.mark.parametrize("command", [["tools"], ["call", "echo"]])
@pytest.mark.parametrize(
    ("answers", "late"),
    [
        ({}, "ws://127.0.0.1:{port}/mcp/?token=*** has not greeted us"),
        ({"initialize": {"result": HELLO}}, "tools/list is not answered"),
    ],
    ids=["initialize", "tools/list"],
)
async def test_a_silent_endpoint_is_not_waited_for_without_end(answers, late, command):
    async with answering(answers) as (endpoint, _):
        done = await xzpipe(*command, "--endpoint", endpoint.url, "--timeout", 1, code=1)
        late = late.format(port=endpoint.port)
    assert done.stderr.decode() == f"{OVER}{late}\n{MORE}"
    assert done.stdout == b""


async def test_a_connection_that_does_not_come_about_takes_a_share_of_the_time():
    async with broker() as endpoint, wire(endpoint.url) as mute:
        mute.freeze(new=True)
        done = await xzpipe("tools", "--endpoint", mute.url, "--timeout", 0.5, code=1)
    said = done.stderr.decode()
    assert said.startswith("error: the endpoint did not answer in time (0.4 s): ws://127.0.0.1:")
    assert TOKEN not in said


async def test_pages_without_end_are_not_read_without_end():
    page = {"result": {"tools": [], "nextCursor": "again"}}
    async with answering({"initialize": {"result": HELLO}, "tools/list": page}) as (
        endpoint,
        heard,
    ):
        done = await xzpipe("tools", "--endpoint", endpoint.url, "--timeout", 20, code=1)
        assert sum(each["method"] == "tools/list" for each in heard) == MAX_PAGES
    assert b"no MCP server is connected to this endpoint, or none that has a tool" in done.stderr


async def test_a_call_has_the_time_that_is_given(tmp_path):
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": {"one": entry()}}))
    done = await xzpipe("call", "silent", "--timeout", 1, code=1, folder=tmp_path)
    assert done.stderr.decode().endswith(f"{OVER}tools/call is not answered\n{MORE}")
    done = await xzpipe("call", "sleep", "seconds=0.5", "--timeout", 20, "--", *stub(), code=0)
    assert done.stdout == b"slept\n"


async def test_the_time_that_a_server_takes_to_end_does_not_count():
    """This one has to be killed, which takes four seconds."""
    stubborn = stub("--ignore-eof", "--ignore-sigterm")
    done = await xzpipe("call", "echo", "text=hi", "--timeout", 3, "--", *stubborn, code=0)
    assert (done.stdout, done.stderr) == (b"hi\n", b"")


async def test_servers_that_are_not_ready_in_time_are_named(tmp_path):
    slow = entry("--start-delay", 60)
    servers = {"quick": entry("--only", "echo"), "slow": slow, "slower": slow}
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    done = await xzpipe("tools", "--timeout", 1, code=1, folder=tmp_path)
    assert done.stdout == b""
    assert done.stderr.decode().endswith(f"{OVER}not ready: slow, slower\n{MORE}")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "86401", "soon"])
async def test_a_limit_that_is_none_is_refused(seconds):
    with anyio.fail_after(WAIT):
        done = await xzpipe("tools", "--timeout", seconds, code=2)
    assert b"--timeout" in done.stderr


@pytest.mark.parametrize("command", [["tools"], ["tools", "--json"], ["call", "echo"]])
@pytest.mark.parametrize("words", ["工具端未连接", "agent 7: no MCP server is connected"])
async def test_an_endpoint_without_a_server_says_how_to_connect_one(words, command):
    absent = {"error": {"code": -32001, "message": words}, "result": None}
    async with answering({"initialize": absent}) as (endpoint, _):
        done = await xzpipe(*command, "--endpoint", endpoint.url, code=1)
    assert done.stdout == b""
    assert done.stderr.decode() == (
        "error: no MCP server is connected to this endpoint\n"
        "hint: Connect one, at the address with /mcp/: "
        "MCP_ENDPOINT='…' xzpipe run -- COMMAND ARG…\n"
    )
