"""What an endpoint cannot take is made to fit, where that is configured; nowhere else."""

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import linked, running
from tests.endpoints import Peer, broker
from tests.servers import entry
from tests.servers.session import text

pytestmark = pytest.mark.anyio

LIMIT = 1000  # bytes
SHAPED = {"resultLimit": LIMIT, "joinText": True, "inlineSchemas": True}


@asynccontextmanager
async def shaped(
    folder: Path, servers: int = 1, **settings: object
) -> AsyncIterator[tuple[Peer, str]]:
    """A link with these settings; and the name of the stub's server in front of a tool's."""
    if servers == 1:
        async with linked(folder, settings=settings) as (_, _, peer):
            yield peer, ""
        return
    named = {f"s{n}": entry("--name", f"s{n}") for n in range(servers)}
    settings = {"mode": "aggregate", **settings}
    async with broker() as endpoint, running(folder, named, endpoint.url, settings=settings) as it:
        await it.event("ServerReady", servers)
        peer = await endpoint.accept()
        await peer.handshake()
        yield peer, "s0__"


async def result(peer: Peer, prefix: str = "", **arguments: object) -> tuple[int, dict[str, Any]]:
    """Size of the answer's frame, and the result in it, of a call of `result`."""
    answer = await peer.call(f"{prefix}result", arguments)
    return len(peer.frames[-1]), answer["result"]


