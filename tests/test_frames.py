"""Messages as they arrive: before anyone listens, in fragments, and when the peer stops reading."""

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.endpoints import broker
from tests.servers.session import WAIT
from xzpipe.frames import Dialled

pytestmark = pytest.mark.anyio


class Heard(list[bytes]):
    """The messages so far."""

    def __init__(self) -> None:
        super().__init__()
        self._more = anyio.Event()

    def __call__(self, message: bytes) -> None:
        self.append(message)
        self._more.set()
        self._more = anyio.Event()

    async def until(self, count: int) -> list[bytes]:
        with anyio.fail_after(WAIT):
            while len(self) < count:
                await self._more.wait()
        return list(self)


def dialled(url: str):
    return connect(url, create_connection=Dialled, compression=None, ping_interval=None)


async def test_what_comes_before_anyone_listens_is_kept_in_order():
    async with broker() as endpoint, dialled(endpoint.url) as connection:
        peer = await endpoint.accept()
        await peer.send("one")
        await peer.send("two")
        with anyio.fail_after(WAIT):  # a pong comes behind them
            await (await connection.ping())
        heard = Heard()
        connection.hand_to(heard)
        assert heard == [b"one", b"two"]
        await peer.send("three")
        assert await heard.until(3) == [b"one", b"two", b"three"]


async def test_a_message_in_fragments_is_one_message():
    async with broker() as endpoint, dialled(endpoint.url) as connection:
        peer = await endpoint.accept()
        heard = Heard()
        connection.hand_to(heard)
        await peer.connection.send(["a", "", "bc", "d"])
        await peer.connection.send(b"binary")
        assert await heard.until(2) == [b"abcd", b"binary"]


async def test_a_listener_that_fails_ends_the_connection_and_is_kept():
    bug = LookupError("a bug")

    def fail(_: bytes) -> None:
        raise bug

    async with broker() as endpoint, dialled(endpoint.url) as connection:
        peer = await endpoint.accept()
        connection.hand_to(fail)
        await peer.send("x")
        with anyio.fail_after(WAIT):
            await connection.wait_closed()
        assert connection.bug is bug


async def test_a_closing_connection_has_nothing_to_write():
    async with broker() as endpoint, dialled(endpoint.url) as connection:
        await endpoint.accept()
        assert list(connection.pack([b"x"]))
        await connection.close()
        assert list(connection.pack([b"x"])) == []


async def test_a_peer_that_takes_nothing_for_too_long_is_cut_off():
    class Hasty(Dialled):
        taken_within = 0.2

    async with broker() as endpoint:
        connecting = connect(
            endpoint.url, create_connection=Hasty, compression=None, ping_interval=None
        )
        async with connecting as connection:
            peer = await endpoint.accept()
            peer.stop_reading()
            for _ in range(40):  # more than the buffers of both kernels hold
                connection.transport.writelines(connection.pack([b"x" * 2**20]))
            with anyio.fail_after(WAIT):
                await connection.wait_closed()
            assert connection.close_code == 1006
