"""`xzpipe endpoint serve`: with many connections, and next to a relay that knows nothing.

Servers and callers are both played here, on connections that cost a few µs a message.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar
from urllib.parse import quote

from tests.benchmarks.bridges import HERE, LOOPS, NOT_INHERITED, WITHOUT_UVLOOP, Bridge
from tests.benchmarks.driver import START, WAIT, Peer, drive, header
from tests.benchmarks.lives import MB, SETTLE
from tests.benchmarks.loads import Load, Subject, in_turn, scaled
from tests.benchmarks.report import Table, middle, percentile, ratio, spread
from xzpipe.agent_token import token_of

AGENTS, EACH = 100, 5  # so many agents; so many servers and as many callers of each
CALLING = Load(200, AGENTS, 20_000)
RELAYED = (Load(200, 64, 12_000), Load(1_000, 64, 10_000))
DESCRIPTORS = 2 * AGENTS * EACH + 100  # open files: of this process, and of the endpoint server

ANSWERED = {0x88: 0x88, 0x89: 0x8A}  # a close frame; a ping, by a pong

_call = re.compile(
    rb'\{"jsonrpc":"2\.0","id":(\d+),"method":"tools/call",'
    rb'"params":\{"name":"\w+","arguments":\{"text":"([^"\\]*)"\}\}\}'
).fullmatch


class Dialled(Peer, asyncio.Protocol):
    """A WebSocket that was opened here: a caller's."""

    def __init__(self, path: str, tool: str = "echo") -> None:
        super().__init__(tool)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.write = self.transport.write
        self.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def head(self, size: int) -> bytes:
        first, length, *more = header(0x81, size)
        return bytes((first, 0x80 | length, *more, 0, 0, 0, 0))  # a mask that changes nothing

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self.opened.done():
            answer, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in answer:
                self.opened.set_exception(RuntimeError(answer.decode()))
                return
            self._buffer = rest
            self.opened.set_result(None)
        self._frames()

    def _frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            end = start + size
            if end > len(buffer):
                break
            if buffer[at] == 0x81:
                self.receive(buffer[start:end])
            elif buffer[at] in ANSWERED:  # with the same
                head = bytes((ANSWERED[buffer[at]],)) + self.head(size)[1:]
                self.write(head + buffer[start:end])
            at = end
        self._buffer = buffer[at:]


D = TypeVar("D", bound=Dialled)


class Echo(Dialled):
    """A server's: one tool, which gives back a text. One write for all that came at once."""

    def __init__(self, path: str, tool: str = "echo") -> None:
        super().__init__(path, tool)
        self.receive = self._asked
        self.listed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers: list[bytes] = []

    def _frames(self) -> None:
        super()._frames()
        if self._answers:
            self.write(b"".join(self._answers))
            self._answers.clear()

    def _asked(self, message: bytes) -> None:
        call = _call(message)
        if call:
            id, text = call.groups()
            answer = START + id + b',"result":{"content":[{"type":"text","text":"' + text + b'"}]}}'
            self._answers += (self.head(len(answer)), answer)
        else:
            self._answer(json.loads(message))

    def _answer(self, message: dict[str, object]) -> None:
        results: dict[object, object] = {
            "initialize": {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {}},
            "tools/list": {"tools": [{"name": self.tool, "inputSchema": {"type": "object"}}]},
        }
        if "id" in message:
            result = results.get(message["method"], {})
            answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
            self._answers += (self.head(len(answer)), answer)
        if message["method"] == "tools/list":
            self.listed.set_result(None)


@dataclass(frozen=True)
class Middle:
    """A program in the middle: "relay" or "xzpipe"."""

    kind: str
    loop: str

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.loop}"

    def argv(self, folder: str) -> list[str]:
        if self.kind == "relay":
            return [sys.executable, str(HERE / "relay.py")]
        start = ["-m", "xzpipe"] if self.loop == "uvloop" else ["-c", WITHOUT_UVLOOP]
        options = ["--port", "0", "--key-file", f"{folder}/key"]
        return [sys.executable, *start, "endpoint", "serve", *options]


class Running:
    """Such a program, which listens."""

    def __init__(self, bridge: Bridge, port: int, key: str) -> None:
        self.bridge = bridge
        self._port = port
        self._key = key

    async def server(self, agent: str, number: int = 0, tool: str = "echo") -> Echo:
        """A server, which an endpoint server knows by now."""
        echo = Echo(f"{self._path('mcp', agent)}&server_id=s{number}", tool)
        await self._opened(echo)
        if self._key:
            await asyncio.wait_for(echo.listed, WAIT)
        return echo

    async def caller(self, agent: str, tool: str = "echo") -> Dialled:
        return await self._opened(Dialled(self._path("call", agent), tool))

    def _path(self, side: str, agent: str) -> str:
        if not self._key:
            return f"/{side}/?"
        return f"/mcp_endpoint/{side}/?token={quote(token_of(agent, self._key), safe='')}"

    async def _opened(self, peer: D) -> D:
        await asyncio.get_running_loop().create_connection(lambda: peer, "127.0.0.1", self._port)
        await asyncio.wait_for(peer.opened, WAIT)
        return peer


