"""One link for each server, one for all of them, and the change from the first to the second."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.e2e.running import Xzpipe, backoff, running
from tests.endpoints import Broker, Peer, broker
from tests.servers import entry
from tests.servers.session import Session, text

pytestmark = pytest.mark.anyio

LONG = 300.0  # seconds; nothing is dialled again that waits for so long
SETTING = '"mode": "aggregate"'
SELF_HOSTED = {"lingers": 0.5}  # wire.md §3
OTHERWISE = {"evicts_with": "replaced", "orphans": False}  # it has to be found out
PATIENT = backoff(initial=0.8, longest=4.0)  # what ends too soon tells nothing
NUMBERS = pytest.mark.parametrize("number", [2, 10, 50])


def named(number: int, diary: Path | None = None) -> dict[str, Any]:
    """So many servers; each has one tool, whose answer holds the server's name."""
    flags = ("--diary", diary) if diary else ()
    names = [f"s{n}" for n in range(number)]
    return {
        name: entry("--name", name, "--only", "", "--also", f"of_{name}", *flags) for name in names
    }


async def all_answer(client: Session, names: Iterable[str]) -> None:
    """All servers, called at once over one connection, answer for themselves."""
    ids = {name: await client.start_call(f"of_{name}") for name in names}
    for name, id in ids.items():
        assert text(await client.answer(id)) == f"{name}:of_{name}"


async def accept_each(endpoint: Broker, number: int) -> list[Peer]:
    return [await endpoint.accept() for _ in range(number)]


async def settled(endpoint: Broker, xzpipe: Xzpipe, number: int) -> None:
    """Wait until the servers share one link, and the endpoint has done with all others."""
    await xzpipe.event("LinkUp", link="endpoint")
    await xzpipe.event("ServerReady", number)
    await endpoint.until(lambda: endpoint.connected == 1)


@NUMBERS
async def test_in_aggregate_one_connection_carries_all_servers(tmp_path: Path, number: int) -> None:
    servers = named(number)
    settings = {"mode": "aggregate"}
    async with (
        broker() as endpoint,
        running(tmp_path, servers, endpoint.url, settings=settings) as xzpipe,
    ):
        peer = await endpoint.accept()
        await xzpipe.event("ServerReady", number)
        assert (await peer.handshake()).keys() == {f"of_{name}" for name in servers}
        assert peer.initialized["serverInfo"]["name"] == "xzpipe"
        await all_answer(peer, servers)
        assert (await peer.request("resources/list"))["error"]["code"] == -32601
        assert [each["link"] for each in await xzpipe.all("LinkUp", 1)] == ["endpoint"]
        assert len(endpoint.attempts) == 1
        assert await xzpipe.stop() == 0
        assert await peer.closed() == (1001, "")


@NUMBERS
@pytest.mark.parametrize("mode", ["separate", "auto", None])
async def test_an_endpoint_that_keeps_many_connections_gets_one_for_each_server(
    tmp_path: Path, number: int, mode: str | None
) -> None:
    servers = named(number)
    settings = {"mode": mode} if mode else {}
    async with (
        broker(auto=True) as endpoint,
        running(tmp_path, servers, endpoint.url, settings=settings) as xzpipe,
    ):
        peers = {peer.initialized["serverInfo"]["name"]: peer for peer in
                 await accept_each(endpoint, number)}  # fmt: skip
        assert peers.keys() == servers.keys()
        for name, peer in peers.items():
            assert peer.tools.keys() == {f"of_{name}"}
            await all_answer(peer, [name])
        assert {each["link"] for each in await xzpipe.all("LinkUp", number)} == servers.keys()
        assert endpoint.connected == len(endpoint.attempts) == number
        assert not xzpipe.found("ModeSwitched") and not xzpipe.found("LinkDown")


@pytest.mark.parametrize(
    ("number", "manner", "options"),
    [
        *((number, SELF_HOSTED, backoff()) for number in (2, 10, 50)),
        *((number, OTHERWISE, PATIENT) for number in (2, 10)),
    ],
)
async def test_in_auto_an_endpoint_that_keeps_one_connection_soon_has_one_with_everything(
    tmp_path: Path, number: int, manner: dict[str, Any], options: list[str]
) -> None:
    servers, diary = named(number, tmp_path / "diary"), tmp_path / "diary"
    async with (
        broker(one_per_token=True, **manner) as endpoint,
        running(tmp_path, servers, endpoint.url, *options) as xzpipe,
    ):
        switched = await xzpipe.event("ModeSwitched")
        assert (switched["endpoint"], switched["servers"]) == ("endpoint", list(servers))
        assert SETTING in switched["message"]
        await settled(endpoint, xzpipe, number)
        assert endpoint.registered() is not None  # had it not waited, it would have been forgotten
        robot = endpoint.robot()
        assert (await robot.handshake()).keys() == {f"of_{name}" for name in servers}
        await all_answer(robot, servers)
        assert len(xzpipe.found("ModeSwitched")) == 1
        assert len(diary.read_text().splitlines()) == number  # none was started again
        assert not xzpipe.found("ServerDown")
        if "evicts_with" not in manner:  # the first that was replaced was enough to know
            assert len(endpoint.attempts) <= number + 1


