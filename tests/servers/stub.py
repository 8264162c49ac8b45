"""A scripted MCP server: it behaves, or misbehaves, as its flags and its tools say.

Standard library only and few imports, so that a test can start dozens of them; raw bytes in and
out, so that a test can compare byte for byte. Every `tool_*` method is a tool: its docstring is the
description, its keyword arguments are the schema. `tests.servers.stub(*flags)` is its argv, and
`--help` lists the flags.
"""

import argparse
import base64
import json
import os
import re
import signal
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterable

LAST_RESORT = 300.0  # seconds; what ignores every way to be stopped still ends, long after its test
CHUNK = 64 * 1024

JUNK = (
    b"a stray print() in a tool",
    b"",
    b"   ",
    b"\x1b[31mred\x1b[0m \x1b[2J",
    b"a Windows line\r",
    b'{"jsonrpc":"2.0","id":1,"result":{',
    b'{"level":"info","message":"a log line in JSON"}',
    b'{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","id":"nobody asked","result":{}}',
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}',
    b'[{"jsonrpc":"2.0","id":1,"result":{}}]',
    b"[1,2,3]",
    b"[" * 5000,
    b"{}",
    b"null",
    b"42",
    b'"text"',
    b"NaN",
    b"\x00",
    b"\xff\xfe bad UTF-8 \xc3\x28",
    b'{"bad UTF-8":"\xff"}',
)

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/server.py", line 1, in <module>
    from fastmcp import FastMCP
