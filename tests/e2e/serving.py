"""An endpoint server, as a real `xzpipe endpoint serve` or in this process, and who connects to it.

    async with served(tmp_path) as endpoint:
        async with bridge(tmp_path / "calc", {"calc": entry()}, endpoint.url("mcp")):
            await endpoint.ready(1)
            caller = await endpoint.caller()
            answer = await caller.call("echo", {"text": "hello"})

Agents are called by their names; `Server` is a server without a bridge, on a bare connection.
"""

import asyncio
import contextlib
import json
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
from anyio.abc import TaskGroup
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.running import AS_INSTALLED, WAIT, Xzpipe, bare_environment, running
from tests.robots import Robot
from tests.servers.session import Gone, Session, parse
from xzpipe.agent_token import token_of
from xzpipe.core.admission import Rules
from xzpipe.core.agents import hashed
from xzpipe.serve import Serving, listening

AGENT = "kitchen"
GREETING = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "bare"}}


class Bare(Session):
    """One end of a connection to an endpoint server, which says nothing by itself."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        try:
            await self.connection.send(data, text=not binary)
        except ConnectionClosed as error:
            raise Gone(str(error)) from None

    async def closed(self) -> tuple[int | None, str | None]:
        """The close code and reason, once the connection is closed."""
        with anyio.fail_after(WAIT):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._taken(await self.connection.recv(decode=False))
        self._ended()

    async def _taken(self, frame: bytes) -> None:
        self._arrived(frame)


B = TypeVar("B", bound=Bare)


class Caller(Bare, Robot):
    """A caller, that speaks as the test wants, or as xiaozhi-server and consoles do."""

    def __init__(self, connection: ClientConnection) -> None:
        Robot.__init__(self, lambda: None)
        self.connection = connection

    async def tools(self) -> list[dict[str, Any]]:
        return (await self.request("tools/list"))["result"]["tools"]

    async def knows(self, *names: str) -> None:
        """Wait until these are the tools: what others do may be seen a moment later."""
        with anyio.fail_after(WAIT):
            while sorted(tool["name"] for tool in await self.tools()) != sorted(names):
                pass


class Server(Bare):
    """A server that answers at once: a call with a text that holds its name, the tool's and the
    arguments; but calls of `silent` never. `replies` are other members of answers, by tool."""

    def __init__(
        self,
        connection: ClientConnection,
        name: str,
        tools: tuple[str, ...],
        replies: Mapping[str, dict[str, Any]],
    ) -> None:
        super().__init__(connection)
        self.asked: list[dict[str, Any]] = []
        self._name = name
        self._tools = tools
        self._replies = replies

    def calls(self) -> list[str]:
        """The names of the tools that were called, in order."""
        return [each["params"]["name"] for each in self.asked if each["method"] == "tools/call"]

    async def called(self, tool: str) -> None:
        """Wait until a tool was called."""
        await self.until(lambda: tool in self.calls())

    async def _taken(self, frame: bytes) -> None:
        message = parse(frame)
        if not isinstance(message, dict) or "method" not in message:
            return self._arrived(frame)
        self.asked.append(message)
        self._bell.ring()
        members = self._answer(message["method"], message.get("params") or {})
        if "id" in message and members is not None:
            with contextlib.suppress(Gone):
                await self.send({"jsonrpc": "2.0", "id": message["id"], **members})

    def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        match method:
            case "initialize":
                return {"result": GREETING}
            case "tools/list":
                return {"result": {"tools": [{"name": name} for name in self._tools]}}
            case "tools/call":
                tool = params["name"]
                said = json.dumps([self._name, tool, params.get("arguments")])
                result = {"content": [{"type": "text", "text": said}]}
                return None if tool == "silent" else self._replies.get(tool, {"result": result})
        return {"result": {}}


class Endpoint:
    """An endpoint server that listens, and bare clients of it. `token` makes that of an agent."""

    def __init__(self, port: int, token: Callable[[str], str], tasks: TaskGroup) -> None:
        self.port = port
        self.token = token
        self.stack = contextlib.AsyncExitStack()
        self._tasks = tasks

    def path(self, side: str, agent: str = AGENT, server_id: str = "") -> str:
        more = f"&server_id={quote(server_id, safe='')}" if server_id else ""
        return f"/mcp_endpoint/{side}/?token={quote(self.token(agent), safe='')}{more}"

    def url(self, side: str, agent: str = AGENT, server_id: str = "") -> str:
        return f"ws://127.0.0.1:{self.port}{self.path(side, agent, server_id)}"

    async def connect(self, side: str, agent: str = AGENT, server_id: str = "") -> ClientConnection:
        url = self.url(side, agent, server_id)
        dialled = connect(url, proxy=None, close_timeout=1, compression=None, max_size=None)
        return await self.stack.enter_async_context(dialled)

    async def bare(self, side: str, agent: str = AGENT, server_id: str = "") -> Bare:
        return self._read(Bare(await self.connect(side, agent, server_id)))

    async def caller(self, agent: str = AGENT) -> Caller:
        return self._read(Caller(await self.connect("call", agent)))

    async def server(
        self,
        *tools: str,
        agent: str = AGENT,
        server_id: str = "",
        replies: Mapping[str, dict[str, Any]] | None = None,
    ) -> Server:
        """A server whose tools are known."""
        connection = await self.connect("mcp", agent, server_id)
        server = self._read(Server(connection, server_id, tools, replies or {}))
        await server.until(lambda: any(each["method"] == "tools/list" for each in server.asked))
        await server.ping()  # answered after what was answered before was read
        return server

    def _read(self, end: B) -> B:
        self._tasks.start_soon(end.read)
        return end


class Served(Endpoint):
    """An endpoint server that is a process; `printed` is what it said when it began to listen."""

    def __init__(self, xzpipe: Xzpipe, printed: str, key_file: Path, tasks: TaskGroup) -> None:
        self.key = key_file.read_text().strip()
        port = re.search(r"127\.0\.0\.1:(\d+)", printed)
        assert port, printed
        super().__init__(int(port[1]), lambda agent: token_of(hashed(agent), self.key), tasks)
        self.xzpipe = xzpipe
        self.printed = printed

    async def ready(self, servers: int = 1) -> None:
        """Wait until so many servers in all have been ready."""
        await self.xzpipe.event("ServerReady", servers)


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    *options: str,
    port: int = 0,
    log_format: str = "json",
    python: Sequence[str] = AS_INSTALLED,
) -> AsyncIterator[Served]:
    """`xzpipe endpoint serve` with the key in this folder, logging at DEBUG."""
    key_file = folder / "endpoint.key"
    arguments = ["endpoint", "serve", "--port", str(port), "--key-file", str(key_file)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*python, *arguments, "--log-format", log_format, "-v", *options),
        cwd=folder,
        env=bare_environment(),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        limit=2**26,
    )
    xzpipe = Xzpipe(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(xzpipe.read)
        try:
            with anyio.fail_after(WAIT):
                printed = await process.stdout.readuntil(b"--help\n")
            endpoint = Served(xzpipe, printed.decode(), key_file, tasks)
            async with endpoint.stack:
                yield endpoint
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.stdout.read()
                await process.wait()
            tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def local(
    token: Callable[[str], str] = str, rules: Rules | None = None, **options: Any
) -> AsyncIterator[Endpoint]:
    """An endpoint server in this process; `options` are further ones of `Serving`. A token is the
    agent's name, unless `token` makes it and `rules` know it."""
    async with (
        listening(Serving(rules or Rules(str), **options), lambda event: None) as endpoint,
        anyio.create_task_group() as tasks,
    ):
        here = Endpoint(endpoint.port, token, tasks)
        async with here.stack:
            yield here
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def bridge(
    folder: Path, servers: Mapping[str, Any], url: str, *options: str, **settings: Any
) -> AsyncIterator[Xzpipe]:
    """`xzpipe run` in a folder of its own, with these `xzpipe` settings."""
    folder.mkdir(exist_ok=True)
    async with running(folder, servers, url, *options, settings=settings) as xzpipe:
        yield xzpipe


@dataclass(frozen=True)
class Answer:
    """What was answered over HTTP."""

    status: int
    headers: dict[str, str]  # their names in lower case
    body: bytes


async def asked(port: int, target: str | bytes) -> Answer:
    """The answer to a request for a WebSocket at this target, which may be anything: after a 101,
    its headers alone; a status of 0 where the connection was just closed."""
    target = target if isinstance(target, bytes) else target.encode()
    with anyio.fail_after(WAIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % target
            )
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return Answer(0, {}, b"")
            first, *lines = head.decode().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            status = int(first.split(" ")[1])
            return Answer(status, headers, b"" if status == 101 else await reader.read())
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
