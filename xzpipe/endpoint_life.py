"""One endpoint and its links: one for each server, or one for all of them."""

from collections.abc import Callable

import anyio

from xzpipe.bridge import Bridge
from xzpipe.core.backoff import Backoff
from xzpipe.core.link_events import ModeSwitched
from xzpipe.core.plan import Link, Mode, Plan
from xzpipe.core.rivals import Rivals
from xzpipe.kept import Kept
from xzpipe.link_life import Displaced, keep_link
from xzpipe.websocket import Dialling

# seconds; a self-hosted endpoint that has not done with an old connection forgets the new one when
# it does (wire.md §3)
PAUSE = 3.0


class EndpointLife:
    """Keeps the links of a plan up while `run` runs. In mode auto, the servers share one link as
    soon as their own throw each other out; none of them is restarted for it."""

    def __init__(
        self,
        bridge: Bridge,
        plan: Plan,
        dialling: Dialling,
        backoff: Callable[[], Backoff],
        pause: float = PAUSE,
    ) -> None:
        self._bridge = bridge
        self._plan = plan
        self._dialling = dialling
        self._backoff = backoff
        self._pause = pause
        self._rivals = Rivals()
        self._together = plan.mode is Mode.AGGREGATE
        self._links: Kept[Link] | None = None

    async def run(self) -> None:
        """Keep them until cancelled."""
        if not self._together:
            await self._apart()
            self._bridge.emit(ModeSwitched(self._plan.title, self._plan.servers))
            await anyio.sleep(self._pause)
            self._together, self._rivals = True, Rivals()
        await self._keep()

    async def change(self, plan: Plan) -> None:
        """Another plan of the same mode: links that are as they were live on."""
        self._plan = plan
        if self._links is not None:
            await self._links.change(self._wanted())

    async def _apart(self) -> None:
        """A link for each server, until they are found to throw each other out, and all are
        closed."""
        try:
            await self._keep()
        except* Displaced:
            pass

    async def _keep(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._links = Kept(tasks, self._link)
                await self._links.change(self._wanted())
                await anyio.sleep_forever()
        finally:
            self._links = None

    async def _link(self, link: Link) -> None:
        await keep_link(self._bridge, link, self._dialling, self._backoff(), self._rivals)

    def _wanted(self) -> dict[str, Link]:
        """The links by name; whether they may share one is as the plan says now."""
        links = [self._plan.together()] if self._together else self._plan.apart()
        self._rivals.share = self._plan.mode is Mode.AUTO and len(links) > 1
        return {link.name: link for link in links}
