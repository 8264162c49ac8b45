"""What endpoints do to links, and how soon each is dialled again."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.running import Xzpipe, backoff, running
from tests.endpoints import Attempt, broker
from tests.servers import entry
from tests.servers.session import text

pytestmark = pytest.mark.anyio

EVERY_LIFE_IS_GOOD = 0.001
CLOCK = 0.01  # seconds; a wait may look shorter than it was by what the two clocks round


def doubling(waits: Sequence[float], initial: float, longest: float) -> bool:
    """Whether these are the waits of a backoff, of which jitter takes up to a fifth."""
    bases = (min(initial * 2**n, longest) for n in itertools.count())
    return all(0.8 * base <= wait <= base for base, wait in zip(bases, waits, strict=False))


async def downs(xzpipe: Xzpipe, number: int) -> list[dict]:
    return [await xzpipe.event("LinkDown", n) for n in range(1, number + 1)]


def not_earlier(attempts: Sequence[Attempt], downs: Sequence[dict]) -> bool:
    """Whether each attempt came as late as was announced after the one before it."""
    pauses = [after.at - before.at for before, after in itertools.pairwise(attempts)]
    waits = [down["retry_in"] for down in downs]
    return all(p >= wait - CLOCK for p, wait in zip(pauses, waits, strict=False))


async def test_the_waits_for_an_endpoint_that_refuses_double_and_start_over_after_a_good_life(
    tmp_path: Path,
) -> None:
    options = backoff(initial=0.1, longest=0.4, reset=EVERY_LIFE_IS_GOOD)
    async with broker() as endpoint:
        endpoint.refuse(503, times=5)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *options) as xzpipe:
            peer = await endpoint.accept()
            await peer.handshake()
            refused = await downs(xzpipe, 5)
            assert doubling([each["retry_in"] for each in refused], 0.1, 0.4)
            assert not_earlier(endpoint.attempts, refused)
            for each in refused:
                assert "overloaded" in each["cause"] and "HTTP 503" in each["cause"]
                assert each["lived"] == 0 and f"{each['retry_in']:.1f} s" in each["message"]

            endpoint.refuse(503, times=2)
            await peer.close(4004, "Internal server error")
            again = (await downs(xzpipe, 8))[5:]
            assert "4004" in again[0]["cause"] and again[0]["lived"] > 0
            assert doubling([each["retry_in"] for each in again], 0.1, 0.4)
            assert text(await (await endpoint.accept()).call("echo", {"text": "ok"})) == "ok"


@pytest.mark.parametrize(("code", "words"), [(1000, "ended the connection"), (4004, "4004")])
async def test_an_endpoint_that_accepts_and_hangs_up_is_not_hammered(
    tmp_path: Path, code: int, words: str
) -> None:
    async with broker() as endpoint:
        endpoint.hang_up(code, times=None)
        options = backoff(initial=0.05, longest=0.4)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *options) as xzpipe:
            flaps = await downs(xzpipe, 6)
            assert doubling([each["retry_in"] for each in flaps], 0.05, 0.4)
            assert not_earlier(endpoint.attempts, flaps)
            assert all(words in each["cause"] for each in flaps)
            assert len(xzpipe.found("LinkUp")) >= 6
            endpoint.relent()
            await (await endpoint.accept()).handshake()


async def test_it_never_gives_up_on_an_endpoint_that_is_switched_off(tmp_path: Path) -> None:
    async with broker() as endpoint:
        options = backoff(initial=0.02, longest=0.05)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *options) as xzpipe:
            peer = await endpoint.accept()
            endpoint.stop_listening()
            peer.reset()
            lost, *refused = await downs(xzpipe, 12)
            assert "the connection was lost" in lost["cause"]
            for each in refused:
                assert "nothing listens" in each["cause"] and "Check the host" in each["hint"]
                assert each["retry_in"] <= 0.05
            await endpoint.listen_again()
            await (await endpoint.accept()).handshake()


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(tmp_path: Path, status: int) -> None:
    async with broker() as endpoint:
        endpoint.refuse(status, {"Retry-After": "1"})
        options = backoff(initial=0.01, longest=0.02)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *options) as xzpipe:
            refused = await downs(xzpipe, 1)
            assert refused[0]["retry_in"] == 1
            await endpoint.accept()
            assert not_earlier(endpoint.attempts, refused)


async def test_a_426_with_a_cookie_is_tried_again_at_once_and_once_with_the_cookie(
    tmp_path: Path,
) -> None:
    cookies = {"Set-Cookie": "acw_tc=0a1b2c;path=/;HttpOnly;Max-Age=1800"}
    async with broker() as endpoint:
        endpoint.refuse(426, cookies, times=4)
        options = backoff(initial=0.1, longest=10)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *options) as xzpipe:
            await (await endpoint.accept()).handshake()
            waits = [each["retry_in"] for each in await downs(xzpipe, 4)]
            assert waits[0] == waits[2] == 0  # the cookie is new
            assert doubling([waits[1], waits[3]], 0.1, 10)  # it was of no use
            sent = [each.headers.get("Cookie") for each in endpoint.attempts]
            assert sent == [None, "acw_tc=0a1b2c"] * 2 + [None]


async def test_a_426_without_a_cookie_is_a_refusal_like_others(tmp_path: Path) -> None:
    async with broker() as endpoint:
        endpoint.refuse(426, {"Set-Cookie": "other=1"}, times=2)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *backoff(0.1)) as xzpipe:
            await endpoint.accept()
            assert doubling([each["retry_in"] for each in await downs(xzpipe, 2)], 0.1, 10)
            assert all("Cookie" not in each.headers for each in endpoint.attempts)


async def test_what_only_a_person_can_mend_is_tried_again_once_a_minute_and_explained(
    tmp_path: Path,
) -> None:
    refusals = {
        400: "the token may be cut off",
        401: "Copy the endpoint address anew",
        403: "a self-hosted one is",
        404: "behind nginx",
    }
    servers = {f"server {n}": entry() for n in range(len(refusals) + 2)}
    async with broker() as endpoint:
        for status in refusals:
            endpoint.refuse(status)
        endpoint.hang_up(1008, "token解密失败")
        endpoint.hang_up(1000, "新连接替换")
        options = ["--mode=separate", *backoff(0.1, 200)]
        async with running(tmp_path, servers, endpoint.url, *options) as xzpipe:
            for each in await downs(xzpipe, len(servers)):
                words = [w for s, w in refusals.items() if f"HTTP {s}" in each["cause"]]
                if words:
                    assert words[0] in each["hint"] and each["retry_in"] == 60
                elif "1008" in each["cause"]:
                    assert "token解密失败" in each["cause"] and "%-encoded" in each["hint"]
                    assert each["retry_in"] == 60
                else:  # it does not fight for its place
                    assert "a newer connection" in each["cause"] and each["hint"]
                    assert each["retry_in"] == 200
            assert len({each["cause"] for each in xzpipe.found("LinkDown")}) == len(servers)
            assert len(endpoint.attempts) == len(servers)


async def test_a_web_server_that_knows_no_websockets_is_one_more_refusal(tmp_path: Path) -> None:
    async with broker() as endpoint:
        endpoint.refuse(200)
        async with running(tmp_path, {"stub": entry()}, endpoint.url, *backoff()) as xzpipe:
            await (await endpoint.accept()).handshake()
            assert "HTTP 200" in (await downs(xzpipe, 1))[0]["cause"]
