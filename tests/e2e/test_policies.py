"""Which tools an endpoint sees, under which names, and what is said of them."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Xzpipe, backoff, finished, running
from tests.endpoints import Broker, Peer, broker
from tests.servers import entry
from tests.servers.session import text

pytestmark = pytest.mark.anyio

CLEAN = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
UNCLEAN = ("weather.get", "计算", "n" * 80, "two words", "时间")
UNKNOWN = -32602


@asynccontextmanager
async def together(
    folder: Path, servers: dict[str, Any], *options: str, **settings: Any
) -> AsyncIterator[tuple[Broker, Xzpipe, Peer]]:
    """All servers behind one link, whose handshake is done once all are ready."""
    settings = {"mode": "aggregate", **settings}
    async with (
        broker() as endpoint,
        running(folder, servers, endpoint.url, *options, settings=settings) as xzpipe,
    ):
        await xzpipe.event("ServerReady", len(servers))
        peer = await endpoint.accept()
        await peer.handshake()
        yield endpoint, xzpipe, peer


def stub(*tools: str, name: str = "stub", **policy: Any) -> dict[str, Any]:
    """A server that lists these tools of its own, under this policy."""
    return entry("--name", name, "--only", ",".join(tools)) | ({"tools": policy} if policy else {})


async def refused(peer: Peer, *names: str) -> None:
    for name in names:
        answer = await peer.call(name, {"text": "it answers"})
        assert answer.get("error", {}).get("code") == UNKNOWN, answer


@pytest.mark.parametrize("several", [False, True], ids=["alone", "among others"])
async def test_a_denied_tool_is_neither_listed_nor_called_by_any_spelling(
    tmp_path: Path, several: bool
) -> None:
    servers = {"one": stub("echo", "size", "whoami", "env", allow=["e*", "size"], deny=["env"])}
    servers |= {"two": stub("cwd", name="two")} if several else {}
    async with together(tmp_path, servers) as (_, _, peer):
        assert peer.tools.keys() - {"cwd"} == {"echo", "size"}
        assert text(await peer.call("echo", {"text": "heard"})) == "heard"
        for name in ("env", "whoami", "received"):  # the last is not listed by the server itself
            spelt = (name, name.upper(), f" {name}", f"{name}\x00", f"one__{name}", f"one.{name}")
            await refused(peer, *spelt)
        listed = await peer.request("tools/list", {"withUserTools": True})
        assert {tool["name"] for tool in listed["result"]["tools"]} == peer.tools.keys()


async def test_a_tool_has_another_name_and_description_and_its_own_name_is_free(
    tmp_path: Path,
) -> None:
    policy = {"rename": {"echo": "say"}, "describe": {"echo": "Says it again: 再说一遍。"}}
    servers = {"one": stub("echo", "size", **policy), "two": stub("whoami", name="two")}
    async with together(tmp_path, servers) as (_, _, peer):
        assert peer.tools.keys() == {"say", "size", "whoami"}
        assert peer.tools["say"]["description"] == "Says it again: 再说一遍。"
        assert peer.tools["say"]["inputSchema"]["properties"] == {"text": {"type": "string"}}
        assert peer.tools["size"]["description"] == "A text of that many x."
        assert text(await peer.call("say", {"text": "你好"})) == "你好"
        await refused(peer, "echo")


async def test_the_policy_of_the_endpoint_comes_after_that_of_the_server(tmp_path: Path) -> None:
    servers = {"one": stub("echo", "size", "env", rename={"echo": "say"}, deny=["env"])}
    tools = {"allow": ["s*"], "deny": ["size"], "rename": {"say": "speak"}}
    async with together(tmp_path, servers, tools=tools) as (_, _, peer):
        assert peer.tools.keys() == {"speak"}
        assert text(await peer.call("speak", {"text": "here"})) == "here"
        await refused(peer, "echo", "say", "size", "env")


async def test_two_endpoints_see_the_same_server_under_policies_of_their_own(
    tmp_path: Path,
) -> None:
    async with broker() as home, broker() as office:
        endpoints = {
            "home": {"url": home.url, "tools": {"deny": ["size"]}},
            "office": {"url": office.url, "tools": {"allow": ["size"], "rename": {"size": "big"}}},
        }
        settings = {"endpoints": endpoints}
        servers = {"one": stub("echo", "size")}
        async with running(tmp_path, servers, None, settings=settings):
            ours, theirs = await home.accept(), await office.accept()
            assert (await ours.handshake()).keys() == {"echo"}
            assert (await theirs.handshake()).keys() == {"big"}
            await refused(ours, "size", "big")
            await refused(theirs, "size", "echo")
            assert text(await theirs.call("big", {"bytes": 2})) == "xx"


async def test_a_tool_for_users_is_listed_to_whoever_asks_for_those_too(tmp_path: Path) -> None:
    servers = {"one": stub("echo", "whoami", name="one", userOnly=["who*"])}
    async with together(tmp_path, servers) as (_, _, peer):
        assert peer.tools.keys() == {"echo"}
        for params, names in (
            ({"withUserTools": True}, ["echo", "whoami"]),
            ({"withUserTools": False}, ["echo"]),
            ({"withUserTools": "true"}, ["echo"]),
            ({"cursor": "", "withUserTools": True}, ["echo", "whoami"]),
        ):
            answer = await peer.request("tools/list", params)
            assert [tool["name"] for tool in answer["result"]["tools"]] == names
        assert text(await peer.call("whoami")) == "one"


async def test_of_tools_with_one_name_each_has_its_server_in_front_at_every_start(
    tmp_path: Path,
) -> None:
    servers = {
        "one": stub("echo", "whoami", "size", name="one"),
        "two": stub("echo", "whoami", "cwd", name="two"),
        "three": stub("env", name="three"),
    }
    lists = []
    for _ in range(2):
        async with together(tmp_path, servers) as (_, xzpipe, peer):
            lists.append(next(frame for frame in peer.frames if b'"tools":[' in frame))
            assert peer.tools.keys() == {
                "one__echo", "one__whoami", "size", "two__echo", "two__whoami", "cwd", "env",
            }  # fmt: skip
            for name in ("one", "two"):
                assert text(await peer.call(f"{name}__whoami")) == name
                assert text(await peer.call(f"{name}__echo", {"text": name})) == name
            await refused(peer, "echo", "whoami", "one__size", "three__echo", "one__two__echo")
            changed = await xzpipe.all("NameChanged", 4)
            assert {each["listed"] for each in changed} == {
                "one__echo", "one__whoami", "two__echo", "two__whoami",
            }  # fmt: skip
            assert await xzpipe.stop() == 0
        servers = dict(reversed(servers.items()))
    assert lists[0] == lists[1]


async def test_a_name_that_was_made_is_not_one_that_another_tool_really_has(tmp_path: Path) -> None:
    servers = {
        "one": entry("--name", "one", "--only", "echo", "--also", "two__echo,a.b,a b"),
        "two": entry("--name", "two", "--only", "echo", "--also", "a_b"),
    }
    async with together(tmp_path, servers) as (_, _, peer):
        assert len(peer.tools) == 6 and all(map(CLEAN, peer.tools))
        answers = {name: text(await peer.call(name, {"text": "echoed"})) for name in peer.tools}
        assert answers["two__echo"] == "one:two__echo"
        assert answers["a_b"] == "two:a_b"
        assert sorted(answers.values()) == [
            "echoed", "echoed", "one:a b", "one:a.b", "one:two__echo", "two:a_b",
        ]  # fmt: skip


@pytest.mark.parametrize("several", [False, True], ids=["alone", "among others"])
async def test_every_name_that_leaves_is_one_that_assistants_take(
    tmp_path: Path, several: bool
) -> None:
    servers = {"one": entry("--name", "one", "--only", "echo", "--also", ",".join(UNCLEAN))}
    servers |= {"two": stub("cwd", name="two")} if several else {}
    async with together(tmp_path, servers) as (_, xzpipe, peer):
        names = peer.tools.keys() - {"echo", "cwd"}
        assert len(names) == len(UNCLEAN) and all(map(CLEAN, names))
        assert "weather_get" in names
        answers = {text(await peer.call(name)) for name in names}
        assert answers == {f"one:{name}" for name in UNCLEAN}
        await refused(peer, *UNCLEAN)
        changed = await xzpipe.all("NameChanged", len(UNCLEAN))
        assert {each["tool"]: each["listed"] for each in changed}.keys() == set(UNCLEAN)
        assert {each["listed"] for each in changed} == names
        assert all(each["server"] == "one" for each in changed)


async def test_servers_that_list_one_tool_a_page_are_listed_in_full(tmp_path: Path) -> None:
    servers = {
        name: entry("--name", name, "--only", "echo", "--also", f"{name}_a,{name}_b,{name}_c",
                    "--page-size", 1)
        for name in ("one", "two")
    }  # fmt: skip
    async with together(tmp_path, servers) as (_, _, peer):
        answer = await peer.request("tools/list")
        assert answer["result"].keys() == {"tools"}
        own = {f"{name}_{letter}" for name in servers for letter in "abc"}
        assert {tool["name"] for tool in answer["result"]["tools"]} == own | {
            "one__echo", "two__echo",
        }  # fmt: skip
        assert text(await peer.call("two_c")) == "two:two_c"


async def test_a_warning_is_given_once(tmp_path: Path) -> None:
    servers = {
        "one": entry("--only", "echo", "--tools", 40),
        "two": entry("--only", "whoami", "--also", "mute,two words"),
    }
    async with together(tmp_path, servers, *backoff()) as (endpoint, xzpipe, peer):
        await peer.handshake()
        peer.reset()
        again = await endpoint.accept()
        await again.handshake()
        await again.call("no such tool")
        assert await xzpipe.stop() == 0
        await xzpipe.whole_log()
        [long] = xzpipe.found("LongList")
        assert (long["view"], long["tools"]) == ("endpoint", 44)
        size = next(frame for frame in again.frames if b'"tools":[' in frame)
        assert 0 < len(size) - long["size"] < 100  # the envelope
        undescribed = {each["server"]: each["tools"] for each in xzpipe.found("NotDescribed")}
        assert undescribed == {
            "one": [f"extra_{n}" for n in range(40)], "two": ["mute", "two words"],
        }  # fmt: skip
        assert len(xzpipe.found("NotDescribed")) == 2
        assert [each["listed"] for each in xzpipe.found("NameChanged")] == ["two_words"]
        for event in ("LongList", "NotDescribed", "NameChanged"):
            assert {each["level"] for each in xzpipe.found(event)} == {"warning"}


@pytest.mark.parametrize(
    ("settings", "long"),
    [
        ({}, 0), ({"warnTools": 1}, 1), ({"warnTools": 2}, 0),
        ({"warnListBytes": 100}, 1), ({"warnListBytes": 10_000}, 0),
    ],
)  # fmt: skip
async def test_how_long_a_list_may_be_without_a_warning_can_be_set(
    tmp_path: Path, settings: dict[str, int], long: int
) -> None:
    servers = {"one": stub("echo", "size")}
    async with together(tmp_path, servers, **settings) as (_, xzpipe, _):
        assert await xzpipe.stop() == 0
        await xzpipe.whole_log()
        assert len(xzpipe.found("LongList")) == long


TWICE = '{"home": {"url": "ws://h/"}, "home": {"url": "ws://i/"}}'


@pytest.mark.parametrize(
    ("policy", "xzpipe", "words"),
    [
        ({"rename": {"echo": "say", "size": "say"}}, {}, ["mcpServers.one.tools.rename.size"]),
        ({"allow": "echo"}, {}, ["mcpServers.one.tools.allow", "a list"]),
        ({"hide": ["echo"]}, {}, ["mcpServers.one.tools.hide", "unknown key"]),
        ({}, {"tools": {"rename": {"echo": "a", "size": "a"}}}, ["xzpipe.tools.rename.size"]),
        ({}, {"mode": "together"}, ["xzpipe.mode", "separate", "aggregate", "auto"]),
        ({}, {"resultLimit": 100}, ["xzpipe.resultLimit"]),
        ({}, {"warnTools": "many"}, ["xzpipe.warnTools"]),
        (
            {}, {"endpoints": {"home": {"url": "ws://h/", "servers": ["on?", "weather"]}}},
            ["xzpipe.endpoints.home.servers[1]"],
        ),
        (
            {}, {"endpoints": {"home": {"url": "ws://h/", "servers": []}}},
            ["xzpipe.endpoints.home", "at least one server"],
        ),
        (
            {}, {"endpoints": {"home": {"url": "ws://h/", "urlFile": "home.url"}}},
            ["xzpipe.endpoints.home", "url", "urlFile"],
        ),
        ({}, {"endpoints": {"home": {"url": "nonsense"}}}, ["home", "not a WebSocket address"]),
        ({}, {"endpoints": {"home": {"url": "ws://h/", "mode": "x"}}},
            ["xzpipe.endpoints.home.mode"]),
        ({}, {"endpoints": TWICE}, ["xzpipe.endpoints.home", "found again"]),
    ],
)  # fmt: skip
async def test_a_bad_policy_is_refused_with_its_place_before_anything_starts(
    tmp_path: Path, policy: dict[str, Any], xzpipe: dict[str, Any], words: list[str]
) -> None:
    diary = tmp_path / "diary"
    server = entry("--diary", diary) | ({"tools": policy} if policy else {})
    config = json.dumps({"mcpServers": {"one": server}, "xzpipe": xzpipe})
    config = config.replace(json.dumps(TWICE), TWICE)  # what no dict can hold
    (tmp_path / "mcp_config.json").write_text(config)
    env = {} if "endpoints" in xzpipe else {"MCP_ENDPOINT": "ws://127.0.0.1:1/"}
    result = await finished(tmp_path, "run", env=env)
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    shown = re.sub(r"\s+", " ", result.stderr)
    for each in words:
        assert each in shown
    assert not diary.exists()


async def test_a_glob_that_matches_no_server_is_a_warning_with_its_place(tmp_path: Path) -> None:
    async with broker() as endpoint:
        home = {"url": endpoint.url, "servers": ["on?", "weather*"]}
        settings = {"endpoints": {"home": home}}
        async with running(tmp_path, {"one": stub("echo")}, None, settings=settings) as xzpipe:
            assert (await (await endpoint.accept()).handshake()).keys() == {"echo"}
            await xzpipe.says("xzpipe.endpoints.home.servers[1]: matches no server")


async def test_a_server_for_an_endpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    servers = {"one": entry("--diary", diary) | {"endpoint": "hom"}}
    config = {"mcpServers": servers, "xzpipe": {"endpoints": {"home": {"url": "ws://h/"}}}}
    (tmp_path / "mcp_config.json").write_text(json.dumps(config))
    result = await finished(tmp_path, "run")
    assert result.code == 2 and "mcpServers.one.endpoint" in result.stderr
    assert not diary.exists()


async def test_an_endpoint_without_an_address_is_refused_by_its_name(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    endpoints = {"home": {"url": "ws://h/"}, "office": {}}
    config = {"mcpServers": {"one": entry("--diary", diary)}, "xzpipe": {"endpoints": endpoints}}
    (tmp_path / "mcp_config.json").write_text(json.dumps(config))
    result = await finished(tmp_path, "run")
    assert result.code == 2
    assert "office" in result.stderr and "MCP_ENDPOINT_" in result.stderr
    assert not diary.exists()
