"""Composition: a config becomes servers, links and a hub; signals end them."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from secrets import token_urlsafe

import anyio

from xzpipe.bridge import Emit
from xzpipe.calling import longest_call
from xzpipe.client import GRACE
from xzpipe.config.load import Config
from xzpipe.core.admission import MCP_PATH, Rules
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, Reloaded, ReloadFailed, ServerReady
from xzpipe.errors import INTERRUPTED, XzpipeError
from xzpipe.fleet import Fleet, needed, serving
from xzpipe.guard import Guard
from xzpipe.process import POSIX
from xzpipe.serve import Serving, listening

Body = Callable[[Guard], Awaitable[int]]


def main(body: Body) -> int:
    """Run `body` in an event loop until it ends or a signal ends it; the exit code.

    SIGTERM: 0, since it did as it was told. SIGINT: 130. A second signal kills the servers at once.
    """
    fast = find_spec("uvloop") is not None
    return anyio.run(_until_signalled, body, backend_options={"use_uvloop": fast})


async def _until_signalled(body: Body) -> int:
    codes: list[int] = []
    async with Guard() as guard, anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            if POSIX:  # elsewhere Ctrl-C arrives as KeyboardInterrupt
                await tasks.start(_heed_signals, guard, scope, codes)
            codes.append(await body(guard))
        tasks.cancel_scope.cancel()
    return codes[0]


async def _heed_signals(
    guard: Guard,
    scope: anyio.CancelScope,
    codes: list[int],
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if scope.cancel_called:
                guard.kill()
                os._exit(codes[0])  # whoever asks twice does not want to wait for anything
            codes.append(INTERRUPTED if number == signal.SIGINT else 0)
            scope.cancel()


async def run(
    guard: Guard, config: Config, emit: Emit, reload: Callable[[], Config] | None = None
) -> int:
    """Keep the servers of a config linked to its endpoints, for ever. Servers that no endpoint sees
    are not started. At SIGHUP, `reload` gives the config to go on with; what is as it was lives on
    untouched, and of a bad one nothing is taken."""
    async with serving(guard, needed(config), emit) as (_, fleet):
        if POSIX and reload is not None:
            await _reload_when_told(fleet, emit, reload)
        else:
            await anyio.sleep_forever()
    return 0


async def _reload_when_told(fleet: Fleet, emit: Emit, reload: Callable[[], Config]) -> None:
    """Reload at each SIGHUP, until one comes because our terminal has gone."""
    at_terminal = os.isatty(2)
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if at_terminal and not os.isatty(2):
                return
            try:
                config = reload()
            except XzpipeError as error:
                emit(ReloadFailed(error.message, error.hint))
                continue
            await fleet.apply(needed(config))
            emit(Reloaded(tuple(launch.name for launch in config.servers)))


def linked_to(endpoint: Endpoint, config: Config) -> Config:
    """The same config with all servers linked to this endpoint alone: one of our own, which tells
    servers apart and hears of changed lists."""
    servers = frozenset(launch.name for launch in config.servers)
    plan = config.everything.only(servers)
    plan = replace(plan, address=endpoint, server_id=True, rereads=False)
    return replace(config, plans=(plan,))


def local_serving(config: Config) -> Serving:
    """How an endpoint of our own is to be, for the servers of a config: each token is an agent."""
    return Serving(
        Rules(agent_of=str),
        call_timeout=longest_call(config) + GRACE,
        max_message_bytes=config.settings.max_message_bytes,
        names_agents=False,  # they are secrets here
    )


@asynccontextmanager
async def local_endpoint(config: Config, emit: Emit) -> AsyncIterator[Endpoint]:
    """The address of an endpoint of our own on this machine, for the servers of a config."""
    async with listening(local_serving(config), emit) as local:
        yield Endpoint(f"ws://127.0.0.1:{local.port}{MCP_PATH}?token={token_urlsafe(12)}")


async def run_local(
    guard: Guard,
    config: Config,
    emit: Emit,
    announce: Callable[[Endpoint], None],
    reload: Callable[[], Config] | None = None,
) -> int:
    """`run` with an endpoint of our own; `announce` is told its address once a server is there."""
    ready = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, ServerReady):
            ready.set()

    async with local_endpoint(config, watch) as endpoint, anyio.create_task_group() as tasks:
        again = None if reload is None else (lambda: linked_to(endpoint, reload()))
        tasks.start_soon(run, guard, linked_to(endpoint, config), emit, again)
        await ready.wait()
        announce(endpoint)
    return 0
