"""The lives of one stdio server: spawn → ready → exited → again, whatever links do meanwhile."""

import anyio

from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.events import (
    ServerAdded,
    ServerDown,
    ServerRemoved,
    ServerStarting,
    ServerStopped,
    ServerWrote,
)
from xzpipe.core.launch import Launch
from xzpipe.errors import ServerError
from xzpipe.guard import Guard
from xzpipe.process import Child, spawn
from xzpipe.retry import Ended, keep

STOPPING = "xzpipe has stopped it"
SOON = 0.3  # seconds; of a process that ends, the end of its stdin may be noticed first


async def keep_server(
    bridge: Bridge, launch: Launch, backoff: Backoff, guard: Guard, max_line: int
) -> None:
    """Keep a server alive until cancelled; then stop it, and return when it is gone."""
    name = launch.name
    bridge.emit(ServerAdded(name))

    def down(reason: str, said: tuple[str, ...], lived: float) -> Ended:
        return Ended(lived, lambda wait: bridge.emit(ServerDown(name, reason, said, wait)))

    async def one_life() -> Ended:
        try:
            child = await spawn(
                launch,
                lambda line: bridge.server_line(name, line),
                lambda line: bridge.server_overlong(name, line),
                lambda text: bridge.emit(ServerWrote(name, text)),
                max_line,
            )
        except ServerError as error:
            return down(f"{error.message}. {error.hint}".rstrip(". "), (), 0.0)
        guard.watch(child)
        bridge.emit(ServerStarting(name, child.pid))
        reason = STOPPING
        try:
            reason = await _serve(bridge, launch, child)
        finally:
            lived = bridge.hub.ready_for(name, bridge.now())
            bridge.server_exited(name, reason)
            how = await child.stop()
            guard.forget(child)
            if reason == STOPPING:
                bridge.emit(ServerStopped(name, how))
        return down(reason, tuple(child.last_words), lived)

    try:
        await keep(one_life, backoff)
    finally:
        bridge.emit(ServerRemoved(name))


async def _serve(bridge: Bridge, launch: Launch, child: Child) -> str:
    """Have the hub use a child until it exits, or the hub is done with it; why that was."""
    reason = ""
    scope = anyio.CancelScope()

    def drop(why: str) -> None:
        nonlocal reason
        reason = why
        scope.cancel()

    peer = Peer(child.write, drop)
    bridge.server_started(launch.name, peer, launch.start_timeout, launch.call_timeout)
    with scope:
        return await child.wait()
    with anyio.move_on_after(SOON):
        reason = f"{reason}; {await child.wait()}"
    return reason