def says_what_is_missing(said: str, whole: str) -> bool:
    """Whether this text is the start of the whole, and a note of how many characters more."""
    kept = next(n for n in range(len(said), -1, -1) if whole.startswith(said[:n]))
    number, *_ = re.findall(r"\d+", said[kept:].replace(",", ""))
    return kept > 0 and int(number) == len(whole) - kept


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("limit", [LIMIT, 8192])
async def test_no_answer_is_over_the_limit_and_what_was_cut_says_how_much_is_missing(
    tmp_path: Path, servers: int, limit: int
) -> None:
    async with shaped(tmp_path, servers, resultLimit=limit) as (peer, prefix):
        for letter in ("x", "数", "😀", '"', "\n", "é"):
            for size in (limit - 200, limit, limit + 1, 10 * limit):
                length, found = await result(peer, prefix, text=letter, bytes=size)
                assert length <= limit
                whole = letter * -(-size // len(letter.encode()))
                [part] = found["content"]
                if part["text"] != whole:
                    assert length > limit / 2  # it is cut no shorter than it must be
                    assert says_what_is_missing(part["text"], whole)


async def test_what_loses_nothing_comes_first(tmp_path: Path) -> None:
    async with shaped(tmp_path, resultLimit=LIMIT) as (peer, _):
        length, found = await result(peer, bytes=LIMIT - 300, structured=True)
        assert found == {"content": [{"type": "text", "text": "x" * (LIMIT - 300)}]}
        assert length <= LIMIT
        length, found = await result(peer, bytes=100, structured=True)
        assert found.keys() == {"content", "structuredContent", "_meta"}  # it fits as it is
        length, found = await result(peer, bytes=LIMIT, structured=True)
        assert found.keys() == {"content"} and length <= LIMIT


async def test_several_parts_together_are_under_the_limit(tmp_path: Path) -> None:
    async with shaped(tmp_path, resultLimit=LIMIT) as (peer, _):
        for parts in (2, 3, 10, 50):
            length, found = await result(peer, text="数", bytes=5 * LIMIT, parts=parts)
            assert length <= LIMIT
            assert found["content"][0]["text"].startswith("数")


@pytest.mark.parametrize("settings", [{}, SHAPED, {"resultLimit": LIMIT}])
async def test_a_result_that_is_an_error_keeps_its_text(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    async with shaped(tmp_path, **settings) as (peer, _):
        _, found = await result(peer, text="坏了 ", bytes=70, structured=True, error=True)
        assert found["content"] == [{"type": "text", "text": "坏了 " * 10}]
        assert found["isError"] is True
        _, found = await result(peer, text="坏了 ", bytes=5 * LIMIT, error=True)
        assert found["content"][0]["text"].startswith("坏了 坏了 ")
        assert found["isError"] is True


async def test_an_image_is_not_cut_in_two(tmp_path: Path) -> None:
    part = {"type": "image", "data": "QUFB" * LIMIT, "mimeType": "image/png"}
    raw = json.dumps({"content": [part]}).encode()
    async with shaped(tmp_path, resultLimit=LIMIT) as (peer, _):
        answer = await peer.call("reply", {"base64": base64.b64encode(raw).decode()})
        assert len(peer.frames[-1]) <= LIMIT
        assert "QUFBQUFB" not in json.dumps(answer)


@pytest.mark.parametrize("servers", [1, 2])
async def test_several_texts_become_one(tmp_path: Path, servers: int) -> None:
    async with shaped(tmp_path, servers, joinText=True) as (peer, prefix):
        _, found = await result(peer, prefix, text="数", bytes=30, parts=3, structured=True)
        [part] = found["content"]
        assert part["type"] == "text"
        assert re.sub(r"\s", "", part["text"]) == "数" * 10
        assert found["structuredContent"] == {"result": "数" * 10}


async def test_what_is_joined_is_under_the_limit_too(tmp_path: Path) -> None:
    async with shaped(tmp_path, joinText=True, resultLimit=LIMIT) as (peer, _):
        length, found = await result(peer, bytes=5 * LIMIT, parts=5)
        assert LIMIT / 2 < length <= LIMIT
        assert len(found["content"]) == 1


@pytest.mark.parametrize("servers", [1, 2])
async def test_references_in_schemas_are_resolved_and_cycles_left_alone(
    tmp_path: Path, servers: int
) -> None:
    async with shaped(tmp_path, servers, inlineSchemas=True) as (peer, prefix):
        schema = peer.tools[f"{prefix}nested"]["inputSchema"]
        place = schema["properties"]["at"]
        assert place["properties"]["lat"] == {"type": "number", "maximum": 180}
        assert place["properties"]["lon"].items() >= {"type": "number", "maximum": 180}.items()
        assert schema["required"] == ["at"]
        assert "Place" not in json.dumps(schema) and "Degrees" not in json.dumps(schema)
        assert schema["$defs"]["Tree"] == {"type": "array", "items": {"$ref": "#/$defs/Tree"}}
        answer = await peer.call(f"{prefix}nested", {"at": {"lat": 1.50}})
        assert json.loads(text(answer)) == {"at": {"lat": 1.5}}


async def test_where_nothing_is_configured_everything_passes_byte_for_byte(tmp_path: Path) -> None:
    raw = (
        '{ "content":[{"type":"text","text":"一"},{"text":"二" , "type":"text"}], "x":1.0,'
        '"structuredContent":{"n":12345678901234567890.10}, "_meta":{}, "isError":false,"pad":"%s"}'
        % ("x" * 20_000)
    ).encode()
    async with shaped(tmp_path) as (peer, _):
        await peer.call("reply", {"base64": base64.b64encode(raw).decode()})
        assert peer.frames[-1].endswith(b'"result":' + raw + b"}")
        assert "$ref" in json.dumps(peer.tools["nested"])
        _, found = await result(peer, bytes=20_000, parts=3, structured=True)
        assert len(found["content"]) == 3 and found.keys() >= {"structuredContent", "_meta"}


async def test_a_self_hosted_endpoint_is_known_to_need_one_text_and_no_references(
    tmp_path: Path,
) -> None:
    async with broker() as endpoint:
        url = endpoint.url_for(path="/mcp_endpoint/mcp/")
        async with running(tmp_path, {"stub": entry()}, url):
            peer = await endpoint.accept()
            await peer.handshake()
            assert "#/$defs/Place" not in json.dumps(peer.tools["nested"])
            _, found = await result(peer, bytes=20_000, parts=3)
            assert len(found["content"]) == 1


async def test_each_endpoint_is_given_what_it_can_take(tmp_path: Path) -> None:
    async with broker() as home, broker() as office:
        endpoints = {"home": {"url": home.url} | SHAPED, "office": {"url": office.url}}
        async with running(tmp_path, {"stub": entry()}, None, settings={"endpoints": endpoints}):
            small, large = await home.accept(), await office.accept()
            for peer in (small, large):
                await peer.handshake()
            length, found = await result(small, bytes=5 * LIMIT, parts=2, structured=True)
            assert length <= LIMIT and len(found["content"]) == 1
            _, found = await result(large, bytes=5 * LIMIT, parts=2, structured=True)
            assert len(found["content"]) == 2 and "structuredContent" in found
            assert "#/$defs/Place" not in json.dumps(small.tools["nested"])
            assert "#/$defs/Place" in json.dumps(large.tools["nested"])
