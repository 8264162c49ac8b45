"""The scripted server does what its flags and tools promise."""

import base64
import json
import os
import signal

import pytest

from tests.servers import JUNK, Stdio, alive, ended, entry, stub, talk
from tests.servers.session import Gone, text, value

pytestmark = pytest.mark.anyio


async def test_it_shakes_hands_and_echoes():
    async with talk(stub("--name", "计算器")) as server:
        tools = await server.handshake()
        assert server.initialized["serverInfo"]["name"] == "计算器"
        assert tools["size"]["inputSchema"]["properties"] == {"bytes": {"type": "integer"}}
        for said in ("", "é 你好 😀", "\u2028", "\x00", "a\r\nb", "\ud800"):
            assert text(await server.call("echo", {"text": said})) == said
        assert value(await server.call("received"))[:3] == [
            "initialize",
            "notifications/initialized",
            "tools/list",
        ]


@pytest.mark.parametrize("id", [0, -1, 2**53, "7", "", "идентификатор", 1.5])
async def test_an_answer_has_the_id_of_its_request(id):
    async with talk(stub()) as server:
        assert (await server.request("ping", id=id))["id"] == id


async def test_it_shows_the_exact_bytes_that_it_received():
    params = (
        r'{ "name":"echo_raw", "arguments":{"x":"\u2028\ud800","big":12345678901234567890.10} }'
    )
    async with talk(stub()) as server:
        await server.send(f'{{"id" : 1e2,"method":"tools/call","params":{params}}}')
        raw = value(await server.receive())
    assert base64.b64decode(raw["params"]).decode() == params
    assert base64.b64decode(raw["id"]) == b"1e2"


async def test_it_answers_with_the_exact_bytes_it_is_told():
    result = '{"content": [], "x":1.0, "s":"\u2028"}'.encode()
    async with talk(stub()) as server:
        await server.call("reply", {"base64": base64.b64encode(result).decode()})
        assert server.frames[-1].endswith(b'"result":' + result + b"}")


async def test_sizes_are_exact():
    async with talk(stub()) as server:
        assert len(text(await server.call("size", {"bytes": 10_000_000}))) == 10_000_000
        for size in (2**16 - 1, 2**16, 2**16 + 1):
            await server.call("frame", {"bytes": size})
            assert len(server.frames[-1]) == size
        assert (await server.call("frame", {"bytes": 1}))["error"]["code"] == -32602


async def test_a_sleeping_call_does_not_hold_up_others():
    async with talk(stub()) as server:
        slow = await server.start_call("sleep", {"seconds": 0.1})
        assert text(await server.call("echo", {"text": "quick"})) == "quick"
        assert text(await server.answer(slow)) == "slept"


async def test_a_blocked_server_answers_nothing_else():
    async with talk(stub()) as server:
        slow = await server.start_call("block", {"seconds": 0.1})
        await server.ping()
        assert [json.loads(frame)["id"] for frame in server.frames] == [slow, slow + 1]
        assert text(await server.answer(slow)) == "blocked"


async def test_held_calls_are_released_last_first():
    async with talk(stub()) as server:
        held = [await server.start_call("hold", {"key": key}) for key in "abc"]
        assert value(await server.call("release")) == 3
        assert [json.loads(frame)["id"] for frame in server.frames[:3]] == held[::-1]
        assert [text(await server.answer(id)) for id in held] == ["a", "b", "c"]


@pytest.mark.parametrize("eol", ["--crlf", "--noise"])
async def test_noise_and_line_ends_leave_the_answers_whole(eol):
    async with talk(stub("--noise", eol)) as server:
        assert text(await server.call("echo", {"text": "heard"})) == "heard"
        assert json.loads(server.frames[len(JUNK)])["id"] == 0
        assert len(server.frames) >= len(JUNK) + 1
        assert text(await server.call("noise")) == "noise"


async def test_an_endless_line_has_no_end():
    async with talk(stub()) as server:
        with pytest.raises(Gone):
            await _doomed(server, "endless", {"bytes": 1_000_000})
        assert len(server.frames[-1]) > 1_000_000


async def _doomed(server: Stdio, tool: str, arguments: dict) -> None:
    """Call a tool that never answers, then let the server go."""
    call = await server.start_call(tool, arguments)
    server.process.stdin.close()
    await server.answer(call)


async def test_stderr_is_as_long_as_asked():
    async with talk(stub("--stderr-bytes", 1_000_000)) as server:
        await server.handshake()
        await server.call("stderr", {"bytes": 300_001, "line": 100_000})
        server.process.stdin.close()
        assert await server.exited() == 0
        assert len(server.stderr) == 1_300_001


