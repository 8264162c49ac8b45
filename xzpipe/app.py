"""Composition: a config becomes servers, links and a hub; signals end them."""

import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from secrets import token_urlsafe

import anyio
from anyio.abc import TaskGroup

from xzpipe.bridge import Bridge, Emit, Peer
from xzpipe.client import GRACE, Session
from xzpipe.config.load import Config
from xzpipe.config.settings import Settings
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, ServerDown, ServerReady
from xzpipe.core.hub import Hub
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.verdict import judge
from xzpipe.errors import INTERRUPTED, CallError, ServerError
from xzpipe.guard import Guard
from xzpipe.link_life import keep_link
from xzpipe.process import POSIX
from xzpipe.serve import listening
from xzpipe.server_life import keep_server
from xzpipe.websocket import DialFailed, Dialling, dial

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


@asynccontextmanager
async def serving(
    guard: Guard, config: Config, emit: Emit
) -> AsyncIterator[tuple[Bridge, TaskGroup]]:
    """The servers of a config, kept alive behind one bridge until the block ends."""
    settings = config.settings
    bridge = Bridge(Hub(max_message_bytes=settings.max_message_bytes), emit)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        for launch in config.servers:
            backoff = _backoff(settings, at_once=True)
            limit = settings.max_message_bytes
            tasks.start_soon(keep_server, bridge, launch, backoff, guard, limit)
        yield bridge, tasks
        tasks.cancel_scope.cancel()


async def run(
    guard: Guard, config: Config, endpoint: Endpoint, emit: Emit, *, label: bool = False
) -> int:
    """Keep every server of a config linked to an endpoint, each by a link of its own, for ever.

    `label` adds each server's name to the address, for endpoints that tell them apart by it.
    """
    dialling = Dialling(config.settings.proxy, config.settings.max_message_bytes)
    async with serving(guard, config, emit) as (bridge, tasks):
        for launch in config.servers:
            name = launch.name
            address = endpoint.with_server_id(name) if label else endpoint
            backoff = _backoff(config.settings)
            tasks.start_soon(keep_link, bridge, name, frozenset({name}), address, dialling, backoff)
        await anyio.sleep_forever()
    return 0


@asynccontextmanager
async def local_endpoint(config: Config, emit: Emit) -> AsyncIterator[Endpoint]:
    """The address of an endpoint of our own on this machine, for the servers of a config."""
    limit, patience = config.settings.max_message_bytes, _longest_call(config) + GRACE
    async with listening(emit, max_message_bytes=limit, call_timeout=patience) as local:
        yield Endpoint(local.url(token_urlsafe(12)))


async def run_local(
    guard: Guard, config: Config, emit: Emit, announce: Callable[[Endpoint], None]
) -> int:
    """`run` with an endpoint of our own; `announce` is told its address once a server is there."""
    ready = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, ServerReady):
            ready.set()

    async with local_endpoint(config, watch) as endpoint, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(run, guard, config, endpoint, emit, label=True))
        await ready.wait()
        announce(endpoint)
    return 0


@asynccontextmanager
async def calling_servers(
    guard: Guard, config: Config, emit: Emit
) -> AsyncIterator[tuple[Session, Mapping[str, ServerDown]]]:
    """A session with all servers of a config, once each of them is ready or has failed; and how
    those have failed that did. Raises `ServerError` when none is ready.

    A failure is not emitted: it speaks of a next try, and nobody waits for that one.
    """
    waiting = {launch.name for launch in config.servers}
    failed: dict[str, ServerDown] = {}
    settled = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, ServerDown):
            failed[event.server] = event
        else:
            emit(event)
        if isinstance(event, ServerReady):
            failed.pop(event.server, None)  # its next try came in time after all
        if isinstance(event, ServerReady | ServerDown):
            waiting.discard(event.server)
            if not waiting:
                settled.set()

    async with serving(guard, config, watch) as (bridge, _):
        session = Session(partial(bridge.client_text, "command"), _longest_call(config) + GRACE)
        bridge.client_joined("command", Peer(session.receive, session.lost), view=None)
        if waiting:
            await settled.wait()
        if failed and len(failed) == len(config.servers):
            told = (f"{each.server}: {each.reason}{each.last_words}" for each in failed.values())
            raise ServerError("\n".join(told))
        await session.initialize()
        yield session, failed


@asynccontextmanager
async def calling_endpoint(endpoint: Endpoint) -> AsyncIterator[Session]:
    """A session over the calling side of an endpoint. Raises `CallError`."""
    try:
        socket = await dial(endpoint.call_side, Dialling())
    except DialFailed as failed:
        verdict = judge(failed.failure)
        raise CallError(f"{endpoint}: {verdict.cause}", verdict.hint) from None
    session = Session(socket.put)

    async def listen() -> None:
        session.lost(judge(await socket.run(session.receive)).cause)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            await session.initialize()
            yield session
        finally:
            await socket.close(1000)
            tasks.cancel_scope.cancel()


def _longest_call(config: Config) -> float:
    return max((launch.call_timeout for launch in config.servers), default=CALL_TIMEOUT)


def _backoff(settings: Settings, at_once: bool = False) -> Backoff:
    return Backoff(
        settings.backoff_initial,
        settings.backoff_maximum,
        settings.backoff_reset,
        random.random,
        at_once,
    )
