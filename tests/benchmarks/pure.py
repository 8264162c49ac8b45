"""The pure path: what the hub itself costs a call, without IO, an event loop, or a process."""

from collections.abc import AsyncIterator
from time import process_time

from tests.benchmarks.report import Table, spread
from tests.core.kit import seeing
from xzpipe.core.effects import ToServer
from xzpipe.core.hub import Hub
from xzpipe.core.jsonrpc import parse

SIZES = (200, 1_000, 50_000)
GREETING = b'{"protocolVersion":"2024-11-05","serverInfo":{"name":"echo","version":"1"}}'
TOOLS = b'{"tools":[{"name":"echo"}]}'


def answer(id: int, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (id, result)


def call(id: int, text: bytes) -> bytes:
    params = b'{"name":"echo","arguments":{"text":"%b"}}' % text
    return b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%b}' % (id, params)


def connected() -> tuple[Hub, int]:
    """A hub with a ready server and a client; and the id that it gives its next request."""
    hub = Hub()
    asked = hub.server_started("echo", 0.0)
    hub_id = next(int(parse(each.line).id) for each in asked if isinstance(each, ToServer))
    hub.server_line("echo", answer(hub_id, GREETING), 0.0)
    hub.server_line("echo", answer(hub_id + 1, TOOLS), 0.0)
    hub.client_joined("link", seeing("echo"))
    return hub, hub_id + 2


def per_call(size: int, calls: int) -> float:
    """µs for one call there and back."""
    hub, first = connected()
    text = b"x" * size
    result = b'{"content":[{"type":"text","text":"%b"}]}' % text
    pairs = [(call(id, text), answer(id, result)) for id in range(first, first + calls)]
    begun = process_time()
    for request, reply in pairs:
        hub.client_text("link", request, 0.0)
        effects = hub.server_line("echo", reply, 0.0)
    taken = process_time() - begun
    if getattr(effects[0], "text", None) != pairs[-1][1]:
        raise RuntimeError(f"not the answer expected: {effects!r:.300}")
    return taken / calls * 1e6


async def hub(rounds: int, share: float) -> AsyncIterator[Table]:
    """`Hub.client_text` and `Hub.server_line`, for calls that go through."""
    table = Table("The hub alone, both ways", ("text", "µs/call (middle half)", "best"))
    for size in SIZES:
        calls = max(100, int(min(20_000, 50_000_000 // size) * share))
        samples = [per_call(size, calls) for _ in range(2 * rounds)]
        table.row(f"{size:,} B", spread(samples), f"{min(samples):.2f}", us=samples)
    yield table