async def test_after_the_change_every_conversation_of_every_device_is_served(
    tmp_path: Path,
) -> None:
    servers = named(2)
    async with (
        broker(one_per_token=True, lingers=0.2) as endpoint,
        running(tmp_path, servers, endpoint.url, *backoff()) as xzpipe,
    ):
        await settled(endpoint, xzpipe, 2)
        robots = [endpoint.robot() for _ in range(10)]
        async with anyio.create_task_group() as tasks:
            for robot in robots[::2]:
                tasks.start_soon(robot.handshake)
            for robot in robots[1::2]:
                tasks.start_soon(robot.refresh)
        for robot in robots:
            await all_answer(robot, servers)


async def test_after_the_change_a_lost_connection_is_made_anew_and_stays_one(
    tmp_path: Path,
) -> None:
    servers = named(3)
    async with (
        broker(one_per_token=True, lingers=0.2) as endpoint,
        running(tmp_path, servers, endpoint.url, *backoff(initial=0.5, longest=1)) as xzpipe,
    ):
        await settled(endpoint, xzpipe, 3)
        before = len(endpoint.attempts)
        endpoint.registered().reset()
        await xzpipe.event("LinkUp", 2, link="endpoint")
        await endpoint.until(lambda: endpoint.connected == 1)
        await all_answer(endpoint.robot(), servers)
        assert len(endpoint.attempts) == before + 1
        assert len(xzpipe.found("ModeSwitched")) == 1


@pytest.mark.parametrize("number", [2, 10])
async def test_in_separate_links_that_replace_each_other_give_way_and_name_the_setting(
    tmp_path: Path, number: int
) -> None:
    servers, options = named(number), backoff(initial=0.05, longest=LONG)
    async with (
        broker(one_per_token=True) as endpoint,
        running(tmp_path, servers, endpoint.url, "--mode", "separate", *options) as xzpipe,
    ):
        peers = await accept_each(endpoint, number)
        evicted = [peer for peer in peers if peer.connection.close_code is not None]
        assert evicted
        for down in await xzpipe.all("LinkDown", len(evicted)):
            assert SETTING in down["hint"]
            assert down["retry_in"] == LONG
        await endpoint.until(lambda: endpoint.connected + len(evicted) == number)
        assert len(endpoint.attempts) == number
        assert not xzpipe.found("ModeSwitched")
        assert await xzpipe.stop() == 0


async def test_in_separate_links_that_are_ended_without_a_word_stop_fighting_too(
    tmp_path: Path,
) -> None:
    options = backoff(initial=0.8, longest=LONG)
    async with (
        broker(one_per_token=True, **OTHERWISE) as endpoint,
        running(tmp_path, named(2), endpoint.url, "--mode", "separate", *options) as xzpipe,
    ):
        gave_way = await xzpipe.event("LinkDown", retry_in=LONG)
        assert SETTING in gave_way["hint"]
        await endpoint.until(lambda: endpoint.connected == 1)
        assert endpoint.registered() is not None
        assert len(endpoint.attempts) < 10
        assert len(xzpipe.found("LinkDown", retry_in=LONG)) == 1


@pytest.mark.parametrize(
    ("mode", "number"), [("auto", 1), ("aggregate", 1), ("aggregate", 3), ("separate", 1)]
)
async def test_a_link_whose_place_somebody_else_takes_leaves_it_to_them(
    tmp_path: Path, mode: str, number: int
) -> None:
    servers, options = named(number), backoff(initial=0.05, longest=LONG)
    async with (
        broker(one_per_token=True) as endpoint,
        running(tmp_path, servers, endpoint.url, "--mode", mode, *options) as xzpipe,
    ):
        ours = await endpoint.accept()
        async with connect(endpoint.url, proxy=None) as theirs:
            assert await ours.closed() == (1000, "新连接替换")
            down = await xzpipe.event("LinkDown")
            assert down["retry_in"] == LONG
            assert "took the place" in down["cause"]
            await (await theirs.ping())
            assert endpoint.connected == 1
            assert len(endpoint.attempts) == 2
        assert not xzpipe.found("ModeSwitched")


@pytest.mark.parametrize(("file", "option"), [("separate", "aggregate"), ("aggregate", "separate")])
async def test_the_command_line_says_the_mode_where_the_file_says_another(
    tmp_path: Path, file: str, option: str
) -> None:
    servers, settings = named(3), {"mode": file}
    async with (
        broker() as endpoint,
        running(
            tmp_path, servers, endpoint.url, "--mode", option, settings=settings
        ) as xzpipe,
    ):  # fmt: skip
        links = {"endpoint"} if option == "aggregate" else servers.keys()
        await xzpipe.event("ServerReady", 3)
        await accept_each(endpoint, len(links))
        assert {each["link"] for each in await xzpipe.all("LinkUp", len(links))} == links
        assert len(endpoint.attempts) == len(links)
