"""All servers and endpoints of a bridge, made to be as a config says, at its start and at each
reload."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskGroup

from xzpipe.bridge import Bridge, Emit
from xzpipe.config.load import Config
from xzpipe.config.settings import Settings
from xzpipe.core.backoff import Backoff
from xzpipe.core.hub import Hub
from xzpipe.core.launch import Launch
from xzpipe.core.plan import Mode, Plan
from xzpipe.endpoint_life import EndpointLife
from xzpipe.guard import Guard
from xzpipe.kept import Kept
from xzpipe.server_life import keep_server
from xzpipe.websocket import Dialling


@dataclass(frozen=True, slots=True)
class _Server:
    """What makes a server another one when it changes."""

    launch: Launch
    settings: Settings


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What makes an endpoint another one when it changes; its plan may, link by link."""

    name: str
    mode: Mode
    dialling: Dialling
    settings: Settings


class Fleet:
    """What is kept alive. `tasks` must outlive it."""

    def __init__(self, tasks: TaskGroup, bridge: Bridge, guard: Guard) -> None:
        self._bridge = bridge
        self._guard = guard
        self._servers = Kept(tasks, self._serve)
        self._endpoints = Kept(tasks, self._link)
        self._plans: dict[str, Plan] = {}
        self._lives: dict[str, EndpointLife] = {}
        self._names: set[str] = set()
        self._one_at_a_time = anyio.Lock()

    async def apply(self, config: Config) -> None:
        """Keep the servers and links of this config from now on. What is as it was lives on
        untouched; what has changed ends and begins anew; the rest ends, or begins."""
        async with self._one_at_a_time:
            settings = config.settings
            self._bridge.hub.max_message_bytes = settings.max_message_bytes
            self._plans = {plan.name: plan for plan in config.plans}
            names = {launch.name for launch in config.servers}
            gone = self._names - names
            self._names = names
            await self._endpoints.change(
                {plan.name: _endpoint(plan, settings) for plan in config.plans}
            )
            for name, plan in self._plans.items():
                if name in self._lives:
                    await self._lives[name].change(plan)
            await self._servers.change(
                {launch.name: _Server(launch, settings) for launch in config.servers}
            )
            for server in gone:
                self._bridge.server_removed(server)

    async def _serve(self, server: _Server) -> None:
        settings = server.settings
        backoff = _backoff(settings, at_once=True)
        limit = settings.max_message_bytes
        await keep_server(self._bridge, server.launch, backoff, self._guard, limit)

    async def _link(self, wanted: _Endpoint) -> None:
        name = wanted.name
        plan = self._plans[name]
        life = EndpointLife(self._bridge, plan, wanted.dialling, lambda: _backoff(wanted.settings))
        self._lives[name] = life
        try:
            await life.run()
        finally:
            del self._lives[name]


@asynccontextmanager
async def serving(guard: Guard, config: Config, emit: Emit) -> AsyncIterator[tuple[Bridge, Fleet]]:
    """The servers and links of a config, kept alive behind one bridge until the block ends."""
    bridge = Bridge(Hub(max_message_bytes=config.settings.max_message_bytes), emit)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        fleet = Fleet(tasks, bridge, guard)
        await fleet.apply(config)
        yield bridge, fleet
        tasks.cancel_scope.cancel()


def needed(config: Config) -> Config:
    """The same config without the servers that no endpoint sees."""
    seen = {server for plan in config.plans for server in plan.servers}
    return replace(config, servers=tuple(each for each in config.servers if each.name in seen))


def _endpoint(plan: Plan, settings: Settings) -> _Endpoint:
    dialling = Dialling(plan.proxy, plan.headers, settings.max_message_bytes)
    return _Endpoint(plan.name, plan.mode, dialling, settings)


def _backoff(settings: Settings, at_once: bool = False) -> Backoff:
    return Backoff(
        settings.backoff_initial,
        settings.backoff_maximum,
        settings.backoff_reset,
        random.random,
        at_once,
    )
