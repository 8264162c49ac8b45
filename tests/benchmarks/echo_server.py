"""An MCP server with one tool, `echo` or NAME, as quick as plain Python gets: it must not be what
is measured. One write per answer, as servers do.

    python -I -S echo_server.py [NAME]
"""

import json
import os
import re
import sys

HEAD = b'{"jsonrpc":"2.0","id":'
_call = re.compile(
    rb'\{"jsonrpc":"2\.0","id":(\d+),"method":"tools/call",'
    rb'"params":\{"name":"\w+","arguments":\{"text":"([^"\\]*)"\}\}\}'
).fullmatch

TOOL = {
    "name": sys.argv[1] if len(sys.argv) > 1 else "echo",
    "description": "Gives back a text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}
REPLIES = {
    "initialize": {
        "protocolVersion": "2024-11-05",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "echo", "version": "1"},
    },
    "ping": {},
    "tools/list": {"tools": [TOOL]},
}


def main() -> None:
    begun = b""
    while chunk := os.read(0, 2**18):
        *lines, begun = (begun + chunk).split(b"\n")
        for line in lines:
            call = _call(line)
            reply = echo(*call.groups()) if call else other(line)
            while reply:
                reply = reply[os.write(1, reply) :]


def echo(id: bytes, text: bytes) -> bytes:
    return HEAD + id + b',"result":{"content":[{"type":"text","text":"' + text + b'"}]}}\n'


def other(line: bytes) -> bytes:
    message = json.loads(line)
    if "id" not in message:
        return b""
    answer = {"jsonrpc": "2.0", "id": message["id"], "result": REPLIES[message["method"]]}
    return json.dumps(answer).encode() + b"\n"


main()
