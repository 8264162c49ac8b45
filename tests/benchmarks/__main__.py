"""python -m tests.benchmarks [--quick] [--only throughput,latency,…] [--rounds N] [--json FILE]"""

import argparse
import asyncio
import os
import platform
from pathlib import Path

import msgspec
import websockets

from tests.benchmarks import endpoint, lives, loads, pure
from tests.benchmarks.bridges import LOOPS
from tests.benchmarks.report import Table, as_json, show

BENCHMARKS = {
    "hub": pure.hub,
    "throughput": loads.throughput,
    "latency": loads.latency,
    "many": loads.many,
    "aggregate": loads.aggregate,
    "memory": lives.memory,
    "start": lives.start,
    "idle": lives.idle,
    "endpoint": endpoint.endpoint,
}
ROUNDS = 9
QUICK_ROUNDS = 5
QUICK_SHARE = 0.25  # of the calls of a round


async def run(names: list[str], rounds: int, share: float) -> list[Table]:
    """Run these benchmarks, and show each table when it is there."""
    tables = []
    for name in names:
        async for table in BENCHMARKS[name](rounds, share):
            show(table)
            tables.append(table)
    return tables


def chosen(text: str) -> list[str]:
    """The benchmarks that `--only` names, in our order."""
    names = text.split(",")
    for name in names:
        if name not in BENCHMARKS:
            raise argparse.ArgumentTypeError(f"{name!r}: there are {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in names]


def machine() -> str:
    """What the figures depend on."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}, "
        f"{os.cpu_count()} cores, load {load}; websockets {websockets.__version__}, "
        f"msgspec {msgspec.__version__}, loops: {', '.join(LOOPS)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=machine())
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter ones")
    parser.add_argument("--only", type=chosen, metavar="NAME,…", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, or {QUICK_ROUNDS} if quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    asked = parser.parse_args()
    print(f"{machine()}\n")
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    share = QUICK_SHARE if asked.quick else 1.0
    tables = asyncio.run(run(asked.only or list(BENCHMARKS), rounds, share))
    if asked.json:
        asked.json.write_text(as_json(tables))


main()
