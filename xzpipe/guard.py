"""A watch over the servers' process groups, for the case that xzpipe itself is killed.

Most servers end when their stdin does; some do not (wire.md §6), and descendants may not either.
The guard is one small shell process that holds the other end of a pipe: when the pipe ends with
groups still on its list, it ends them.
"""

import asyncio
import contextlib
import os

import anyio

from xzpipe.process import KILL, POSIX, Child

SCRIPT = """
trap '' HUP INT TERM
groups=' '
while read -r what group; do
  case $what in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
[ "$groups" = ' ' ] && exit
sleep 2
for group in $groups; do kill -s TERM -- "-$group" 2>/dev/null; done
sleep 2
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""
GOODBYE = 2.0  # seconds for the guard itself to end, once it is told that nobody is left


class Guard:
    """Tell it of every group; leave it with none left. Does nothing on Windows."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Guard":
        if not POSIX:
            return self
        # where there is no shell, as in some containers, there is no guard: it is a second net
        with contextlib.suppress(FileNotFoundError):
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                SCRIPT,
                "xzpipe-guard",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.defpath},
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with anyio.move_on_after(GOODBYE, shield=True):
            self._process.stdin.close()
            await self._process.wait()

    def watch(self, child: Child) -> None:
        """A server was started."""
        self._children.append(child)
        self._tell(f"+ {child.pid}\n")

    def forget(self, child: Child) -> None:
        """A server and its descendants are gone."""
        self._children.remove(child)
        self._tell(f"- {child.pid}\n")

    def kill(self) -> None:
        """End all servers and their descendants at once."""
        for child in self._children:
            child.signal(KILL)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()  # nobody is left to watch over

    def _tell(self, text: str) -> None:
        stdin = self._process.stdin if self._process is not None else None
        if stdin is not None and not stdin.is_closing():  # it is closed if the guard was killed
            stdin.write(text.encode())
