"""The programs that are compared, as processes: how each is started, and what it uses."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.benchmarks.driver import Broker, Peer, parted

HERE = Path(__file__).parent
ECHO = [sys.executable, "-I", "-S", str(HERE / "echo_server.py")]
WITHOUT_UVLOOP = (  # as if it were not installed
    "import sys; sys.modules['uvloop'] = None; from xzpipe.cli.main import entry; entry()"
)
AGGREGATE = ("--mode", "aggregate")
NOT_INHERITED = ("MCP_", "XZPIPE_", "PUMP_")


@dataclass(frozen=True)
class Program:
    """A bridge to measure. `options` are further ones of `xzpipe run`."""

    kind: str  # "pump" or "xzpipe"
    loop: str  # "asyncio" or "uvloop"
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join((f"{self.kind}/{self.loop}", *self.options))

    def argv(self, config: Path) -> list[str]:
        if self.kind == "pump":
            return [sys.executable, str(HERE / "pump.py"), *ECHO]
        start = ["-m", "xzpipe"] if self.loop == "uvloop" else ["-c", WITHOUT_UVLOOP]
        return [sys.executable, *start, "run", "--config", str(config), *self.options]

    @property
    def together(self) -> bool:
        """Whether all its servers share one link."""
        return AGGREGATE[-1] in self.options

    @property
    def env(self) -> dict[str, str]:
        return {"PUMP_UVLOOP": "1"} if (self.kind, self.loop) == ("pump", "uvloop") else {}


LOOPS = ("asyncio", "uvloop") if find_spec("uvloop") else ("asyncio",)
PUMP = Program("pump", "asyncio")
PUMPS = tuple(Program("pump", loop) for loop in LOOPS)
XZPIPES = tuple(Program("xzpipe", loop) for loop in LOOPS)
PROGRAMS = tuple(program for pair in zip(PUMPS, XZPIPES, strict=True) for program in pair)


class Bridge:
    """A running program and the far ends of its links."""

    def __init__(self, process: Process, peers: Sequence[Peer], started: float) -> None:
        self.peers = peers
        self.started = started  # seconds from its start to the last link's tool list
        self.process = psutil.Process(process.pid)
        self._clock = ~process.pid << 3 | 2  # clock_getcpuclockid(3); Linux

    def cpu(self) -> float:
        """CPU seconds used so far by all its threads, not by its children; to the microsecond."""
        if sys.platform == "linux":
            return time.clock_gettime(self._clock)
        used = self.process.cpu_times()
        return used.user + used.system

    def switches(self) -> tuple[int, int]:
        """Context switches so far of its main thread: voluntary, involuntary."""
        switches = self.process.num_ctx_switches()
        return switches.voluntary, switches.involuntary

    def peak(self) -> float:
        """The most memory that it ever had resident, in MB; Linux."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextlib.asynccontextmanager
async def bridged(program: Program, broker: Broker, servers: int = 1) -> AsyncIterator[Bridge]:
    """A program that bridges so many echo servers to `broker`: each with a link of its own, or all
    `together`, when each has a tool of its own, and is one of the peers."""
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "mcp_config.json"), Path(folder, "log")
        tools = [f"echo{n}" if program.together else "echo" for n in range(servers)]
        entries = {
            f"s{n}": {"command": ECHO[0], "args": [*ECHO[1:], tool]} for n, tool in enumerate(tools)
        }
        config.write_text(json.dumps({"mcpServers": entries}))
        begun = time.perf_counter()
        process = await _start(program, config, broker.url, log)
        try:
            peers = await _accepted(broker, tools, program.together)
            yield Bridge(process, peers, time.perf_counter() - begun)
        except BaseException:
            print(f"{program.name} wrote:\n{log.read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _accepted(broker: Broker, tools: Sequence[str], together: bool) -> list[Peer]:
    if together:
        return parted(await broker.accept(tools), tools)
    async with asyncio.TaskGroup() as tasks:
        accepted = [tasks.create_task(broker.accept()) for _ in tools]
    return [each.result() for each in accepted]


async def _start(program: Program, config: Path, endpoint: str, log: Path) -> Process:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_INHERITED) and not name.lower().endswith("_proxy")
    }
    env |= {"MCP_ENDPOINT": endpoint, **program.env}
    with log.open("wb") as stderr:
        return await asyncio.create_subprocess_exec(
            *program.argv(config),
            cwd=config.parent,
            env=env,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=stderr,
        )