async def test_a_server_that_dies_answers_no_one():
    async with talk(stub()) as server:
        waiting = await server.start_call("silent")
        with pytest.raises(Gone):
            await server.call("die", {"code": 7})
        with pytest.raises(Gone):
            await server.answer(waiting)
        assert await server.exited() == 7


@pytest.mark.parametrize(
    ("flags", "code"),
    [(("--exit-at-start", 3), 3), (("--die-after", 0), 1), (("--die-on", "initialize"), 1)],
)
async def test_a_server_can_die_before_it_is_ready(flags, code):
    async with talk(stub(*flags)) as server:
        with pytest.raises((Gone, OSError)):
            await server.handshake()
        assert await server.exited() == code
        assert (b"ModuleNotFoundError" in server.stderr) == (flags[0] == "--exit-at-start")


async def test_a_dying_server_says_so_first():
    async with talk(stub()) as server:
        assert text(await server.call("die_soon", {"seconds": 0, "code": 4})) == "dying"
        assert await server.exited() == 4


async def test_it_can_fail_its_first_starts(tmp_path):
    diary = tmp_path / "diary"
    codes = []
    for _ in range(3):
        async with talk(stub("--diary", diary, "--fail-first", 2)) as server:
            server.process.stdin.close()
            codes.append(await server.exited())
    assert codes == [1, 1, 0]
    assert diary.read_text().count("server ") == 3


async def test_initialize_can_fail_while_the_server_lives_on():
    async with talk(stub("--init-error", "no credentials")) as server:
        assert (await server.request("initialize"))["error"]["message"] == "no credentials"
        await server.ping()


async def test_initialize_can_stay_unanswered():
    async with talk(stub("--no-init-answer")) as server:
        await server.start("initialize")
        await server.ping()
        assert len(server.frames) == 1


async def test_a_second_initialize_can_be_refused():
    async with talk(stub("--refuse-second-initialize")) as server:
        await server.handshake()
        assert (await server.request("initialize"))["error"]["code"] == -32600


async def test_a_server_can_ignore_the_end_of_stdin_and_sigterm():
    async with talk(stub("--ignore-eof", "--ignore-sigterm")) as server:
        await server.handshake()
        server.process.stdin.close()
        server.process.terminate()
        with pytest.raises(TimeoutError):
            await server.exited(timeout=0.2)
        server.process.kill()
        assert await server.exited() == -signal.SIGKILL


async def test_a_grandchild_outlives_sigterm_and_dies_with_its_group():
    async with talk(stub("--grandchild")) as server:
        pids = value(await server.call("pids"))
        assert pids["pgid"] == pids["pid"] == os.getpgid(pids["grandchild"])
        os.killpg(pids["pgid"], signal.SIGTERM)
        await ended(pids["pid"])
        assert alive(pids["grandchild"])
    await ended(pids["grandchild"])


async def test_tools_come_in_pages():
    async with talk(stub("--tools", 5, "--only", "echo", "--pages", 3)) as server:
        names, params = [], {}
        for _ in range(3):
            page = (await server.request("tools/list", params))["result"]
            names += [tool["name"] for tool in page["tools"]]
            params = {"cursor": page.get("nextCursor")}
        assert names == ["echo", *(f"extra_{n}" for n in range(5))]
        assert params == {"cursor": None}
        assert (await server.request("tools/list", {"cursor": "?"}))["error"]["code"] == -32602


async def test_tools_can_change():
    async with talk(stub("--list-changed", "--name", "x")) as server:
        await server.handshake()
        await server.ping()
        assert [m["method"] for m in server.inbox] == ["notifications/tools/list_changed"] * 3
        name = text(await server.call("change_tools"))
        assert len(server.inbox) == 4
        assert text(await server.call(name)) == f"x:{name}"


async def listed(server: Stdio) -> list[list[str]]:
    """The names on each page of tools/list."""
    pages, params = [], {}
    while params != {"cursor": None}:
        page = (await server.request("tools/list", params))["result"]
        pages.append([tool["name"] for tool in page["tools"]])
        params = {"cursor": page.get("nextCursor")}
    return pages


async def test_pages_can_be_of_one_tool_each():
    async with talk(stub("--tools", 2, "--only", "echo,add_tool", "--page-size", 1)) as server:
        names = ["echo", "add_tool", "extra_0", "extra_1"]
        assert await listed(server) == [[name] for name in names]
        await server.call("add_tool", {"name": "fifth"})
        assert await listed(server) == [[name] for name in (*names, "fifth")]
    async with talk(stub("--only", "", "--page-size", 1)) as server:
        assert await listed(server) == [[]]


