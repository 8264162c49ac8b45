"""What is owed by PID 1 of a container that has no init: to reap every orphan, and to pass on
signals, which the kernel keeps from a PID 1 that has no handler for them.

asyncio waits for each of its children by pid, and `waitpid(-1)` beside it would take their exits
from it. So PID 1 forks before anything is started: it stays as the init, and its child is xzpipe.
That the child ends with it needs no care: with PID 1, the kernel kills all of its namespace.
"""

import contextlib
import os
import signal
from collections.abc import Callable


def run_as_init(main: Callable[[], int], pid: int) -> int:
    """Run `main`, in a child if `pid` is 1; the exit code for this process.

    It returns in both processes. Call it before there are threads, event loops or unflushed output.
    What a signal has ended counts as shells count it: 128 and the signal's number.
    """
    if pid != 1 or os.name != "posix":
        return main()
    passed_on = {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
    # From here on they wait in the queue: none is lost between the fork and the first sigwait, nor
    # ignored, as the kernel does with unblocked ones of PID 1. A process in the background that
    # blocks SIGTTOU may take the terminal.
    blocked = {*passed_on, signal.SIGCHLD, signal.SIGTTOU}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    child = os.fork()
    if child == 0:
        _lead_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return main()
    while True:
        number = signal.sigwait({*passed_on, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)
        elif (code := _reap(child)) is not None:
            return code


def _lead_the_terminal() -> None:
    """A group of its own in the foreground, or Ctrl-C would come twice: from the terminal and from
    the init. A second one kills at once."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # there is no terminal
        os.tcsetpgrp(0, os.getpgrp())


def _reap(child: int) -> int | None:
    """Reap whatever has ended by now: many ends may share one SIGCHLD. The exit code of `child`, if
    it is among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            return None
