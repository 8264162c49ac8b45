"""The lives of one link: waiting → connecting → up → down → again, whatever servers do."""

from dataclasses import replace
from itertools import count

from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint, redact
from xzpipe.core.events import LinkClosed, LinkDown, LinkUp, LinkWaiting
from xzpipe.core.verdict import Action, Failure, judge
from xzpipe.core.views import View
from xzpipe.retry import Ended, keep
from xzpipe.websocket import DialFailed, Dialling, dial

_serials = count(1)


async def keep_link(
    bridge: Bridge,
    link: str,
    view: View,
    endpoint: Endpoint,
    dialling: Dialling,
    backoff: Backoff,
) -> None:
    """Keep a link to an endpoint up until cancelled; then close it with 1001."""
    cookie = ""

    def down(failure: Failure, lived: float) -> Ended:
        nonlocal cookie
        cookie = "" if cookie else failure.cookie  # once it was sent back, that is enough
        reason = redact(failure.reason)  # a peer may say our token back to us
        verdict = judge(replace(failure, reason=reason, cookie=cookie))

        def announce(wait: float) -> None:
            bridge.emit(LinkDown(link, verdict.cause, verdict.hint, lived, wait))

        give_way = verdict.action is Action.GIVE_WAY
        at_least = backoff.maximum if give_way else verdict.at_least
        return Ended(lived, announce, at_least, verdict.action is Action.RETRY_WITH_COOKIE)

    async def one_life() -> Ended:
        if not bridge.hub.ready(view):
            bridge.emit(LinkWaiting(link))
            await bridge.until_ready(view)
        try:
            socket = await dial(endpoint, dialling, cookie)
        except DialFailed as failed:
            return down(failed.failure, 0.0)
        client = f"{link}#{next(_serials)}"
        opened = bridge.now()
        bridge.client_joined(client, Peer(socket.put, socket.drop), view, rereads=True)
        bridge.emit(LinkUp(link, str(endpoint), redact(dialling.proxy_for(endpoint) or "")))
        stopping = True
        try:
            failure = await socket.run(lambda text: bridge.client_text(client, text))
            stopping = False
        finally:
            bridge.client_left(client)
            await socket.close()
            if stopping:
                bridge.emit(LinkClosed(link))
        return down(failure, bridge.now() - opened)

    await keep(one_life, backoff)