async def test_tools_of_any_name_are_added_and_removed():
    names = ("weather.get", "计算", "n" * 80)
    async with talk(stub("--only", "echo,size", "--also", ",".join(names))) as server:
        assert await listed(server) == [["echo", "size", *names]]
        for name in names:
            assert text(await server.call(name)) == f"stub:{name}"
        assert text(await server.call("remove_tool", {"name": "计算"})) == "计算"
        assert text(await server.call("remove_tool", {"name": "size"})) == "size"
        assert text(await server.call("add_tool", {"name": "a b"})) == "a b"
        assert await listed(server) == [["echo", names[0], names[2], "a b"]]
        assert len(server.inbox) == 3
        assert text(await server.call("a b")) == "stub:a b"
        assert (await server.call("计算"))["error"]["code"] == -32602


async def test_a_tool_can_have_no_description_and_a_schema_with_references():
    async with talk(stub("--only", "nested", "--also", "bare")) as server:
        nested, bare = (await server.handshake()).values()
        assert bare == {"name": "bare", "inputSchema": {"type": "object"}}
        assert nested["inputSchema"]["$defs"].keys() == {"Degrees", "Place", "Tree"}
        assert value(await server.call("nested", {"at": {"lat": 1.0}})) == {"at": {"lat": 1.0}}


async def test_a_result_has_the_parts_that_it_is_asked_for():
    async with talk(stub()) as server:
        answer = (await server.call("result", {"text": "数", "bytes": 10, "parts": 3}))["result"]
        assert answer == {"content": [{"type": "text", "text": n * "数"} for n in (1, 1, 2)]}
        answer = await server.call("result", {"bytes": 5, "structured": True, "error": True})
        assert answer["result"] == {
            "content": [{"type": "text", "text": "xxxxx"}],
            "structuredContent": {"result": "xxxxx"},
            "_meta": {"bytes": 5},
            "isError": True,
        }


async def test_it_can_fall_silent_at_params_that_are_null():
    ping = '{"jsonrpc":"2.0","id":%d,"method":"ping","params":null}'
    for flags, answered in ((["--ignore-null-params"], []), ([], [1])):
        async with talk(stub(*flags)) as server:
            await server.send(ping % 1)
            await server.ping()
            assert [message["id"] for message in server.inbox] == answered


async def test_a_server_can_have_no_tools():
    async with talk(stub("--no-tools")) as server:
        assert (await server.request("initialize"))["result"]["capabilities"] == {}
        assert (await server.request("tools/list"))["error"]["code"] == -32601
        assert (await server.request("resources/list"))["result"]["_meta"] == {"marker": "stub"}


async def test_it_asks_for_roots_and_keeps_the_answers():
    async with talk(stub("--roots")) as server:
        await server.handshake()
        assert (await server.receive())["id"] == 0
        assert (await server.receive())["method"] == "ping"
        await server.send({"jsonrpc": "2.0", "id": 0, "result": {"roots": []}})
        assert value(await server.call("answers")) == [
            {"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}
        ]


async def test_progress_and_cancellation_are_passed_on():
    async with talk(stub()) as server:
        await server.call("progress", {"n": 2}, _meta={"progressToken": "t"})
        assert [m["params"]["progress"] for m in server.inbox] == [1, 2]
        assert {m["params"]["progressToken"] for m in server.inbox} == {"t"}
        await server.notify("notifications/cancelled", {"requestId": 5})
        assert value(await server.call("cancelled")) == [5]


async def test_it_tells_how_it_was_started(tmp_path):
    async with talk(stub("--name", "x"), env={"A": "b"}, cwd=tmp_path) as server:
        assert value(await server.call("env")).items() >= {"A": "b"}.items()
        assert value(await server.call("argv")) == stub("--name", "x")
        assert text(await server.call("cwd")) == str(tmp_path)
        assert text(await server.call("whoami")) == "x"


async def test_unknown_things_get_their_errors():
    async with talk(stub()) as server:
        assert (await server.request("sampling/none"))["error"]["code"] == -32601
        assert (await server.call("nothing"))["error"]["code"] == -32602
        assert (await server.call("size", {"length": 1}))["error"]["code"] == -32602
        await server.send("[]")
        assert value(await server.call("received"))[-2:] == ["?", "tools/call"]


def test_an_entry_is_the_same_command():
    config = entry("--noise")
    assert [config["command"], *config["args"]] == stub("--noise")
