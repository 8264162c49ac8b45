"""The sessions of `tools` and `call`: with a config's servers or over an endpoint, for a time."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from xzpipe.cli.options import Asked, Logging, environment
from xzpipe.errors import CallError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xzpipe.calling import Calling
    from xzpipe.core.events import Event
    from xzpipe.guard import Guard

    Body = Callable[[Calling], Awaitable[int]]

LIST_WITHIN = 10.0  # seconds over an endpoint, connecting included; as the console (wire.md §3)
CONNECT_SHARE = 0.8  # of that time, for connecting: the console's 8 s of 10
CALL_WITHIN = 310.0  # seconds; the broker's limit for a call is 300, and a tool is looked up first


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a session may take, in seconds: over an endpoint `usual`, unless that was `given`;
    with servers of ones own, which may have to be downloaded first, only what was given."""

    usual: float
    given: float | None = None


def hold(asked: Asked, endpoint: str | None, limit: Limit, logging: Logging, body: "Body") -> int:
    """Run `body` with a session; the exit code. Raises `XzpipeError`."""
    logging = logging.no_chattier_than("warning")
    if endpoint is None:
        return _with_servers(asked, limit, logging, body)
    if asked.config is not None or asked.command:
        raise UsageError(
            "--endpoint calls servers that run elsewhere: it goes with no --config and no COMMAND"
        )
    return _over_endpoint(endpoint, limit, logging, body)


def _with_servers(asked: Asked, limit: Limit, logging: Logging, body: "Body") -> int:
    from xzpipe import app, calling
    from xzpipe.core.events import ServerReady

    env = environment()
    config = asked.load(env)
    emit = logging.setup(env, config.secrets, config)
    unready = {launch.name: None for launch in config.servers}

    def hear(event: "Event") -> None:
        if isinstance(event, ServerReady):
            unready.pop(event.server, None)
        emit(event)

    async def main(guard: "Guard") -> int:
        opened = calling.calling_servers(guard, config, hear)
        return await _held(opened, limit.given, body, lambda: f"not ready: {', '.join(unready)}")

    return app.main(main)


def _over_endpoint(endpoint: str, limit: Limit, logging: Logging, body: "Body") -> int:
    from xzpipe import app, calling
    from xzpipe.core.endpoint import parse_endpoint

    address = parse_endpoint(endpoint, "--endpoint")
    logging.setup(environment(), address.secrets)
    connect_within = CONNECT_SHARE * (LIST_WITHIN if limit.given is None else limit.given)
    within = limit.usual if limit.given is None else limit.given

    @asynccontextmanager
    async def opened() -> "AsyncIterator[Calling]":
        async with calling.calling_endpoint(address, within, connect_within) as session:
            yield calling.Calling(session)

    async def main(_: "Guard") -> int:
        return await _held(opened(), within, body, lambda: f"{address} has not greeted us")

    return app.main(main)


async def _held(
    opened: AbstractAsyncContextManager["Calling"],
    within: float | None,
    body: "Body",
    lacking: Callable[[], str],
) -> int:
    """Run `body`; `lacking` tells what a session that is not there yet is waiting for."""
    import anyio

    calling = None
    with anyio.move_on_after(within) as whole:
        async with opened as calling:
            code = await body(calling)
            whole.deadline = inf  # what ends now has limits of its own
            return code
    waits = f"{calling.session.asks} is not answered" if calling else lacking()
    words = f"the {within:g} s for the whole session are over: {waits}"
    raise CallError(words, "Allow more with --timeout")