ModuleNotFoundError: No module named 'fastmcp'
"""

# What a model of Pydantic becomes: references, one of them inside another, and one to itself.
NESTED = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/Place"}, "tree": {"$ref": "#/$defs/Tree"}},
    "required": ["at"],
    "$defs": {
        "Degrees": {"type": "number", "maximum": 180},
        "Place": {
            "type": "object",
            "properties": {
                "lat": {"$ref": "#/$defs/Degrees"},
                "lon": {"$ref": "#/$defs/Degrees", "title": "Longitude"},
            },
        },
        "Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    },
}
SCHEMAS = {"nested": NESTED}  # of tools whose schema does not follow from their arguments

JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
LATER = object()  # what a tool returns when it answers later, or never

Call = namedtuple("Call", "id params meta")  # id and params: the exact bytes that were received


class Refused(Exception):
    """A request that is answered with a JSON-RPC error: code, message."""


def members(line: bytes) -> dict[str, tuple[object, bytes]]:
    """The members of the JSON object in `line`: name → (value, exact bytes). Else ValueError."""
    text = line.decode("utf-8", "surrogateescape")
    decode = json.JSONDecoder().raw_decode
    found: dict[str, tuple[object, bytes]] = {}
    mark, at = _punctuation(text, 0)
    while mark != "}":
        name, at = decode(text, at)
        _, at = _punctuation(text, at)
        value, end = decode(text, at)
        found[name] = value, text[at:end].encode("utf-8", "surrogateescape")
        mark, at = _punctuation(text, end)
    if at != len(text):
        raise ValueError("more than one object")
    return found


def _punctuation(text: str, at: int) -> tuple[str, int]:
    match = re.compile(r"[ \t\r\n]*([{:,}])[ \t\r\n]*").match(text, at)
    if match is None:
        raise ValueError("not a JSON object")
    return match[1], match.end()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def content(value: object) -> dict:
    text = value if isinstance(value, str) else json.dumps(value)
    return {"content": [{"type": "text", "text": text}]}


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def complain(size: int, line: int) -> None:
    """Write `size` bytes to stderr, in lines of `line` bytes."""
    block = (b"e" * (line - 1) + b"\n") * max(1, CHUNK // line)
    for start in range(0, size, len(block)):
        write_all(2, block[: size - start])


class Stub:
    def __init__(self, options: argparse.Namespace, grandchild: int | None) -> None:
        self.options = options
        self.grandchild = grandchild
        self.listed = self.at_first()
        self.received: list[str] = []
        self.answers: list[object] = []
        self.cancelled: list[object] = []
        self.held: list[tuple[Call, str]] = []
        self.writing = threading.Lock()
        self.eol = b"\r\n" if options.crlf else b"\n"

    # -- lines -------------------------------------------------------------------------------------

    def run(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            try:
                message = members(line)
            except (ValueError, RecursionError):
                self.received.append("?")
            else:
                self.take(message)

    def take(self, message: dict[str, tuple[object, bytes]]) -> None:
        values = {name: value for name, (value, _) in message.items()}
        if "method" not in values:
            self.answers.append(values)
            return
        method, params = str(values["method"]), values.get("params")
        params = params if isinstance(params, dict) else {}
        self.received.append(method)
        if method == self.options.die_on:
            os._exit(1)
        if "id" not in values:
            self.notified(method, params)
            return
        if self.options.ignore_null_params and values.get("params", ...) is None:
            return
        raw = message.get("params", (None, b""))[1]
        call = Call(message["id"][1], raw, params.get("_meta") or {})
        try:
            result = self.result(method, params, call)
        except Refused as refused:
            code, text = refused.args
            self.reply(call, b'"error":' + compact({"code": code, "message": text}))
        else:
            if result is not LATER:
                self.answer(call, result)

    def answer(self, call: Call, result: object) -> None:
        self.reply(call, b'"result":' + compact(result))

    def reply(self, call: Call, outcome: bytes) -> None:
        junk = self.eol.join((*JUNK, b"")) if self.options.noise else b""
        line = b'{"jsonrpc":"2.0","id":' + call.id + b"," + outcome + b"}"
        self.write(junk + line + self.eol + junk)

    def send(self, method: str, params: object = None, id: object = None) -> None:
        message = {"jsonrpc": "2.0", "method": method}
        message |= {} if params is None else {"params": params}
        message |= {} if id is None else {"id": id}
        self.write(compact(message) + self.eol)

    def write(self, *chunks: bytes) -> None:
        with self.writing:
            for chunk in chunks:
                write_all(1, chunk)

    # -- methods -----------------------------------------------------------------------------------

    def result(self, method: str, params: dict, call: Call) -> object:
        match method:
            case "initialize":
                return self.initialize(params)
            case "ping":
                return {}
            case "tools/list" if not self.options.no_tools:
                return self.page(params.get("cursor"))
            case "tools/call" if not self.options.no_tools:
                return self.tool(params, call)
            case "resources/list":
                return {"resources": [], "_meta": {"marker": self.options.name}}
        raise Refused(-32601, f"Method not found: {method}")

    def initialize(self, params: dict) -> object:
        if self.options.init_error:
            raise Refused(-32000, self.options.init_error)
        if self.options.no_init_answer:
            return LATER
        if self.options.refuse_second_initialize and self.received.count("initialize") > 1:
            raise Refused(-32600, "Already initialized")
        return {
            "protocolVersion": params.get("protocolVersion", "2024-11-05"),
            "capabilities": {} if self.options.no_tools else {"tools": {"listChanged": True}},
            "serverInfo": {"name": self.options.name, "version": "1.0"},
            "instructions": f"instructions of {self.options.name}",
        }

    def notified(self, method: str, params: dict) -> None:
        if method == "notifications/cancelled":
            self.cancelled.append(params.get("requestId"))
        if method == "notifications/initialized":
            self.initialized()

    def initialized(self) -> None:
        if self.options.roots:
            self.send("roots/list", id=0)
            self.send("ping", id="ping of the stub")
        for _ in range(3 if self.options.list_changed else 0):
            self.send("notifications/tools/list_changed")
        complain(self.options.stderr_bytes, 80)

    def page(self, cursor: str | None) -> object:
        size = self.options.page_size or -(-len(self.listed) // max(1, self.options.pages)) or 1
        pages = -(-len(self.listed) // size) or 1
        cursors = [None, *(base64.b64encode(b"page %d" % n).decode() for n in range(1, pages))]
        if cursor not in cursors:
            raise Refused(-32602, "Invalid cursor")
        at = cursors.index(cursor)
        following = {"nextCursor": cursors[at + 1]} if at + 1 < pages else {}
        shown = self.listed[at * size : (at + 1) * size]
        return {"tools": [self.described(name) for name in shown]} | following

    def at_first(self) -> list[str]:
        """The names of the tools that are listed at the start."""
        own = [name.removeprefix("tool_") for name in vars(Stub) if name.startswith("tool_")]
        if self.options.only is not None:
            own = [name for name in own if name in self.options.only.split(",")]
        also = self.options.also.split(",") if self.options.also else []
        return [*own, *(f"extra_{n}" for n in range(self.options.tools)), *also]

    def described(self, name: str) -> dict:
        tool = getattr(self, f"tool_{name}", None)
        return describe(name, tool) if tool else {"name": name, "inputSchema": {"type": "object"}}

    def tool(self, params: dict, call: Call) -> object:
        name = params.get("name")
        tool = getattr(self, f"tool_{name}", None)
        if tool is None and name in self.listed:
            return content(f"{self.options.name}:{name}")
        if tool is None:
            raise Refused(-32602, f"Unknown tool: {name}")
        try:
            value = tool(call, **(params.get("arguments") or {}))
        except (TypeError, ValueError) as error:
            raise Refused(-32602, str(error)) from None
        return value if value is LATER else content(value)

    # -- tools: what came in -----------------------------------------------------------------------

    def tool_echo(self, call: Call, text: str = "") -> object:
        """The same text."""
        return text

    def tool_echo_raw(self, call: Call, **arguments: object) -> object:
        """The exact bytes of id and params, base64: {"id": …, "params": …}."""
        return {
            "id": base64.b64encode(call.id).decode(),
            "params": base64.b64encode(call.params).decode(),
        }

    def tool_received(self, call: Call) -> object:
        """Every method received so far, notifications too; "?" for a line that is no object."""
        return self.received

    def tool_answers(self, call: Call) -> object:
        """Every response received so far (to what `--roots` asked)."""
        return self.answers

    def tool_cancelled(self, call: Call) -> object:
        """The requestIds of all notifications/cancelled."""
        return self.cancelled

    # -- tools: what goes out ----------------------------------------------------------------------

    def tool_size(self, call: Call, bytes: int = 0) -> object:
        """A text of that many x."""
        return "x" * bytes

    def tool_frame(self, call: Call, bytes: int = 0) -> object:
        """A line of exactly that many bytes on stdout, its end not counted."""
        bare = len(b'{"jsonrpc":"2.0","id":,"result":}' + call.id + compact(content("")))
        if bytes < bare:
            raise Refused(-32602, f"A frame has at least {bare} bytes")
        return "x" * (bytes - bare)

    def tool_reply(self, call: Call, base64: str = "") -> object:
        """These bytes, verbatim, as the result."""
        self.reply(call, b'"result":' + decoded(base64))
        return LATER

    def tool_say(self, call: Call, base64: str = "") -> object:
        """These bytes, verbatim, on stdout; then "said"."""
        self.write(decoded(base64))
        return "said"

    def tool_endless(self, call: Call, bytes: int = 0, newline: bool = False) -> object:
        """The start of an answer, that many bytes, and no end; then lives on."""
        start = b'{"jsonrpc":"2.0","id":' + call.id
        start += b',"result":{"content":[{"type":"text","text":"'
        block = b"x" * CHUNK
        full, rest = divmod(bytes, CHUNK)
        self.write(start, *[block] * full, block[:rest], self.eol if newline else b"")
        return LATER

    def tool_noise(self, call: Call) -> object:
        """Junk of every kind on stdout; then "noise"."""
        self.write(self.eol.join((*JUNK, b"")))
        return "noise"

    def tool_stderr(self, call: Call, bytes: int = 0, line: int = 80) -> object:
        """That many bytes on stderr, in lines of `line` bytes; then "written"."""
        complain(bytes, line)
        return "written"

    def tool_progress(self, call: Call, n: int = 3) -> object:
        """n notifications/progress for the caller's progressToken; then "done"."""
        for step in range(1, n + 1):
            token = call.meta.get("progressToken")
            self.send(
                "notifications/progress", {"progressToken": token, "progress": step, "total": n}
            )
        return "done"

    def tool_result(
        self,
        call: Call,
        text: str = "x",
        bytes: int = 0,
        parts: int = 1,
        structured: bool = False,
        error: bool = False,
    ) -> object:
        """A result of `text` repeated to that many bytes at least, over so many text parts;
        `structured` adds structuredContent and _meta, `error` isError."""
        times = -(-bytes // len(text.encode()))
        texts = [text * (times * (n + 1) // parts - times * n // parts) for n in range(parts)]
        result = {"content": [{"type": "text", "text": each} for each in texts]}
        if structured:
            result |= {"structuredContent": {"result": text * times}, "_meta": {"bytes": bytes}}
        self.answer(call, result | ({"isError": True} if error else {}))
        return LATER

    def tool_nested(self, call: Call, **arguments: object) -> object:
        """Its schema has references; the arguments."""
        return arguments

    # -- tools: the list itself --------------------------------------------------------------------

    def tool_change_tools(self, call: Call) -> object:
        """Adds a tool, announces it with notifications/tools/list_changed; its name."""
        before = sum(name.startswith("added_") for name in self.listed)
        return self.tool_add_tool(call, f"added_{before}")

    def tool_add_tool(self, call: Call, name: str = "") -> object:
        """Adds a tool of that name and announces it; its name."""
        self.listed.append(name)
        self.send("notifications/tools/list_changed")
        return name

    def tool_remove_tool(self, call: Call, name: str = "") -> object:
        """Takes a tool off the list and announces that; its name."""
        self.listed.remove(name)
        self.send("notifications/tools/list_changed")
        return name

    # -- tools: when -------------------------------------------------------------------------------

    def tool_sleep(self, call: Call, seconds: float = 0.0) -> object:
        """Answers "slept" after that time; other calls are served meanwhile."""
        self.later(seconds, self.answer, call, content("slept"))
        return LATER

    def tool_block(self, call: Call, seconds: float = 0.0) -> object:
        """Answers "blocked" after that time; reads nothing meanwhile."""
        time.sleep(seconds)
        return "blocked"

    def tool_silent(self, call: Call) -> object:
        """Never answers."""
        return LATER

    def tool_hold(self, call: Call, key: str = "") -> object:
        """Answers `key` when `release` is called."""
        self.held.append((call, key))
        return LATER

    def tool_release(self, call: Call) -> object:
        """Answers all held calls, the last one first; then their number."""
        held, self.held = self.held, []
        for waiting, key in reversed(held):
            self.answer(waiting, content(key))
        return len(held)

    def tool_die(self, call: Call, code: int = 1) -> object:
        """Exits at once, unanswered."""
        os._exit(code)

    def tool_die_soon(self, call: Call, seconds: float = 0.05, code: int = 1) -> object:
        """Answers "dying", then exits after that time."""
        self.answer(call, content("dying"))
        self.later(seconds, os._exit, code)
        return LATER

    def later(self, seconds: float, act: object, *args: object) -> None:
        timer = threading.Timer(seconds, act, args)
        timer.daemon = True
        timer.start()

    # -- tools: who --------------------------------------------------------------------------------

    def tool_whoami(self, call: Call) -> object:
        """The server's name."""
        return self.options.name

    def tool_env(self, call: Call) -> object:
        """The environment."""
        return dict(os.environ)

    def tool_argv(self, call: Call) -> object:
        """The arguments, the interpreter's included."""
        return sys.orig_argv

    def tool_cwd(self, call: Call) -> object:
        """The working directory."""
        return os.getcwd()

    def tool_pids(self, call: Call) -> object:
        """pid, pgid, ppid, sid, and the grandchild's pid or null."""
        return {
            "pid": os.getpid(),
            "pgid": os.getpgid(0),
            "ppid": os.getppid(),
            "sid": os.getsid(0),
            "grandchild": self.grandchild,
        }


def decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def describe(name: str, tool: object) -> dict:
    arguments = {
        argument: {"type": JSON_TYPES[kind]}
        for argument, kind in tool.__annotations__.items()
        if kind in JSON_TYPES
    }
    schema = SCHEMAS.get(name, {"type": "object", "properties": arguments})
    return {"name": name, "description": tool.__doc__, "inputSchema": schema}


def start_grandchild() -> int:
    """A process of the same group that outlives SIGTERM and EOF, and holds all three pipes."""
    # Ignored before the fork: the child must not have a moment in which SIGTERM ends it.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        time.sleep(LAST_RESORT)
        os._exit(0)
    signal.signal(signal.SIGTERM, before)
    return pid


def fail_at_start(code: int) -> None:
    sys.stderr.write(TRACEBACK)
    sys.stderr.flush()
    os._exit(code)


def record_start(path: str, *lines: str) -> int:
    """Append to the diary of starts; how many starts it holds."""
    with open(path, "a+") as diary:
        diary.write("".join(f"{line}\n" for line in lines))
        diary.flush()
        diary.seek(0)
        return sum(line.startswith("server ") for line in diary)


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add = parser.add_argument
    add("--name", default="stub", help="serverInfo's name")
    add("--diary", metavar="FILE", help="append `server PID` (and `grandchild PID`) at each start")
    add("--fail-first", type=int, default=0, help="with --diary: fail the first N starts, code 1")
    add("--exit-at-start", type=int, metavar="CODE", help="exit at once, with a traceback")
    add("--start-delay", type=float, default=0.0, help="seconds before the first line is read")
    add("--die-after", type=float, metavar="S", help="exit with code 1 after S seconds")
    add("--die-on", metavar="METHOD", help="exit with code 1 when this method comes")
    add("--init-error", metavar="TEXT", help="answer initialize with this error, and live on")
    add("--no-init-answer", action="store_true", help="never answer initialize")
    add("--refuse-second-initialize", action="store_true")
    add("--ignore-eof", action="store_true")
    add("--ignore-sigterm", action="store_true")
    add("--grandchild", action="store_true", help="start a process that ignores SIGTERM and stdin")
    add("--noise", action="store_true", help="junk before and after every answer")
    add("--crlf", action="store_true", help="lines end in CR LF")
    add("--stderr-bytes", type=int, default=0, help="write that much to stderr once initialized")
    add("--tools", type=int, default=0, help="that many more tools: extra_0, extra_1 …")
    add("--only", metavar="NAMES", help="list only these of the stub's own tools (a,b,c)")
    add("--also", metavar="NAMES", help="list tools of these names too, without descriptions")
    add("--pages", type=int, default=1, help="tools/list over that many pages")
    add("--page-size", type=int, metavar="N", help="tools/list by pages of N tools")
    add("--no-tools", action="store_true", help="no tools capability")
    add("--ignore-null-params", action="store_true", help="no answer to `params: null`")
    add("--roots", action="store_true", help="ask roots/list (id 0) and ping once initialized")
    add("--list-changed", action="store_true", help="three list_changed once initialized")
    return parser


def main() -> None:
    options = flags().parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody reads: die, and say nothing
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = start_grandchild() if options.grandchild else None
    if options.diary:
        lines = [f"grandchild {grandchild}"] if grandchild else []
        starts = record_start(options.diary, f"server {os.getpid()}", *lines)
        if starts <= options.fail_first:
            fail_at_start(1)
    if options.exit_at_start is not None:
        fail_at_start(options.exit_at_start)
    stub = Stub(options, grandchild)
    if options.die_after is not None:
        stub.later(options.die_after, os._exit, 1)
    time.sleep(options.start_delay)
    stub.run(sys.stdin.buffer)
    if options.ignore_eof:
        time.sleep(LAST_RESORT)
    os._exit(0)  # no wait for threads


if __name__ == "__main__":
    main()
