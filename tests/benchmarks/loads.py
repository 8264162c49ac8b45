"""Calls: how many a second, how long one takes, what it costs, and with many servers."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.bridges import (
    AGGREGATE,
    ECHO,
    PROGRAMS,
    PUMP,
    PUMPS,
    XZPIPES,
    Bridge,
    Program,
    bridged,
)
from tests.benchmarks.driver import Broker, Peer, directly, drive
from tests.benchmarks.report import Samples, Table, middle, percentile, ratio, spread

DIRECT = "direct stdio"
QUIET = tuple(Program("xzpipe", each.loop, ("-q",)) for each in XZPIPES)
SERVERS = (1, 10, 50)


@dataclass(frozen=True)
class Load:
    """Texts of `size` bytes both ways, `in_flight` at a time; a round makes `calls` of them."""

    size: int
    in_flight: int
    calls: int

    @property
    def words(self) -> str:
        return f"{self.size:,} B both ways, {self.in_flight} in flight"


HEAVY = (Load(200, 64, 12_000), Load(1_000, 64, 10_000), Load(50_000, 8, 1_500))
MANY = Load(200, 64, 4_000)
TOGETHER = (Load(200, 600, 24_000), Load(1_000, 600, 20_000), Load(200, 60, 12_000))
TEN = 10  # servers behind one link
SINGLE = (Load(200, 1, 4_000), Load(1_000, 1, 4_000))


@dataclass
class Measured:
    """One program's samples, one a round."""

    rates: Samples  # calls a second
    medians: Samples  # µs
    p99s: Samples  # µs
    cpu: Samples  # µs of the bridge's process for a call


class Subject:
    """Something to drive, and what came of it so far."""

    def __init__(self, peers: Sequence[Peer], bridge: Bridge | None) -> None:
        self._peers = peers
        self._bridge = bridge
        self.measured = Measured([], [], [], [])

    async def round(self, load: Load, keep: bool = True) -> None:
        before = self._bridge.cpu() if self._bridge else 0.0
        run = await drive(self._peers, load.size, load.calls, load.in_flight)
        used = (self._bridge.cpu() if self._bridge else 0.0) - before
        if keep:
            calls, into = len(run.latencies), self.measured
            into.rates.append(calls / run.seconds)
            into.medians.append(median(run.latencies) * 1e6)
            into.p99s.append(percentile(run.latencies, 99) * 1e6)
            into.cpu.append(used / calls * 1e6)


async def compare(programs: Sequence[Program], load: Load, rounds: int) -> dict[str, Measured]:
    """Each program, and direct stdio, driven in turn: every second round in reverse order. They
    all run all the time; those whose turn it is not are idle."""
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker().listening())
        direct = await stack.enter_async_context(directly(ECHO))
        subjects = {DIRECT: Subject([direct], None)}
        for program in programs:
            bridge = await stack.enter_async_context(bridged(program, broker))
            subjects[program.name] = Subject(bridge.peers, bridge)
        await in_turn(list(subjects.values()), load, rounds)
    return {name: subject.measured for name, subject in subjects.items()}


async def in_turn(subjects: list[Subject], load: Load, rounds: int) -> None:
    """Drive each, round after round."""
    for subject in subjects:
        await subject.round(load, keep=False)
    for number in range(rounds):
        for subject in subjects if number % 2 else reversed(subjects):
            await subject.round(load)


async def throughput(
    rounds: int, share: float, loads: Sequence[Load] = HEAVY
) -> AsyncIterator[Table]:
    """Calls a second, and CPU for a call. `share`: of the usual number of calls."""
    for load in loads:
        load = scaled(load, share)
        found = await compare((*PROGRAMS, *QUIET), load, rounds)
        ratios = ("to pump", "to pump, same loop")
        columns = ("", "calls/s", *ratios, "CPU µs/call", *ratios)
        table = Table(f"Throughput: {load.words}", columns)
        pump = found[PUMP.name]
        for name, it in found.items():
            same, used = found[_pump_like(name)], bool(it.cpu[0])
            table.row(
                name,
                middle(it.rates),
                ratio(it.rates, pump.rates),
                ratio(it.rates, same.rates) if used else "",
                middle(it.cpu, ".1f") if used else "",
                ratio(it.cpu, pump.cpu) if used else "",
                ratio(it.cpu, same.cpu) if used else "",
                rates=it.rates,
                cpu=it.cpu,
            )
        yield table


