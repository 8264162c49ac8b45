"""An agent of an endpoint server. How its sockets are served is in test_serve.py."""

import anyio
import pytest

from tests.endpoints import Peer, broker
from tests.servers.session import WAIT, Bell
from xzpipe.agent import Agent, health
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, ServerReady
from xzpipe.core.hub import MAX_MESSAGE_BYTES
from xzpipe.websocket import Dialling, dial

pytestmark = pytest.mark.anyio


async def answering(peer: Peer, *tools: str) -> None:
    """Play a server at the far end of a socket: initialize, initialized, tools/list."""
    results = ({"protocolVersion": "2024-11-05"}, {"tools": [{"name": name} for name in tools]})
    for result in results:
        while "id" not in (asked := await peer.receive()):
            pass
        await peer.send({"jsonrpc": "2.0", "id": asked["id"], "result": result})


@pytest.mark.parametrize(("name", "who"), [("home", "home/calc"), ("", "calc")])
async def test_an_agent_tells_of_its_servers_under_its_name_if_that_may_be_said(name, who):
    events: list[Event] = []
    bell = Bell()

    def hear(event: Event) -> None:
        events.append(event)
        bell.ring()

    agent = Agent(name, hear, MAX_MESSAGE_BYTES)
    async with broker() as far, anyio.create_task_group() as tasks:
        tasks.start_soon(agent.run)
        socket = await dial(Endpoint(far.url), Dialling("none"))
        tasks.start_soon(agent.serve_server, socket, "calc", WAIT, WAIT)
        await answering(await far.accept(), "add", "sub")
        await bell.until(lambda: events)
        [ready] = [event for event in events if isinstance(event, ServerReady)]
        assert (ready.server, ready.tools) == (who, 2)
        assert agent.tools() == {"calc": ["add", "sub"]}
        tasks.cancel_scope.cancel()


async def test_an_agent_that_is_ended_keeps_no_time_any_more():
    agent = Agent("home", lambda _: None, MAX_MESSAGE_BYTES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.run)
        await anyio.wait_all_tasks_blocked()
        agent.end()
    assert agent.tools() == {}


def test_the_health_of_nobody_is_good():
    told = health({})
    assert told["status"] == "success"
    assert told["connections"]["total_connections"] == 0
