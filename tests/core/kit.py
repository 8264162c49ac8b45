"""What the tests of the core say on the wire, and servers and clients in the states they need."""

import json
from unittest.mock import ANY

from xzpipe.core import handshake, jsonrpc
from xzpipe.core.effects import Effect, ToClient, ToServer
from xzpipe.core.events import ToolCalled
from xzpipe.core.hub import Hub
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.plan import View

GREETING = b'{"protocolVersion":"2024-11-05","serverInfo":{"name":"Calc","version":"1.2"}}'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
LIST_CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
NO_ONE = "no MCP server is connected"
GONE = "MCP server 'calc' went away before it answered: exit code 1"


def seeing(*servers: str) -> View:
    """A view of these servers."""
    return View(servers=frozenset(servers))


def ask(id: bytes, method: str, params: bytes = b"") -> bytes:
    """A request; the same bytes as a client and as the hub write it."""
    rest = b',"params":%b' % params if params else b""
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b"%b}' % (id, method.encode(), rest)


def call(id: bytes, tool: str = "add", rest: bytes = b"") -> bytes:
    """A tools/call."""
    return ask(id, "tools/call", b'{"name":"%b"%b}' % (tool.encode(), rest))


def answer(id: bytes, result: bytes = b'{"content":[]}') -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result)


def refusal(id: bytes, code: int, words: str) -> bytes:
    error = b'{"code":%d,"message":%b}' % (code, json.dumps(words).encode())
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, error)


def note(method: str, params: bytes = b"") -> bytes:
    """A notification."""
    rest = b',"params":%b' % params if params else b""
    return b'{"jsonrpc":"2.0","method":"notifications/%b"%b}' % (method.encode(), rest)


def cancelled(id: bytes, reason: str) -> bytes:
    params = b'{"requestId":%b,"reason":%b}' % (id, json.dumps(reason).encode())
    return note("cancelled", params)


def tool(name: str, rest: bytes = b"") -> bytes:
    """A tool as a server lists it."""
    return b'{"name":"%b"%b}' % (name.encode(), rest)


def listing(*names: str, cursor: bytes = b"") -> bytes:
    """The result of a tools/list."""
    tools = b",".join(map(tool, names))
    rest = b',"nextCursor":%b' % cursor if cursor else b""
    return b'{"tools":[%b]%b}' % (tools, rest)


INITIALIZE = ask(b"1", "initialize", handshake.INITIALIZE)


def start(
    hub: Hub,
    server: str = "calc",
    tools: tuple[str, ...] = ("add",),
    now: float = 0.0,
    greeting: bytes = GREETING,
    call_timeout: float = CALL_TIMEOUT,
) -> list[Effect]:
    """Start a server and let its handshake succeed at once; the effects of its last answer."""
    for each in hub.server_started(server, now, call_timeout=call_timeout):
        if isinstance(each, ToServer):
            first = int(bytes(jsonrpc.parse(each.line).id))
    hub.server_line(server, answer(b"%d" % first, greeting), now)
    return hub.server_line(server, answer(b"%d" % (first + 1), listing(*tools)), now)


def bridged(*tools: str) -> Hub:
    """A hub with the server "calc" ready, and "link" joined with calc as its view.

    The hub has used the inner ids 1 and 2 for the handshake: the next request is number 3.
    """
    hub = Hub()
    start(hub, tools=tools or ("add",))
    hub.client_joined("link", seeing("calc"))
    return hub


def merged(**tools: tuple[str, ...]) -> Hub:
    """A hub with these servers ready, and "link" joined with all of them in its view."""
    hub = Hub()
    for server, names in tools.items():
        start(hub, server, names)
    hub.client_joined("link", seeing(*tools))
    return hub


def tools_of(hub: Hub, client: str = "link") -> list[str]:
    """The names that this client is told when it lists the tools."""
    [reply, *_] = hub.client_text(client, ask(b'"list"', "tools/list"), 0.0)
    assert isinstance(reply, ToClient)
    return [each["name"] for each in json.loads(reply.text)["result"]["tools"]]


def called(server, tool, client, seconds, outcome):
    """A call of any size, from any endpoint."""
    return ToolCalled(server, tool, client, seconds, outcome, ANY, ANY, ANY)
