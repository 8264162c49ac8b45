"""`run` and `demo` as commands. What `run` does from then on is shown in tests/e2e."""

import json

import pytest

from tests.servers import entry
from xzpipe.cli.main import execute


def config(folder, **settings) -> None:
    tree = {"mcpServers": {"one": entry()}, "xzpipe": settings}
    (folder / "mcp_config.json").write_text(json.dumps(tree))


def test_without_an_endpoint_it_names_the_three_ways_to_give_one(xzpipe, tmp_path):
    config(tmp_path)
    said = xzpipe("run", code=2).stderr
    assert said.startswith("error: no endpoint is given\nhint: ")
    for way in ("MCP_ENDPOINT='wss://", "--endpoint-file PATH", '"xzpipe": {"endpoint"', "--local"):
        assert way in said


@pytest.mark.parametrize("option", [["--backoff-initial", "0"], ["--backoff-max", "nan"]])
def test_waits_that_are_none_are_refused(option, xzpipe, tmp_path):
    config(tmp_path)
    said = xzpipe("run", "--local", *option, code=2).stderr
    assert said.startswith(f"error: {option[0]}: expected seconds above 0\n")


def test_a_config_with_a_bad_endpoint_says_where_it_is_wrong(xzpipe, tmp_path):
    config(tmp_path, endpoint="nonsense")
    said = xzpipe("run", code=2).stderr
    assert "error: mcp_config.json: xzpipe.endpoint: not a WebSocket address" in said
    said = xzpipe("run", code=2, env={"MCP_ENDPOINT": "nonsense"}).stderr
    assert "error: the endpoint: not a WebSocket address" in said


def test_an_endpoint_among_several_that_has_no_address_is_named(xzpipe, tmp_path):
    config(tmp_path, endpoints={"home": {}, "work": {"url": "wss://h/mcp/?token=t"}})
    said = xzpipe("run", code=2).stderr
    assert "error: the endpoint 'home' has no address\n" in said
    assert "url, urlFile and token in the config, or set MCP_ENDPOINT_HOME" in said


def test_servers_that_no_endpoint_sees_are_not_run(xzpipe, tmp_path):
    servers = {"one": entry(), "two": entry()}
    settings = {"endpoints": {"home": {"url": "wss://h/mcp/?token=t", "servers": ["one"]}}}
    tree = {"mcpServers": servers, "xzpipe": settings}
    (tmp_path / "mcp_config.json").write_text(json.dumps(tree))
    said = xzpipe("run", "two", code=2).stderr
    assert "error: no endpoint sees two\n" in said
    assert "xzpipe.endpoints" in said


def test_a_mode_is_one_of_three(capsys):
    assert execute(["run", "--mode", "both"]) == 2
    assert "'separate', 'aggregate', 'auto'" in capsys.readouterr().err


def test_the_demonstration_ends_by_itself_and_shows_its_answer(xzpipe):
    """A proxy that is set in the environment does not stand before this machine."""
    names = "http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"
    done = xzpipe("demo", env=dict.fromkeys(names, "http://127.0.0.1:1"))
    assert "425" in done.stdout.splitlines()[-1]
    assert done.stderr == ""


def test_the_demonstration_takes_nothing(capsys):
    assert execute(["demo", "--fast"]) == 2
    assert "Usage: xzpipe demo" in capsys.readouterr().err
