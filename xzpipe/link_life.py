"""The lives of one link: waiting → connecting → up → down → again, whatever servers do."""

from dataclasses import replace
from itertools import count

from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import redact
from xzpipe.core.link_events import (
    LinkAdded,
    LinkAnswered,
    LinkClosed,
    LinkDialling,
    LinkDown,
    LinkRemoved,
    LinkRenewed,
    LinkUp,
    LinkWaiting,
)
from xzpipe.core.plan import Link
from xzpipe.core.rivals import Rivals
from xzpipe.core.verdict import REPLACED, Action, Cause, Failure, judge
from xzpipe.retry import Ended, keep
from xzpipe.websocket import DialFailed, Dialling, dial

RENEWAL = 1.0  # seconds; an endpoint may have to notice first that the old connection is gone

_serials = count(1)


class Displaced(Exception):
    """Another connection took the place of a link that was not to wait for it to come free."""


async def keep_link(
    bridge: Bridge,
    link: Link,
    dialling: Dialling,
    backoff: Backoff,
    rivals: Rivals,
) -> None:
    """Keep a link up until cancelled; then close it with 1001.

    `rivals` are the links to the same endpoint. If another connection takes its place, a link whose
    rivals share raises `Displaced`, closed; any other gives way for the longest wait.
    """
    cookie = ""

    def down(failure: Failure, lived: float) -> Ended:
        nonlocal cookie
        if rivals.ended(link.name, failure, bridge.now()):
            if rivals.share:
                raise Displaced
            failure = Failure(Cause.CLOSED, 1000, REPLACED)
        cookie = "" if cookie else failure.cookie  # once it was sent back, that is enough
        reason = redact(failure.reason)  # a peer may say our token back to us
        verdict = judge(replace(failure, reason=reason, cookie=cookie))

        def announce(wait: float) -> None:
            bridge.emit(LinkDown(link.name, verdict.cause, verdict.hint, lived, wait))

        if verdict.action is Action.RENEW:
            renewed = LinkRenewed(link.name, lived, RENEWAL)
            return Ended(lived, lambda _: bridge.emit(renewed), exactly=RENEWAL)
        at_once = 0.0 if verdict.action is Action.RETRY_WITH_COOKIE else None
        give_way = verdict.action is Action.GIVE_WAY
        return Ended(lived, announce, backoff.maximum if give_way else verdict.at_least, at_once)

    async def one_life() -> Ended:
        if not bridge.hub.ready(link.view):
            bridge.emit(LinkWaiting(link.name))
            await bridge.until_ready(link.view)
        rivals.dialled(link.name, bridge.now())
        bridge.emit(LinkDialling(link.name))
        try:
            socket = await dial(link.address, dialling, cookie)
        except DialFailed as failed:
            return down(failed.failure, 0.0)
        client = f"{link.name}#{next(_serials)}"
        opened = bridge.now()
        rivals.opened(link.name, opened)
        bridge.client_joined(client, Peer(socket.put, socket.drop), link.view, link.rereads)
        proxy = redact(dialling.proxy_for(link.address) or "")
        bridge.emit(LinkUp(link.name, str(link.address), proxy))
        stopping = True
        try:
            failure = await socket.run(
                lambda text: bridge.client_text(client, text),
                lambda seconds: bridge.emit(LinkAnswered(link.name, seconds)),
            )
            stopping = False
        finally:
            bridge.client_left(client)
            await socket.close()
            if stopping:
                bridge.emit(LinkClosed(link.name))
        return down(failure, bridge.now() - opened)

    address = link.address
    bridge.emit(LinkAdded(link.name, link.view.endpoint, str(address), address.expires))
    try:
        await keep(one_life, backoff)
    finally:
        rivals.closed(link.name)
        bridge.emit(LinkRemoved(link.name))