@contextlib.asynccontextmanager
async def listening(program: Middle) -> AsyncIterator[Running]:
    """Start a program and wait until it listens."""
    env = {k: v for k, v in os.environ.items() if not k.startswith((*NOT_INHERITED, "RELAY_"))}
    if program.loop == "uvloop":
        env["RELAY_UVLOOP"] = "1"
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *program.argv(folder), env=env, cwd=HERE.parents[1], stdin=DEVNULL, stdout=PIPE,
            stderr=log,
        )  # fmt: skip
        try:
            await asyncio.wait_for(process.stdout.readuntil(b"127.0.0.1:"), WAIT)
            rest = await asyncio.wait_for(process.stdout.readline(), WAIT)
            key = Path(folder, "key")
            known = key.read_text().strip() if key.exists() else ""
            yield Running(Bridge(process, (), 0.0), int(rest.split(b"/")[0]), known)
        except BaseException:
            print(f"{program.name} wrote:\n{Path(log.name).read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


async def endpoint(rounds: int, share: float) -> AsyncIterator[Table]:
    """Many connections that are idle, some of which then call; and the relay."""
    yield await crowd(rounds, share)
    for load in RELAYED:
        yield await relayed(rounds, scaled(load, share))


async def crowd(rounds: int, share: float, agents: int = AGENTS, settle: float = SETTLE) -> Table:
    """Idle connections, half of them servers; then a caller of each agent calls at once. `settle`:
    seconds from the last connection to a look at the memory."""
    _allow_descriptors()
    load = scaled(Load(CALLING.size, agents, CALLING.calls), share)
    idle = 2 * agents * EACH
    title = f"Endpoint with {idle:,} connections; {agents} callers at once, {load.size} B both ways"
    columns = ("", "RSS MB alone", "… with all", "kB each", "calls/s", "median ms", "95th ms")
    table = Table(title, columns)
    for loop in LOOPS:
        program = Middle("xzpipe", loop)
        async with listening(program) as running:
            alone = running.bridge.process.memory_info().rss
            callers = []
            for agent in map(str, range(agents)):
                for n in range(EACH):
                    await running.server(agent, n, f"echo{n}")
                for n in range(EACH):
                    callers.append(await running.caller(agent, f"echo{n}"))
                    await callers[-1].handshake()
            await asyncio.sleep(settle)
            held = running.bridge.process.memory_info().rss
            calling = callers[::EACH]
            await drive(calling, load.size, load.calls, load.in_flight)
            rates, medians, late = [], [], []
            for _ in range(rounds):
                run = await drive(calling, load.size, load.calls, load.in_flight)
                rates.append(len(run.latencies) / run.seconds)
                medians.append(median(run.latencies) * 1e3)
                late.append(percentile(run.latencies, 95) * 1e3)
        table.row(
            program.name,
            f"{alone / MB:.1f}",
            f"{held / MB:.1f}",
            f"{(held - alone) / idle / 1024:.1f}",
            spread(rates, ",.0f"),
            middle(medians, ".2f"),
            middle(late, ".2f"),
            rss=[alone / MB, held / MB],
            rates=rates,
            medians=medians,
            p95s=late,
        )
    return table


async def relayed(rounds: int, load: Load) -> Table:
    """One caller and one server: the endpoint server, and the relay, driven in turn."""
    columns = (
        "", "calls/s", "to relay", "to relay, same loop", "CPU µs/call", "to relay",
        "to relay, same loop",
    )  # fmt: skip
    table = Table(f"Endpoint to a relay: {load.words}", columns)
    middles = [Middle(kind, loop) for kind in ("relay", "xzpipe") for loop in LOOPS]
    async with contextlib.AsyncExitStack() as stack:
        subjects = {}
        for each in middles:
            running = await stack.enter_async_context(listening(each))
            await running.server("agent")
            caller = await running.caller("agent")
            if each.kind == "xzpipe":
                await caller.handshake()
            subjects[each.name] = Subject([caller], running.bridge)
        await in_turn(list(subjects.values()), load, rounds)
    first = subjects[middles[0].name].measured
    for each in middles:
        it, same = subjects[each.name].measured, subjects[f"relay/{each.loop}"].measured
        table.row(
            each.name,
            middle(it.rates),
            ratio(it.rates, first.rates),
            ratio(it.rates, same.rates),
            middle(it.cpu, ".1f"),
            ratio(it.cpu, first.cpu),
            ratio(it.cpu, same.cpu),
            rates=it.rates,
            cpu=it.cpu,
        )
    return table


def _allow_descriptors() -> None:
    """As many open files as are needed; children have as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise RuntimeError(f"this needs {DESCRIPTORS} open files: ulimit -n {DESCRIPTORS}")
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
