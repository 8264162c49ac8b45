"""Composition: a config becomes servers, links and a hub; signals end them."""

import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from secrets import token_urlsafe

import anyio
from anyio.abc import TaskGroup

from xzpipe.bridge import Bridge, Emit, Peer
from xzpipe.client import ANSWER_WITHIN, CONNECT_WITHIN, GRACE, EndpointSession, Session
from xzpipe.config.load import Config
from xzpipe.config.settings import Settings
from xzpipe.core.admission import MCP_PATH, Rules
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, ServerDown, ServerReady
from xzpipe.core.hub import Hub
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.tools import Listed
from xzpipe.core.verdict import Cause, judge
from xzpipe.endpoint_life import keep_endpoint
from xzpipe.errors import INTERRUPTED, CallError, ServerError
from xzpipe.guard import Guard
from xzpipe.process import POSIX
from xzpipe.serve import Serving, listening
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


async def run(guard: Guard, config: Config, emit: Emit) -> int:
    """Keep the servers of a config linked to its endpoints, for ever. Servers that no endpoint sees
    are not started."""
    seen = {server for plan in config.plans for server in plan.servers}
    servers = tuple(launch for launch in config.servers if launch.name in seen)
    async with serving(guard, replace(config, servers=servers), emit) as (bridge, tasks):
        for plan in config.plans:
            dialling = Dialling(plan.proxy, plan.headers, config.settings.max_message_bytes)
            backoff = partial(_backoff, config.settings)
            tasks.start_soon(keep_endpoint, bridge, plan, dialling, backoff)
        await anyio.sleep_forever()
    return 0


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
        call_timeout=_longest_call(config) + GRACE,
        max_message_bytes=config.settings.max_message_bytes,
        names_agents=False,  # they are secrets here
    )


@asynccontextmanager
async def local_endpoint(config: Config, emit: Emit) -> AsyncIterator[Endpoint]:
    """The address of an endpoint of our own on this machine, for the servers of a config."""
    async with listening(local_serving(config), emit) as local:
        yield Endpoint(f"ws://127.0.0.1:{local.port}{MCP_PATH}?token={token_urlsafe(12)}")


async def run_local(
    guard: Guard, config: Config, emit: Emit, announce: Callable[[Endpoint], None]
) -> int:
    """`run` with an endpoint of our own; `announce` is told its address once a server is there."""
    ready = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, ServerReady):
            ready.set()

    async with local_endpoint(config, watch) as endpoint, anyio.create_task_group() as tasks:
        tasks.start_soon(run, guard, linked_to(endpoint, config), emit)
        await ready.wait()
        announce(endpoint)
    return 0


@dataclass(frozen=True, slots=True)
class Calling:
    """A session with servers; with those of a config, also how some have `failed`, and what each
    endpoint has `seen` of their tools, by its name."""

    session: Session
    failed: Mapping[str, ServerDown] = field(default_factory=dict)
    seen: Mapping[str, tuple[Listed, ...]] = field(default_factory=dict)


@asynccontextmanager
async def calling_servers(guard: Guard, config: Config, emit: Emit) -> AsyncIterator[Calling]:
    """A session with all servers of a config, once each of them is ready or has failed. Raises
    `ServerError` when none is ready.

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
        ask = partial(bridge.client_text, "command")
        session = Session(ask, _longest_call(config) + GRACE, user_tools=True)
        bridge.client_joined("command", Peer(session.receive, session.lost), config.everything.view)
        if waiting:
            await settled.wait()
        if failed and len(failed) == len(config.servers):
            told = (f"{each.server}: {each.reason}{each.last_words}" for each in failed.values())
            raise ServerError("\n".join(told))
        await session.initialize()
        yield Calling(session, failed, _seen(bridge.hub, config, emit))


def _seen(hub: Hub, config: Config, emit: Emit) -> dict[str, tuple[Listed, ...]]:
    seen: dict[str, tuple[Listed, ...]] = {}
    said: set[Event] = set()
    for plan in config.plans:
        tables = [hub.table(view) for view in plan.views()]
        seen[plan.name] = tuple(each for table in tables for each in table.routes.values())
        said.update(note for table in tables for note in table.notes)
    for note in sorted(said, key=str):
        emit(note)
    return seen


@asynccontextmanager
async def calling_endpoint(
    endpoint: Endpoint,
    answer_within: float = ANSWER_WITHIN,
    connect_within: float = CONNECT_WITHIN,
) -> AsyncIterator[Session]:
    """A session over the calling side of an endpoint; limits in seconds. Raises `CallError`."""
    try:
        socket = await dial(endpoint.call_side, Dialling(open_timeout=connect_within))
    except DialFailed as failed:
        verdict = judge(failed.failure)
        late = f" ({connect_within:g} s)" if failed.failure.cause is Cause.TIMEOUT else ""
        raise CallError(f"{verdict.cause}{late}: {endpoint}", verdict.hint) from None
    session = EndpointSession(socket.put, answer_within)

    async def listen() -> None:
        verdict = judge(await socket.run(session.receive))
        session.lost(verdict.cause, verdict.hint)

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
