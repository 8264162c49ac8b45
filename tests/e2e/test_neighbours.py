"""Servers beside each other: what one does is of no consequence to another."""

from pathlib import Path

import psutil
import pytest

from tests.e2e.running import backoff, running
from tests.endpoints import Broker, Peer, broker
from tests.servers import entry
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

EVERY_LIFE_IS_GOOD = 0.001


async def accept_all(endpoint: Broker, number: int) -> dict[str, Peer]:
    """That many peers after their handshakes, by the name of the server behind each."""
    peers = {}
    for _ in range(number):
        peer = await endpoint.accept()
        await peer.handshake()
        peers[peer.initialized["serverInfo"]["name"]] = peer
    return peers


async def test_servers_that_cannot_be_used_neither_delay_nor_disturb_one_that_can(
    tmp_path: Path,
) -> None:
    servers = {
        "missing": {"command": "no-such-command"},
        "exits": entry("--exit-at-start", 1),
        "refuses": entry("--init-error", "No AWS credentials"),
        "never ready": entry("--no-init-answer"),
        "slow": entry("--name", "slow", "--start-delay", 3),
        "good": entry("--name", "good"),
        "mute": entry("--no-init-answer") | {"startTimeout": 0.2},
        "crashes": entry("--name", "crashes", "--die-after", 0.3),
    }
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *backoff()) as xzpipe:
        await xzpipe.event("LinkUp", link="good")
        assert not xzpipe.found("ServerReady", server="slow")  # it did not wait for it
        peers = await accept_all(endpoint, 2)
        calls = 0
        for n in range(2, 6):  # the crashing server's link is up, and none of its crashes ends it
            await xzpipe.event("ServerDown", n, server="crashes")
            calls += 1
            answer = await peers["good"].call("echo", {"text": str(n)})
            assert text(answer) == str(n)
        assert peers["good"].inbox == []
        peers |= await accept_all(endpoint, 1)
        assert peers.keys() == {"good", "crashes", "slow"}
        for name in ("missing", "exits", "refuses", "mute"):
            await xzpipe.event("ServerDown", 3, server=name)
        assert not xzpipe.found("LinkDown")
        assert {each["link"] for each in await xzpipe.all("LinkUp", 3)} == peers.keys()
        assert len(endpoint.attempts) == 3


async def test_each_server_has_a_link_of_its_own_and_calls_go_nowhere_else(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two", "three")}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url) as xzpipe:
        peers = await accept_all(endpoint, 3)
        assert peers.keys() == servers.keys()
        ids = {name: await peer.start_call("whoami", id=5) for name, peer in peers.items()}
        for name, peer in peers.items():
            assert text(await peer.answer(ids[name])) == name
        pids = {value(await peer.call("pids"))["pid"] for peer in peers.values()}
        assert pids == {each["pid"] for each in await xzpipe.all("ServerStarting", 3)}


async def test_a_death_is_told_to_the_callers_of_that_server_and_to_no_other(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two")}
    options = backoff(initial=300, longest=300)
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *options) as xzpipe:
        peers = await accept_all(endpoint, 2)
        one, two = peers["one"], peers["two"]
        theirs = await one.start_call("hold", id=3)
        ours = await two.start_call("hold", {"key": "mine"}, id=3)
        await one.call("die")
        assert "'one' went away" in (await one.answer(theirs))["error"]["message"]
        await xzpipe.event("ServerDown", server="one")
        assert value(await two.call("release")) == 1
        assert text(await two.answer(ours)) == "mine"
        assert two.inbox == []
        assert "one is restarting, try again" in (await one.call("whoami"))["error"]["message"]
        assert not xzpipe.found("LinkDown")


async def test_a_server_that_reads_nothing_and_is_sent_megabytes_holds_up_nobody(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("stuck", "good")}
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url) as xzpipe:
        peers = await accept_all(endpoint, 2)
        await peers["stuck"].start_call("block", {"seconds": 300})
        for _ in range(8):
            await peers["stuck"].start_call("echo", {"text": "x" * 2**20})
        await peers["stuck"].ping()  # all of it has arrived at xzpipe
        assert text(await peers["good"].call("whoami")) == "good"
        assert "echo" in await peers["stuck"].handshake()
        assert not xzpipe.found("ServerDown") and not xzpipe.found("LinkDown")


async def test_an_endpoint_that_refuses_one_link_does_not_touch_the_others(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two", "three")}
    options = backoff(initial=0.02, longest=0.05)
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *options) as xzpipe:
        peers = await accept_all(endpoint, 3)
        endpoint.refuse(503, times=None)
        peers["two"].reset()
        await xzpipe.event("LinkDown", 10, link="two")
        for name in ("one", "three"):
            assert text(await peers[name].call("whoami")) == name
            assert not xzpipe.found("LinkDown", link=name)
        endpoint.relent()
        assert text(await (await accept_all(endpoint, 1))["two"].call("whoami")) == "two"


async def test_a_server_that_is_killed_while_its_link_is_down_delays_only_its_own_return(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two")}
    options = backoff(initial=0.02, longest=0.05, reset=EVERY_LIFE_IS_GOOD)
    async with broker() as endpoint, running(tmp_path, servers, endpoint.url, *options) as xzpipe:
        peers = await accept_all(endpoint, 2)
        endpoint.stop_listening()
        pid = value(await peers["one"].call("pids"))["pid"]
        psutil.Process(pid).kill()
        for peer in peers.values():
            peer.reset()
        await xzpipe.event("LinkDown", 3, link="one")
        await xzpipe.event("LinkDown", 3, link="two")
        await endpoint.listen_again()
        again = await accept_all(endpoint, 2)
        assert again.keys() == peers.keys()
        assert value(await again["one"].call("pids"))["pid"] != pid
