"""The init by itself: its process is told that it is PID 1. In a namespace, where it is: e2e."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from xzpipe.init import run_as_init

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
ADOPTS_ORPHANS = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
WAIT = 20.0  # seconds; no test waits that long unless something is broken

SCRIPT = """
import os, signal, sys
from xzpipe.init import run_as_init
{before}
def main():
    {body}
sys.exit(run_as_init(main, pid=1))
"""


@contextmanager
def init(body: str, before: str = "", **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process that holds itself for PID 1 and runs this body of `main`."""
    script = SCRIPT.format(before=before, body="\n    ".join(body.strip().splitlines()))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for left in (*psutil.Process(process.pid).children(recursive=True), process):
                    left.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_any_other_process_runs_it_itself():
    ran_in: list[int] = []

    def main() -> int:
        ran_in.append(os.getpid())
        return 7

    assert run_as_init(main, pid=os.getpid()) == 7
    assert ran_in == [os.getpid()]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return 0", 0),
        ("return 3", 3),
        ("sys.exit(70)", 70),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
def test_the_exit_code_is_that_of_the_child_or_tells_the_signal(body, code):
    with init(body) as process:
        assert process.wait(WAIT) == code


def test_every_signal_reaches_the_child_once():
    wait_for_all = f"""
signals = {{getattr(signal, name) for name in {SIGNALS}}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
for _ in signals:
    print(signal.sigwait(signals).name, flush=True)
print(len(signal.sigpending()), flush=True)
return 0"""
    with init(wait_for_all) as process:
        assert line(process) == "ready"
        for name in SIGNALS:
            process.send_signal(getattr(signal, name))
            assert line(process) == name
        assert line(process) == "0"
        assert process.wait(WAIT) == 0


def test_a_signal_that_comes_at_the_moment_of_the_fork_is_kept_for_the_child():
    before = "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))"
    with init("signal.pause()", before) as process:
        assert process.wait(WAIT) == 143


def test_the_child_blocks_no_more_signals_than_before():
    before = "signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])"
    body = "print(*signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True); return 0"
    with init(body, before) as process:
        assert line(process) == str(signal.SIGUSR2.value)


@pytest.mark.skipif(not ADOPTS_ORPHANS, reason="only Linux can make a process adopt orphans")
def test_orphans_are_reaped_while_the_child_lives_on():
    before = "import ctypes; ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER"
    make_orphans = """
import subprocess
subprocess.run(["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do (sleep 600 & echo $!) ; done"])
print("ready", flush=True)
signal.pause()"""
    with init(make_orphans, before) as process:
        orphans = [psutil.Process(int(line(process))) for _ in range(8)]
        assert line(process) == "ready"
        assert {each.ppid() for each in orphans} == {process.pid}
        for each in orphans:
            each.kill()
        _, left = psutil.wait_procs(orphans, timeout=WAIT)
        assert left == []
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 143


def test_the_exits_of_the_childs_own_children_are_left_to_it():
    body = 'import subprocess; return subprocess.run(["sh", "-c", "exit 5"]).returncode'
    with init(body) as process:
        assert process.wait(WAIT) == 5


def test_the_child_has_the_foreground_of_the_terminal_and_ctrl_c_comes_to_it_alone():
    terminal, its_side = os.openpty()
    before = f"shown = os.dup(1); os.login_tty({its_side}); os.dup2(shown, 1)"
    body = """
print("its own:", os.tcgetpgrp(0) == os.getpgrp() == os.getpid(), flush=True)
print("as the init:", os.getpgrp() == os.getpgid(os.getppid()), flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    return 130"""
    with init(body, before, pass_fds=[its_side]) as process:
        assert line(process) == "its own: True"
        assert line(process) == "as the init: False"
        os.write(terminal, b"\x03")
        assert process.wait(WAIT) == 130
    os.close(terminal)
    os.close(its_side)


def test_without_a_terminal_it_runs_as_well():
    with init("return 4", stdin=subprocess.DEVNULL, start_new_session=True) as process:
        assert process.wait(WAIT) == 4
    with init("return 4", "os.close(0)", start_new_session=True) as process:
        assert process.wait(WAIT) == 4