async def latency(rounds: int, share: float) -> AsyncIterator[Table]:
    """What one call takes when there is no other."""
    for load in SINGLE:
        load = scaled(load, share)
        found = await compare((*PROGRAMS, *QUIET), load, rounds)
        columns = (
            "",
            "median µs",
            "to pump",
            "to pump, same loop",
            "99th µs",
            "to pump",
            "CPU µs/call",
        )
        table = Table(f"Latency: {load.words}", columns)
        pump = found[PUMP.name]
        for name, it in found.items():
            used = bool(it.cpu[0])
            table.row(
                name,
                middle(it.medians),
                ratio(it.medians, pump.medians),
                ratio(it.medians, found[_pump_like(name)].medians) if used else "",
                middle(it.p99s),
                ratio(it.p99s, pump.p99s),
                middle(it.cpu, ".1f") if used else "",
                medians=it.medians,
                p99s=it.p99s,
                cpu=it.cpu,
            )
        yield table


async def many(rounds: int, share: float) -> AsyncIterator[Table]:
    """Calls a second over all links, with more and more servers behind one xzpipe."""
    load = scaled(MANY, share)
    for program in XZPIPES:
        async with contextlib.AsyncExitStack() as stack:
            broker = await stack.enter_async_context(Broker().listening())
            subjects = []
            for servers in SERVERS:
                bridge = await stack.enter_async_context(bridged(program, broker, servers))
                subjects.append(Subject(bridge.peers, bridge))
            await in_turn(subjects, load, rounds)
        title = f"{program.name} with more servers: {load.words} over all links"
        yield _to_the_first(title, dict(zip(map(str, SERVERS), subjects, strict=True)))


async def aggregate(
    rounds: int, share: float, programs: Sequence[Program] = XZPIPES
) -> AsyncIterator[Table]:
    """Ten servers behind one link, each called as often, to one server with a link of its own. Ten
    processes on few cores cost something by themselves: direct stdio shows what."""
    for program in programs:
        together = Program(program.kind, program.loop, AGGREGATE)
        lineup = [
            (program, 1, "separate"),
            (program, TEN, "separate"),
            (together, TEN, "aggregate"),
        ]
        driven: dict[str, tuple[Sequence[Peer], Bridge | None]] = {}
        async with contextlib.AsyncExitStack() as stack:
            broker = await stack.enter_async_context(Broker().listening())
            for each, servers, words in lineup:
                bridge = await stack.enter_async_context(bridged(each, broker, servers))
                driven[f"{servers}, {words}"] = bridge.peers, bridge
            for servers in (1, TEN):
                pipes = [await stack.enter_async_context(directly(ECHO)) for _ in range(servers)]
                driven[f"{servers}, {DIRECT}"] = pipes, None
            for load in TOGETHER:
                load = scaled(load, share)
                subjects = {name: Subject(*each) for name, each in driven.items()}
                await in_turn(list(subjects.values()), load, rounds)
                yield _to_the_first(f"{program.name}, all by one link: {load.words}", subjects)


def _to_the_first(title: str, subjects: Mapping[str, Subject]) -> Table:
    """What was measured with several numbers of servers, next to the first."""
    columns = ("servers", "calls/s over all", "to the first", "CPU µs/call", "to the first")
    table = Table(title, columns)
    first = next(iter(subjects.values())).measured
    for name, subject in subjects.items():
        it = subject.measured
        table.row(
            name,
            spread(it.rates, ",.0f"),
            ratio(it.rates, first.rates),
            middle(it.cpu, ".1f") if it.cpu[0] else "",
            ratio(it.cpu, first.cpu) if it.cpu[0] else "",
            rates=it.rates,
            cpu=it.cpu,
        )
    return table


def scaled(load: Load, share: float) -> Load:
    """With that share of its calls, but each in flight once at least."""
    return Load(load.size, load.in_flight, max(load.in_flight, int(load.calls * share)))


def _pump_like(name: str) -> str:
    """The pump with the same event loop."""
    return next((pump.name for pump in PUMPS if f"/{pump.loop}" in name), PUMP.name)
