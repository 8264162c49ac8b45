"""Processes: the memory they hold, how soon they are there, what they do when nothing happens."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from time import perf_counter

import psutil

from tests.benchmarks.bridges import ECHO, PROGRAMS, PUMP, PUMPS, XZPIPES, bridged
from tests.benchmarks.driver import Broker, directly, drive
from tests.benchmarks.loads import DIRECT, HEAVY, SERVERS
from tests.benchmarks.report import Samples, Table, ratio, spread

MB = 2**20
SETTLE = 1.0  # seconds from the last link to a look at the memory
PASS = "python -c pass"
VERSION = "xzpipe --version"
COMMANDS = {
    PASS: [sys.executable, "-c", "pass"],
    VERSION: [sys.executable, "-m", "xzpipe", "--version"],
}


async def memory(rounds: int, share: float) -> AsyncIterator[Table]:
    """Idle, with more and more servers; then the peak of a run of the largest calls."""
    columns = ("idle", "servers", "RSS MB", "PSS MB", "USS MB", "RSS of each further server")
    table = Table("Memory of the bridge's process, without the servers", columns)
    for program, numbers in [(pump, (1,)) for pump in PUMPS] + [(x, SERVERS) for x in XZPIPES]:
        one = 0.0
        for servers in numbers:
            async with Broker().listening() as broker, bridged(program, broker, servers) as bridge:
                await asyncio.sleep(SETTLE)
                held = _held(bridge.process)
                guards = [_held(each) for each in bridge.process.children() if _is_guard(each)]
            one = one or held[0]
            further = f"{(held[0] - one) / (servers - 1):.2f} MB" if servers > 1 else ""
            _memory_row(table, program.name, str(servers), held, further)
        for guard in guards:
            _memory_row(table, f"guard of {program.name}", "", guard)
    yield table
    yield await _peaks(share)


def _held(process: psutil.Process) -> Samples:
    used = process.memory_full_info()
    return [each / MB for each in (used.rss, used.pss, used.uss)]


def _is_guard(process: psutil.Process) -> bool:
    return "xzpipe-guard" in process.cmdline()


def _memory_row(table: Table, name: str, servers: str, held: Samples, further: str = "") -> None:
    table.rows.append((name, servers, *(f"{each:.1f}" for each in held), further))
    table.samples[f"{name} {servers}".strip()] = {"rss_pss_uss": held}


async def _peaks(share: float) -> Table:
    load = HEAVY[-1]
    table = Table(f"Memory after {load.words}", ("", "RSS MB at its peak", "above idle, MB"))
    for program in PROGRAMS:
        async with Broker().listening() as broker, bridged(program, broker) as bridge:
            idle = bridge.peak()
            await drive(bridge.peers, load.size, int(load.calls * share), load.in_flight)
            peak = bridge.peak()
        table.row(program.name, f"{peak:.1f}", f"{peak - idle:.1f}", peak=[peak], idle=[idle])
    return table


async def start(rounds: int, share: float) -> AsyncIterator[Table]:
    """From the start of a process to the answer to tools/list; and the shortest command."""
    taken: dict[str, Samples] = {DIRECT: [], **{program.name: [] for program in PROGRAMS}}
    async with Broker().listening() as broker:
        for _ in range(rounds):
            begun = perf_counter()
            async with directly(ECHO):
                taken[DIRECT].append((perf_counter() - begun) * 1e3)
            for program in PROGRAMS:
                async with bridged(program, broker) as bridge:
                    taken[program.name].append(bridge.started * 1e3)
    yield _times("Start to the first tool list", taken, PUMP.name, "to the pump")
    commands: dict[str, Samples] = {name: [] for name in COMMANDS}
    for _ in range(2 * rounds):
        for name, argv in COMMANDS.items():
            begun = perf_counter()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            commands[name].append((perf_counter() - begun) * 1e3)
    yield _times("The shortest command", commands, PASS, f"to {PASS}")


def _times(title: str, taken: dict[str, Samples], base: str, words: str) -> Table:
    table = Table(title, ("", "median ms (middle half)", words))
    for name, samples in taken.items():
        table.row(name, spread(samples, ".0f"), ratio(samples, taken[base]), ms=samples)
    return table


async def idle(rounds: int, share: float) -> AsyncIterator[Table]:
    """What a connected bridge does while its server and its endpoint say nothing."""
    seconds = 60.0 if share == 1 else 10.0
    columns = ("", "CPU ms", "share of a core", "voluntary context switches", "involuntary")
    table = Table(f"Idle for {seconds:.0f} s, one server, keepalive pings only", columns)
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker().listening())
        bridges = {
            program.name: await stack.enter_async_context(bridged(program, broker))
            for program in PROGRAMS
        }
        await asyncio.sleep(SETTLE)
        before = {name: (each.cpu(), each.switches()) for name, each in bridges.items()}
        await asyncio.sleep(seconds)
        for name, bridge in bridges.items():
            cpu, (voluntary, involuntary) = before[name]
            used = bridge.cpu() - cpu
            switches = bridge.switches()
            table.row(
                name,
                f"{used * 1e3:.2f}",
                f"{used / seconds:.4%}",
                str(switches[0] - voluntary),
                str(switches[1] - involuntary),
                cpu_seconds=[used],
                voluntary=[switches[0] - voluntary],
            )
    yield table
