"""One turn of the loop, one write; and a bound."""

import anyio
import pytest

from xzpipe.outbox import OUTBOX_BYTES, OUTBOX_MESSAGES, Outbox

pytestmark = pytest.mark.anyio


class Transport:
    """Takes what is written; `stuck` bytes of it are not taken by the peer."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.stuck = 0
        self.closing = False

    def writelines(self, parts) -> None:
        self.writes.append(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return self.stuck

    def is_closing(self) -> bool:
        return self.closing


def outbox() -> tuple[Outbox, Transport]:
    transport = Transport()
    return Outbox(transport, lambda messages: [b"<%b>" % each for each in messages]), transport


async def a_turn_of_the_loop() -> None:
    await anyio.lowlevel.checkpoint()


async def test_what_is_put_in_one_turn_leaves_in_one_write():
    box, transport = outbox()
    assert all(map(box.put, (b"a", b"b", b"c")))
    assert transport.writes == []
    await a_turn_of_the_loop()
    assert transport.writes == [b"<a><b><c>"]
    assert box.put(b"d")
    await a_turn_of_the_loop()
    assert transport.writes == [b"<a><b><c>", b"<d>"]


async def test_there_is_room_for_so_many_messages_in_a_turn():
    box, _ = outbox()
    taken = [box.put(b"x") for _ in range(OUTBOX_MESSAGES + 1)]
    assert taken == [True] * OUTBOX_MESSAGES + [False]
    await a_turn_of_the_loop()
    assert box.put(b"x")


async def test_there_is_room_for_so_many_bytes_and_the_peers_unread_ones_count():
    box, transport = outbox()
    half = b"x" * (OUTBOX_BYTES // 2)
    assert box.put(half)
    assert box.put(half)
    assert not box.put(b"x")
    await a_turn_of_the_loop()
    transport.stuck = OUTBOX_BYTES
    assert not box.put(b"x")
    transport.stuck = 0
    assert box.put(b"x")


async def test_a_peer_that_is_gone_takes_nothing():
    box, transport = outbox()
    assert box.put(b"on its way")
    transport.closing = True
    assert not box.put(b"late")
    await a_turn_of_the_loop()
    assert transport.writes == []


async def test_a_message_that_is_alone_has_room_whatever_its_size():
    box, transport = outbox()
    large = b"x" * (OUTBOX_BYTES + 1)
    assert box.put(large)
    assert not box.put(b"x")
    await a_turn_of_the_loop()
    assert transport.writes == [b"<%b>" % large]


async def test_when_nothing_is_packed_nothing_is_written():
    transport = Transport()
    box = Outbox(transport, lambda messages: ())
    assert box.put(b"x")
    await a_turn_of_the_loop()
    assert transport.writes == []
