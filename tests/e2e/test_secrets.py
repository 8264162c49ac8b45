"""The token: in no log of any format at DEBUG, in no child's environment or argv, in no error."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.e2e.running import AS_INSTALLED, PLAIN_ASYNCIO, Xzpipe, backoff, finished, gone, running
from tests.endpoints import broker
from tests.servers import entry, stub
from tests.servers.session import value

pytestmark = pytest.mark.anyio

# as self-hosted ones are, and as awkward: base64 that must be percent-encoded in a URL
TOKEN = "q7Xw+Zk2/VbN9pLs3RtY8+uHgF5dC/a1QeM="
QUOTED = quote(TOKEN, safe="")
PASSWORD = "Kx81-hunter-Pz33"
SHORTEST = 8  # characters of a secret that nobody needs to see in a row
QUICK = backoff(initial=0.01, longest=0.02)


def leaked(shown: Iterable[str], *secrets: str) -> set[str]:
    """The parts of these secrets, the token's two forms among them, that are to be seen."""
    whole = re.sub(r"\s", "", "\0".join(shown))  # a terminal breaks lines anywhere
    return {
        part
        for secret in (TOKEN, QUOTED, *secrets)
        for part in (secret[at : at + SHORTEST] for at in range(len(secret) - SHORTEST + 1))
        if part in whole
    }


def of_descendants(xzpipe: Xzpipe) -> list[str]:
    """Environment and argv of everything that xzpipe has started, the guard among them."""
    shown = []
    own = psutil.Process(xzpipe.process.pid).cmdline()
    for each in xzpipe.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):  # one of them fails again and again
            argv = each.cmdline()
            if argv != own:  # else it is a fork of xzpipe that has not become a server yet
                shown += [*argv, *(f"{k}={v}" for k, v in each.environ().items())]
    assert shown
    return shown


def test_a_leak_would_be_seen() -> None:
    assert leaked(["a harmless text", f"q7Xw+Zk2 {PASSWORD}"[:7]]) == set()
    assert leaked([f"… {TOKEN} …"]) and leaked([f"?token={QUOTED}&"]) and leaked([TOKEN[5:14]])
    assert leaked([f"…{TOKEN[:9]}\n    {TOKEN[9:]}"])
    assert leaked(["http://user:Kx81-hunter"], PASSWORD)


@pytest.mark.parametrize(
    ("format", "python"),
    [("json", AS_INSTALLED), ("plain", PLAIN_ASYNCIO), ("rich", AS_INSTALLED)],
)
async def test_the_token_is_in_no_log_and_in_no_child_whatever_happens(
    tmp_path: Path, format: str, python: tuple[str, ...]
) -> None:
    async with broker() as endpoint:
        url = endpoint.url_for(QUOTED)
        elsewhere = f"ws://localhost:{endpoint.port}/elsewhere/?token={QUOTED}"
        endpoint.refuse(429, {"X-Your-Token": TOKEN})
        endpoint.refuse(426, {"Set-Cookie": f"acw_tc=1; path=/?token={QUOTED}"})
        endpoint.refuse(302, {"Location": f"/elsewhere/?token={QUOTED}"})
        endpoint.refuse(307, {"Location": elsewhere})
        endpoint.refuse(308, {"Location": f"http://no-websocket/?token={QUOTED}"})
        endpoint.refuse(301, {"Location": f"ws://127.0.0.1:99999/?token={QUOTED}"})
        endpoint.refuse(301, {"Location": f"ws://127.0.0.1:1/?token={QUOTED}"})
        endpoint.hang_up(4004, f"unknown token {TOKEN}")
        endpoint.hang_up(4000, f"?token={QUOTED}")
        (tmp_path / ".env").write_text(f"FROM_DOTENV='{url}'\nBARE_IN_DOTENV='{TOKEN}'\n")
        env = {
            "OTHER_URL": url, "BARE": TOKEN, "QUOTED": f"x{QUOTED}x", "XZPIPE_ENDPOINT": url,
            "HARMLESS": "stays", "XZPIPE_LOG_LEVEL": "info", "COLUMNS": "60",
            "PYTHONASYNCIODEBUG": "1",
        }  # fmt: skip
        servers = {
            "stub": entry("--grandchild"),
            "missing": {"command": "no-such-command"},
            "failing": entry("--exit-at-start", 1),
        }
        options = [*QUICK, "--log-format", format]
        async with running(tmp_path, servers, url, *options, env=env, python=python) as xzpipe:
            peer = await endpoint.accept()
            assert len(endpoint.attempts) == 10
            await peer.handshake()
            shown = [str(value(await peer.call(tool))) for tool in ("env", "argv")]
            assert "HARMLESS" in shown[0] and "PATH" in shown[0]
            assert "XZPIPE_" not in shown[0] and "MCP_" not in shown[0]
            endpoint.stop_listening()
            peer.reset()
            await xzpipe.says("the connection was lost")
            shown += of_descendants(xzpipe)
            left = xzpipe.descendants()
            assert await xzpipe.stop() == 0
            assert await gone(left) == []
            log = await xzpipe.whole_log()
            # what is looked for was there: the library's own lines, and the address without it
            assert "GET /mcp/" in log and "token=***" in log and "HTTP/1.1" in log
            assert leaked([*shown, log]) == set()


