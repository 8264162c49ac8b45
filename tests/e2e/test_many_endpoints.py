"""Several endpoints: the servers run once, and no endpoint knows of another."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Xzpipe, backoff, running
from tests.e2e.test_secrets import leaked
from tests.endpoints import Broker, Peer, broker
from tests.servers import entry
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

MB = 10**6
QUICK = backoff(initial=0.02, longest=0.05)
NAMES = ("home", "office")


def named(*names: str, **more: Any) -> dict[str, Any]:
    """Servers with one tool each, whose answer holds the server's name; `more` is for each."""
    return {name: entry("--name", name, "--only", "", "--also", f"of_{name}") | more
            for name in names}  # fmt: skip


@asynccontextmanager
async def two(
    folder: Path,
    servers: dict[str, Any],
    *options: str,
    home: dict[str, Any] | None = None,
    office: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Broker, Broker, Xzpipe]]:
    """xzpipe with two endpoints, whose settings are `home` and `office`."""
    async with broker() as one, broker() as other:
        endpoints = {
            "home": {"url": one.url} | (home or {}),
            "office": {"url": other.url} | (office or {}),
        }
        settings = {"endpoints": endpoints, **settings}
        async with running(folder, servers, None, *options, settings=settings) as xzpipe:
            await xzpipe.event("ServerReady", len(servers))
            yield one, other, xzpipe


async def greeted(endpoint: Broker) -> Peer:
    """The next connection, after its handshake."""
    peer = await endpoint.accept()
    await peer.handshake()
    return peer


