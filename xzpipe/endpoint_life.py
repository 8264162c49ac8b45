"""One endpoint and its links: one for each server, or one for all of them."""

from collections.abc import Callable

import anyio

from xzpipe.bridge import Bridge
from xzpipe.core.backoff import Backoff
from xzpipe.core.link_events import ModeSwitched
from xzpipe.core.plan import Mode, Plan
from xzpipe.core.rivals import Rivals
from xzpipe.link_life import Displaced, keep_link
from xzpipe.websocket import Dialling

# seconds; a self-hosted endpoint that has not done with an old connection forgets the new one when
# it does (wire.md §3)
PAUSE = 3.0


async def keep_endpoint(
    bridge: Bridge,
    plan: Plan,
    dialling: Dialling,
    backoff: Callable[[], Backoff],
    pause: float = PAUSE,
) -> None:
    """Keep the links of a plan up until cancelled. In mode auto, the servers share one link as soon
    as their own throw each other out; none of them is restarted for it."""
    if plan.mode is not Mode.AGGREGATE:
        await _apart(bridge, plan, dialling, backoff)
        bridge.emit(ModeSwitched(plan.together().name, plan.servers))
        await anyio.sleep(pause)
    await keep_link(bridge, plan.together(), dialling, backoff(), Rivals())


async def _apart(
    bridge: Bridge, plan: Plan, dialling: Dialling, backoff: Callable[[], Backoff]
) -> None:
    """A link for each server, until they are found to throw each other out, and all are closed."""
    rivals = Rivals()
    shares = plan.mode is Mode.AUTO and len(plan.servers) > 1
    try:
        async with anyio.create_task_group() as links:
            for link in plan.apart():
                links.start_soon(keep_link, bridge, link, dialling, backoff(), rivals, shares)
    except* Displaced:
        pass