@pytest.mark.parametrize("way", ["file", "config", ".env"])
async def test_it_makes_no_difference_where_the_token_came_from(tmp_path: Path, way: str) -> None:
    async with broker() as endpoint:
        url = endpoint.url_for(QUOTED)
        options, settings = [], {}
        if way == "file":
            (tmp_path / "endpoint").write_text(url)
            options = ["--endpoint-file", "endpoint"]
        elif way == "config":
            settings = {"endpoint": url}
        else:
            (tmp_path / ".env").write_text(f"MCP_ENDPOINT={url}\n")
        env = {"OTHER": f"see {TOKEN}", "HARMLESS": "stays"}
        async with running(
            tmp_path, {"stub": entry()}, None, *options, settings=settings, env=env
        ) as xzpipe:
            peer = await endpoint.accept()
            await peer.handshake()
            shown = [str(value(await peer.call("env")))]
            assert "HARMLESS" in shown[0]
            shown += of_descendants(xzpipe)
            shown += psutil.Process(xzpipe.process.pid).cmdline()
            assert await xzpipe.stop() == 0
            assert leaked([*shown, await xzpipe.whole_log()]) == set()


async def test_a_proxys_password_is_in_no_log(tmp_path: Path) -> None:
    async with broker() as endpoint:
        url = endpoint.url_for(QUOTED)
        for scheme in ("http", "socks5", "gopher"):
            proxy = f"{scheme}://user:{PASSWORD}@127.0.0.1:1"
            settings = {"proxy": proxy}
            async with running(
                tmp_path, {"stub": entry()}, url, *QUICK, settings=settings
            ) as xzpipe:
                down = await xzpipe.event("LinkDown", 3)
                assert "proxy" in down["cause"]
                assert await xzpipe.stop() == 0
                assert leaked([await xzpipe.whole_log()], PASSWORD) == set()
        assert endpoint.attempts == []


@pytest.mark.parametrize(
    "url",
    [
        f"wss://host:99999/?token={QUOTED}",
        f"wss://[::1/?token={QUOTED}",
        f"ftp://host/?token={QUOTED}",
        f"//host/mcp/?token={QUOTED}",
        TOKEN,
        f"wss://ho st:x/?token={TOKEN}",
    ],
)
async def test_an_address_that_is_none_is_not_repeated(tmp_path: Path, url: str) -> None:
    for arguments, env in (
        (("run", "--", *stub()), {"MCP_ENDPOINT": url}),
        (("tools", "--endpoint", url), {}),
    ):
        result = await finished(tmp_path, *arguments, env=env)
        assert result.code == 2 and "not a WebSocket address" in result.stderr
        assert leaked([result.stdout, result.stderr]) == set()


async def test_an_address_that_is_none_is_not_repeated_wherever_it_is_from(
    tmp_path: Path,
) -> None:
    url = f"wss://host:99999/?token={QUOTED}"
    config = f"mcpServers: {{stub: {{command: x}}}}\nxzpipe: {{endpoint: '{url}'}}\n"
    (tmp_path / "mcp_config.yaml").write_text(config)
    (tmp_path / "endpoint").write_text(url)
    for arguments in ((), ("--endpoint-file", "endpoint"), ("--endpoint", url)):
        result = await finished(tmp_path, "run", *arguments)
        assert result.code == 2 and "not a WebSocket address" in result.stderr
        assert leaked([result.stdout, result.stderr]) == set()


@pytest.mark.parametrize(
    "config",
    [
        f"xzpipe: {{endpoint: ws://h/?token={QUOTED}: @}}\n",
        f"xzpipe:\n  endpoint: 'ws://h/?token={QUOTED}\n",
        f"xzpipe: ws://h/?token={QUOTED}\nmcpServers: {{}}\n",
        f"xzpipe: {{endpoint: [ws://h/?token={QUOTED}]}}\nmcpServers: {{a: {{}}}}\n",
        f"xzpipe: {{proxy: 'token={QUOTED}'}}\nmcpServers: {{a: {{command: ws://{QUOTED}/}}}}\n",
    ],
)
async def test_a_config_that_is_wrong_is_not_repeated(tmp_path: Path, config: str) -> None:
    (tmp_path / "mcp_config.yaml").write_text(config)
    result = await finished(tmp_path, "run")
    assert result.code == 2 and "mcp_config.yaml" in result.stderr
    assert leaked([result.stdout, result.stderr]) == set()


CRASH = """
import os, sys, anyio
from xzpipe import app, logs
from xzpipe.cli.main import cli, execute
from xzpipe.core.endpoint import Endpoint

@cli.command()
def crash():
    async def body(guard):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()
    async def fail():
        try:
            raise ValueError("cannot dial " + endpoint.url)
        except ValueError as error:
            raise KeyError(os.environ["TOKEN"]) from error
    endpoint = Endpoint(os.environ["MCP_ENDPOINT"])
    logs.setup("debug", "plain", os.environ, endpoint.secrets)
    return app.main(body)

sys.exit(execute(["crash"]))
"""


async def test_the_report_of_a_crash_holds_no_token(tmp_path: Path) -> None:
    env = {"MCP_ENDPOINT": f"ws://h/?token={QUOTED}", "TOKEN": TOKEN}
    result = await finished(tmp_path, env=env, python=("-c", CRASH))
    assert result.code == 70 and "please report it" in result.stderr
    assert "cannot dial ws://h/?token=***" in result.stderr and "KeyError" in result.stderr
    assert leaked([result.stdout, result.stderr]) == set()


async def test_a_token_of_a_few_letters_makes_no_holes_in_the_log(tmp_path: Path) -> None:
    url = "ws://127.0.0.1:1/?token=e"
    async with running(tmp_path, {"stub": entry()}, url, *QUICK) as xzpipe:
        await xzpipe.event("ServerReady", server="stub")
        down = await xzpipe.event("LinkDown")
        assert "nothing listens at the endpoint's address" in down["cause"]
        assert await xzpipe.stop() == 0
        assert "token=e" not in await xzpipe.whole_log()