async def test_two_endpoints_share_servers_that_run_once(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    servers = {
        "one": entry("--only", "pids", "--diary", diary),
        "two": entry("--only", "whoami", "--name", "two", "--diary", diary),
    }
    async with two(tmp_path, servers, mode="aggregate") as (home, office, xzpipe):
        peers = [await greeted(home), await greeted(office)]
        assert [peer.tools.keys() for peer in peers] == [{"pids", "whoami"}] * 2
        pids = [value(await peer.call("pids"))["pid"] for peer in peers]
        assert pids[0] == pids[1]
        assert [text(await peer.call("whoami")) for peer in peers] == ["two", "two"]
        assert len(diary.read_text().splitlines()) == 2
        assert {each["link"] for each in await xzpipe.all("LinkUp", 2)} == {"home", "office"}


async def test_separate_links_are_named_after_server_and_endpoint(tmp_path: Path) -> None:
    servers = named("calc", "time")
    async with two(tmp_path, servers, mode="separate") as (home, office, xzpipe):
        for endpoint in (home, office):
            tools = [(await greeted(endpoint)).tools.keys() for _ in servers]
            assert sorted(map(list, tools)) == [["of_calc"], ["of_time"]]
        links = {each["link"] for each in await xzpipe.all("LinkUp", 4)}
        assert links == {"calc@home", "time@home", "calc@office", "time@office"}


async def test_a_call_from_one_is_never_answered_to_the_other(tmp_path: Path) -> None:
    async with two(tmp_path, {"stub": entry()}) as (home, office, xzpipe):
        peers = {"home": await greeted(home), "office": await greeted(office)}
        for id in (0, 7, "七"):  # the same ids are on their way on both
            held = {
                name: await peer.start_call("hold", {"key": f"{name} {id}"}, id=id)
                for name, peer in peers.items()
            }
            assert held == {"home": id, "office": id}
        tokens = {"progressToken": "same"}
        assert text(await peers["home"].call("progress", {"n": 2}, _meta=tokens)) == "done"
        assert value(await peers["office"].call("release")) == 6
        for id in (0, 7, "七"):
            for name, peer in peers.items():
                assert text(await peer.answer(id)) == f"{name} {id}"
        assert len(peers["home"].inbox) == 2 and peers["office"].inbox == []
        assert not xzpipe.found("StaleAnswer")


async def test_the_calls_of_an_endpoint_that_is_lost_are_answered_to_nobody(tmp_path: Path) -> None:
    async with two(tmp_path, {"stub": entry()}, *QUICK) as (home, office, xzpipe):
        lost, other = await greeted(home), await greeted(office)
        for peer, key in ((lost, "lost"), (other, "other")):
            await peer.start_call("hold", {"key": key}, id=7)
            await peer.ping()
        lost.reset()
        again = await greeted(home)
        assert value(await again.call("release")) == 2
        await xzpipe.event("StaleAnswer")
        assert text(await other.answer(7)) == "other"
        await again.ping()
        assert again.inbox == other.inbox == []


@pytest.mark.parametrize("mode", ["separate", "aggregate"])
async def test_an_endpoint_that_reads_nothing_does_not_slow_the_other_and_loses_its_link(
    tmp_path: Path, mode: str
) -> None:
    async with two(tmp_path, {"stub": entry()}, mode=mode) as (home, office, xzpipe):
        stuck, other = await greeted(home), await greeted(office)
        stuck.stop_reading()
        for number in range(200):
            await stuck.start_call("size", {"bytes": MB})
            if number % 10 == 0:
                assert text(await other.call("echo", {"text": str(number)})) == str(number)
        down = await xzpipe.event("LinkDown")
        assert down["link"] == ("home" if mode == "aggregate" else "stub@home")
        assert down["cause"] == "closed, since it does not take what is sent to it"
        assert text(await other.call("echo", {"text": "the end"})) == "the end"
        await greeted(home)
        assert len(xzpipe.found("LinkDown")) == 1
        assert not xzpipe.found("ServerDown")
        assert len(office.attempts) == 1


async def test_an_endpoint_that_is_down_does_not_disturb_the_other(tmp_path: Path) -> None:
    async with broker() as dead:
        nowhere = dead.url
    home = {"url": nowhere}
    async with two(tmp_path, named("calc"), *QUICK, home=home) as (_, office, xzpipe):
        peer = await greeted(office)
        for number in range(1, 10):
            down = await xzpipe.event("LinkDown", number)
            assert down["link"] == "calc@home" and "nothing listens" in down["cause"]
            assert text(await peer.call("of_calc")) == "calc:of_calc"
        assert len(office.attempts) == 1


async def test_each_endpoint_sees_the_servers_that_its_globs_name(tmp_path: Path) -> None:
    servers = named("calc", "weather", "weather-cn")
    endpoints = {"home": {"servers": ["weather*"]}, "office": {"servers": ["calc", "*-cn"]}}
    async with two(tmp_path, servers, mode="aggregate", **endpoints) as (home, office, _):
        peers = [await greeted(home), await greeted(office)]
        assert peers[0].tools.keys() == {"of_weather", "of_weather-cn"}
        assert peers[1].tools.keys() == {"of_calc", "of_weather-cn"}
        for peer, foreign in zip(peers, ("of_calc", "of_weather"), strict=True):
            assert (await peer.call(foreign))["error"]["code"] == -32602
            assert (await peer.call(f"{foreign[3:]}__{foreign}"))["error"]["code"] == -32602


async def test_a_server_can_say_which_endpoint_it_is_for(tmp_path: Path) -> None:
    servers = named("calc", endpoint="home") | named("time", "date", endpoint="office")
    async with two(tmp_path, servers, mode="aggregate") as (home, office, _):
        assert (await greeted(home)).tools.keys() == {"of_calc"}
        assert (await greeted(office)).tools.keys() == {"of_time", "of_date"}


async def test_each_endpoint_has_a_mode_of_its_own(tmp_path: Path) -> None:
    servers = named("calc", "time")
    office = {"mode": "aggregate"}
    async with two(tmp_path, servers, mode="separate", office=office) as (_, _, xzpipe):
        links = {each["link"] for each in await xzpipe.all("LinkUp", 3)}
        assert links == {"calc@home", "time@home", "office"}


async def test_one_endpoint_changes_its_mode_and_the_other_keeps_its_links(tmp_path: Path) -> None:
    servers = named("calc", "time")
    async with (
        broker(one_per_token=True, lingers=0.2) as own,
        two(tmp_path, servers, *backoff(), home={"url": own.url}) as (_, office, xzpipe),
    ):
        peers = [await greeted(office) for _ in servers]
        switched = await xzpipe.event("ModeSwitched")
        assert switched["endpoint"] == "home"
        await xzpipe.event("LinkUp", link="home")
        await own.until(lambda: own.connected == 1)
        assert (await own.robot().handshake()).keys() == {"of_calc", "of_time"}
        for peer in peers:
            [tool] = peer.tools
            assert text(await peer.call(tool)) == f"{tool[3:]}:{tool}"
        assert len(office.attempts) == 2 and not xzpipe.found("LinkDown", link="calc@office")


async def test_the_address_says_which_server_a_link_is_for(tmp_path: Path) -> None:
    servers = named("calc", "时间")
    async with broker() as endpoint:
        by_url = {"url": endpoint.url_for("by-url", "/mcp/{server}/")}
        by_id = {"url": endpoint.url_for("by-id"), "serverId": True}
        options = {"home": by_url, "office": by_id, "mode": "separate"}
        async with two(tmp_path, servers, **options):
            paths = {attempt.path for attempt in await endpoint.attempted(4)}
    encoded = "%E6%97%B6%E9%97%B4"
    assert paths == {
        "/mcp/calc/?token=by-url", f"/mcp/{encoded}/?token=by-url",
        "/mcp/?token=by-id&server_id=calc", f"/mcp/?token=by-id&server_id={encoded}",
    }  # fmt: skip


async def test_with_a_server_id_an_endpoint_that_keeps_one_connection_keeps_one_of_each(
    tmp_path: Path,
) -> None:
    servers, settings = named("calc", "time"), {"serverId": True}
    async with (
        broker(one_per_token=True) as endpoint,
        running(tmp_path, servers, endpoint.url, settings=settings) as xzpipe,
    ):
        await xzpipe.event("LinkUp", 2)
        for name in servers:
            await endpoint.until(lambda name=name: endpoint.registered(server_id=name))
            assert await endpoint.robot(server_id=name).refresh() == [f"of_{name}"]
        assert endpoint.connected == len(endpoint.attempts) == 2
        assert not xzpipe.found("ModeSwitched") and not xzpipe.found("LinkDown")


async def test_an_address_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        home, office = [await stack.enter_async_context(broker()) for _ in NAMES]
        (tmp_path / "home.url").write_text(f"{home.url_for('of-a-file')}\n")
        endpoints = {"home": {"urlFile": "home.url"}, "office": {"url": "ws://127.0.0.1:1/"}}
        settings = {"endpoints": endpoints}
        env = {"MCP_ENDPOINT_OFFICE": office.url_for("of-the-environment")}
        async with running(tmp_path, named("calc"), None, settings=settings, env=env) as xzpipe:
            assert (await greeted(home)).path.endswith("of-a-file")
            peer = await greeted(office)
            assert peer.path.endswith("of-the-environment")
            assert text(await peer.call("of_calc")) == "calc:of_calc"
            assert await xzpipe.stop() == 0


async def test_headers_are_sent_to_the_endpoint_that_they_are_for(tmp_path: Path) -> None:
    home = {"headers": {"X-Agent": "a7", "Authorization": "Bearer ${HOME_KEY}"}}
    (tmp_path / ".env").write_text("HOME_KEY=Rq8-hunter-Zt41\n")
    async with two(tmp_path, named("calc"), home=home) as (one, other, xzpipe):
        ours, theirs = await greeted(one), await greeted(other)
        assert ours.headers["X-Agent"] == "a7"
        assert ours.headers["Authorization"] == "Bearer Rq8-hunter-Zt41"
        assert "X-Agent" not in theirs.headers and "Authorization" not in theirs.headers
        assert await xzpipe.stop() == 0


async def test_no_token_and_no_header_of_any_endpoint_is_in_the_log_or_a_child(
    tmp_path: Path,
) -> None:
    tokens = ("Xq7Wk2VbN9pLs3RtY8-home", "uHgF5dCa1QeMz4Jn0-office")
    key = "Kx81-hunter-Pz33"
    servers = {"stub": entry(), "missing": {"command": "no-such-command"}}
    async with broker() as endpoint:
        endpoint.refuse(401, {"X-Your-Token": tokens[0]})
        endpoint.hang_up(4004, f"unknown token {tokens[1]}")
        (tmp_path / "home.url").write_text(endpoint.url_for(tokens[0]))
        endpoints = {
            "home": {"urlFile": "home.url", "headers": {"Authorization": f"Bearer {key}"}},
            "office": {"servers": ["stub"]},
        }
        env = {
            "MCP_ENDPOINT_OFFICE": endpoint.url_for(tokens[1]),
            "MORE": f"see {tokens[0]}", "HARMLESS": "stays",
        }  # fmt: skip
        settings = {"endpoints": endpoints, "mode": "aggregate"}
        options = backoff(initial=0.02, longest=60)
        async with running(tmp_path, servers, None, *options, settings=settings, env=env) as xzpipe:
            peer = await endpoint.accept()
            assert "echo" in await peer.handshake()
            await xzpipe.event("LinkDown", 2)
            shown = [str(value(await peer.call(tool))) for tool in ("env", "argv")]
            assert "HARMLESS" in shown[0]
            assert await xzpipe.stop() == 0
            log = await xzpipe.whole_log()
            assert "token=***" in log
            assert leaked([*shown, log], *tokens, key) == set()
