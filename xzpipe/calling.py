"""The calling side of a command: a session with the servers of a config, or with an endpoint's."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from xzpipe.bridge import Emit, Peer
from xzpipe.client import ANSWER_WITHIN, CONNECT_WITHIN, GRACE, EndpointSession, Session
from xzpipe.config.load import Config
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, ServerDown, ServerReady
from xzpipe.core.hub import Hub
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.tools import Listed
from xzpipe.core.verdict import Cause, judge
from xzpipe.errors import CallError, ServerError
from xzpipe.fleet import serving
from xzpipe.guard import Guard
from xzpipe.websocket import DialFailed, Dialling, dial


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

    async with serving(guard, replace(config, plans=()), watch) as (bridge, _):
        ask = partial(bridge.client_text, "command")
        session = Session(ask, longest_call(config) + GRACE, user_tools=True)
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


def longest_call(config: Config) -> float:
    """The longest that a call of a server of this config may take, in seconds."""
    return max((launch.call_timeout for launch in config.servers), default=CALL_TIMEOUT)
