"""Who is let in by an endpoint server, and what it answers to everyone else. Pure.

Paths, bodies and codes are those of the endpoint server in use, so that consoles and servers find
what they know (wire.md §3); statuses are those that say what is the matter.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from xzpipe import __version__
from xzpipe.core.endpoint import query_of
from xzpipe.errors import XzpipeError

ROOT = "/mcp_endpoint/"
MCP_PATH = ROOT + "mcp/"
CALL_PATH = ROOT + "call/"
HEALTH_PATH = ROOT + "health"
MOST = 4096  # connections; each costs some 22 kB
MOST_OF_AGENT = 512
MAX_SERVER_ID = 128  # characters; it is in every log line of its server, and before tools' names
UNAUTHORIZED = -32004  # wire.md §3, as the codes below
NO_SUCH_PATH = -32601
TOO_MANY = -32003


class Side(Enum):
    """The two sides of an endpoint server."""

    SERVER = "mcp"
    CALLER = "call"


@dataclass(frozen=True, slots=True)
class Rules:
    """Whom an endpoint server lets in. `agent_of` tells whose token it is, or raises
    `XzpipeError`. `key` is asked for where everything can be seen; without one, nobody may."""

    agent_of: Callable[[str], str] = field(repr=False)  # may know the key
    key: str = field(default="", repr=False)
    most: int = MOST
    most_of_agent: int = MOST_OF_AGENT


@dataclass(frozen=True, slots=True)
class Entrance:
    """One who is let in. `server_id` is empty where none was given."""

    side: Side
    agent: str
    server_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered over HTTP to all others; `reason` is for the log, where that is a
    refusal."""

    status: int
    body: bytes = b""
    location: str = ""
    reason: str = ""


def admit(
    target: str,
    rules: Rules,
    held: Mapping[str, int],
    health: Callable[[], Any],
    takes_over: Callable[[str, str], bool] = lambda agent, server_id: False,
) -> Entrance | Answer:
    """What becomes of a request for `target`, a path with its query. `held` counts the connections
    of each agent; `health` tells of them, to who has the key. Who takes over the place of a server
    of an agent, by its id, is not one more."""
    try:
        path, query = query_of(target)
    except ValueError:  # a bracket where an address would have a host
        path, query = "", {}
    if path == "/":
        return Answer(307, location=ROOT)
    if path == ROOT:
        about = {"message": "MCP Endpoint Server", "version": __version__, "status": "running"}
        return Answer(200, _told(about))
    if path == HEALTH_PATH:
        given, key = query.get("key", ""), rules.key.encode()
        ways = (given, given.replace(" ", "+"))  # as it is meant, and as it may have been put in
        right = [hmac.compare_digest(way.encode(errors="replace"), key) for way in ways]
        if key and any(right):
            return Answer(200, _told(health()))
        return _refused(401, UNAUTHORIZED, "the key is missing or wrong")
    if path not in (MCP_PATH, CALL_PATH):
        return _refused(404, NO_SUCH_PATH, f"the paths are {MCP_PATH} and {CALL_PATH}")
    token = query.get("token", "")
    if not token:
        return _refused(401, UNAUTHORIZED, "the token is missing")
    try:
        agent = rules.agent_of(token)
    except XzpipeError as error:
        return _refused(401, UNAUTHORIZED, error.message)
    server_id = query.get("server_id", "")[:MAX_SERVER_ID]
    if path == MCP_PATH and takes_over(agent, server_id):
        return Entrance(Side.SERVER, agent, server_id)
    if sum(held.values()) >= rules.most:
        return _refused(429, TOO_MANY, "there are too many connections")
    if held.get(agent, 0) >= rules.most_of_agent:
        return _refused(429, TOO_MANY, "this agent has too many connections")
    if path == CALL_PATH:
        return Entrance(Side.CALLER, agent)
    return Entrance(Side.SERVER, agent, server_id)


def _told(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": None, "result": result}).encode()


def _refused(status: int, code: int, reason: str) -> Answer:
    error = {"code": code, "message": reason}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    return Answer(status, body, reason=reason)
