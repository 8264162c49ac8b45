"""A log that nobody reads costs lines, and nothing else."""

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.session import WAIT
from xzpipe.background import MOST, MOST_CHARACTERS, BackgroundStream


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    with contextlib.suppress(OSError):  # a test may have closed it
        os.close(writing)


def everything(descriptor: int) -> str:
    """All that can be read until the other end is closed."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read().decode()


def test_texts_are_written_in_order(pipe):
    reading, writing = pipe
    stream = BackgroundStream(writing)
    for number in range(500):
        assert stream.write(f"{number} 你\n") == len(f"{number} 你\n")
    stream.write("half a character: \ud800\n")
    stream.close()
    os.close(writing)
    expected = [*(f"{number} 你" for number in range(500)), "half a character: \\ud800"]
    assert everything(reading).splitlines() == expected


def test_a_reader_that_stalls_costs_lines_and_is_told_how_many(pipe):
    reading, writing = pipe
    stream = BackgroundStream(writing)
    for _ in range(MOST + 5_000):  # far more than a pipe and the queue hold
        stream.write("x" * 199 + "\n")
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(everything, reading)
        stream.close()
        os.close(writing)
        lines = read.result(WAIT).splitlines()
    dropped = [int(line.split()[0]) for line in lines if "were dropped" in line]
    assert sum(dropped) > 0
    assert sum(dropped) + len(lines) - len(dropped) == MOST + 5_000


def test_closing_writes_what_waits(pipe):
    reading, writing = pipe
    stream = BackgroundStream(writing)
    for number in range(50):
        stream.write(f"{number}\n")
    stream.close()
    assert os.read(reading, 65536) == b"".join(b"%d\n" % n for n in range(50))


def test_a_reader_that_is_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    stream = BackgroundStream(writing)
    stream.write("x\n")
    stream.close()
    os.close(writing)


def test_a_program_ends_though_nobody_reads_its_log():
    program = (
        "from xzpipe.background import BackgroundStream\n"
        "stream = BackgroundStream(2)\n"
        "for _ in range(20_000): stream.write('x' * 100 + '\\n')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert process.wait(WAIT) == 0
    process.stderr.close()


def test_what_waits_is_bounded_by_its_length_too(pipe):
    reading, writing = pipe
    stream = BackgroundStream(writing)
    for _ in range(100):
        stream.write("x" * (MOST_CHARACTERS // 10) + "\n")
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(everything, reading)
        stream.close()
        os.close(writing)
        lines = read.result(WAIT).splitlines()
    assert 9 <= sum(line.startswith("x") for line in lines) <= 12
