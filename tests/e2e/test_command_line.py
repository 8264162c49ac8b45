"""The ways to say what is to be run and where, tried as a user would."""

import json
from asyncio.subprocess import PIPE
from pathlib import Path

import anyio
import pytest

from tests.e2e.running import finished, gone, running
from tests.endpoints import broker
from tests.servers import entry, stub
from tests.servers.session import text

pytestmark = pytest.mark.anyio


def write_config(folder: Path, **xzpipe: object) -> None:
    servers = {"one": entry("--name", "one"), "two": entry("--name", "two")}
    config = {"mcpServers": servers, "xzpipe": xzpipe}
    (folder / "mcp_config.json").write_text(json.dumps(config))


async def test_without_an_endpoint_it_says_how_to_give_one(tmp_path: Path) -> None:
    write_config(tmp_path)
    for command in (["run"], ["run", "--", *stub()]):
        result = await finished(tmp_path, *command)
        assert result.code == 2 and result.stdout == ""
        assert "no endpoint is given" in result.stderr
        for way in ("MCP_ENDPOINT", "--endpoint-file", '"xzpipe"', "run --local"):
            assert way in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--endpoint", "http://"],
        ["run", "--endpoint-file", "no-such-file"],
        ["run", "--config", "no-such-config.json"],
        ["run", "--endpoint", "ws://h/", "no-such-server"],
        ["run", "--endpoint", "ws://h/", "--backoff-initial", "0"],
        ["run", "--endpoint", "ws://h/", "--"],
        ["run", "--no-such-option"],
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_starts(
    tmp_path: Path, arguments: list[str]
) -> None:
    diary = tmp_path / "diary"
    config = {"mcpServers": {"stub": entry("--diary", diary)}}
    (tmp_path / "mcp_config.json").write_text(json.dumps(config))
    result = await finished(tmp_path, *arguments)
    assert result.code == 2 and result.stderr and "Traceback" not in result.stderr
    assert not diary.exists()


@pytest.mark.parametrize("way", [".env", "file", "option", "config", "config and .env"])
async def test_the_endpoint_can_be_given_in_many_ways(tmp_path: Path, way: str) -> None:
    async with broker() as endpoint:
        url = endpoint.url_for(token=f"token-by-{way.replace(' ', '-')}")
        options: list[str] = []
        settings = {}
        match way:
            case ".env":
                (tmp_path / ".env").write_text(f"MCP_ENDPOINT='{url}'\n")
            case "file":
                (tmp_path / "endpoint").write_text(f"{url}\n")
                options = ["--endpoint-file", "endpoint"]
            case "option":
                options = ["--endpoint", url]
            case "config":
                settings = {"endpoint": url}
            case "config and .env":
                (tmp_path / ".env").write_text(f"ELSEWHERE={url}\n")
                settings = {"endpoint": "${ELSEWHERE}"}
        async with running(
            tmp_path, {"stub": entry()}, None, *options, settings=settings
        ) as xzpipe:
            peer = await endpoint.accept()
            assert peer.path == url.partition(str(endpoint.port))[2]
            assert "echo" in await peer.handshake()
            assert await xzpipe.stop() == 0


async def test_only_the_servers_that_are_named_are_started(tmp_path: Path) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two", "three")}
    async with (
        broker() as endpoint,
        running(tmp_path, servers, endpoint.url, "three", "one") as xzpipe,
    ):
        names = set()
        for _ in range(2):
            peer = await endpoint.accept()
            await peer.handshake()
            names.add(peer.initialized["serverInfo"]["name"])
        assert names == {"one", "three"}
        started = {each["server"] for each in await xzpipe.all("ServerStarting", 2)}
        assert started == {"one", "three"}


async def test_a_command_is_run_without_the_servers_of_the_config(tmp_path: Path) -> None:
    servers = {"other": entry("--diary", tmp_path / "diary")}
    command = ["--", *stub("--name", "of the command line")]
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *command) as xzpipe:
        peer = await endpoint.accept()
        await peer.handshake()
        assert text(await peer.call("whoami")) == "of the command line"
        assert [each["server"] for each in await xzpipe.all("ServerStarting", 1)] == ["stub"]
        assert not (tmp_path / "diary").exists()


async def test_a_local_endpoint_is_called_from_another_terminal(tmp_path: Path) -> None:
    servers = {name: entry("--name", name, "--only", f"whoami,{only}") for name, only in (
        ("one", "echo"), ("two", "die"),
    )}  # fmt: skip
    async with running(tmp_path, servers, None, "--local", stdout=PIPE) as xzpipe:
        assert xzpipe.process.stdout
        told = b""
        with anyio.fail_after(20):
            while b"xzpipe call" not in told:
                told += await xzpipe.process.stdout.readline()
        url = told.decode().partition("MCP_ENDPOINT='")[2].partition("'")[0]
        await xzpipe.event("LinkUp", 2)

        shown = await finished(tmp_path, "tools", "--endpoint", url, "--json")
        tools = [each["name"] for each in json.loads(shown.stdout)]
        assert shown.code == 0 and {"echo", "die"} < set(tools)
        shown = await finished(tmp_path, "tools", "--endpoint", url)
        assert shown.code == 0 and "The same text." in shown.stdout
        called = await finished(tmp_path, "call", "echo", "text=你好", "--endpoint", url)
        assert (called.code, called.stdout, called.stderr) == (0, "你好\n", "")

        died = await finished(tmp_path, "call", "die", "--endpoint", url)
        assert died.code == 1 and "went away before it answered" in died.stderr
        assert (await finished(tmp_path, "call", "echo", "--endpoint", url)).code == 0
        wrong = await finished(tmp_path, "call", "no_such_tool", "--endpoint", url)
        assert wrong.code == 1 and "there is no tool" in wrong.stderr

        left = xzpipe.descendants()
        assert await xzpipe.stop() == 0
        assert await gone(left) == []
        late = await finished(tmp_path, "tools", "--endpoint", url)
        assert late.code == 1 and "nothing listens" in late.stderr


async def test_tools_and_calls_of_a_config_need_no_endpoint(tmp_path: Path) -> None:
    command = ["--", *stub("--only", "echo,die,pids")]
    shown = await finished(tmp_path, "tools", "--json", *command)
    assert [each["name"] for each in json.loads(shown.stdout)] == ["echo", "die", "pids"]
    called = await finished(tmp_path, "call", "echo", '{"text": "a=b"}', *command)
    assert (called.code, called.stdout) == (0, "a=b\n")
    died = await finished(tmp_path, "call", "die", *command)
    assert died.code == 1 and "went away before it answered" in died.stderr
    failed = await finished(tmp_path, "tools", "--", *stub("--exit-at-start", 1))
    assert failed.code == 1 and failed.stdout == ""
    assert "ModuleNotFoundError" in failed.stderr and "next try" not in failed.stderr


async def test_the_demonstration_shows_a_call_all_the_way_there_and_back(tmp_path: Path) -> None:
    result = await finished(tmp_path, "demo")
    assert result.code == 0 and result.stderr == ""
    assert '"result": 425' in result.stdout.splitlines()[-1]
    assert "token=***" in result.stdout


async def test_help_and_version_are_there(tmp_path: Path) -> None:
    for command, words in ((["--version"], "xzpipe"), (["run", "--help"], "--endpoint-file")):
        result = await finished(tmp_path, *command)
        assert result.code == 0 and words in result.stdout and result.stderr == ""
