import pytest

from xzpipe.core.launch import CALL_TIMEOUT, START_TIMEOUT, Launch, child_env


def test_a_server_inherits_the_environment_and_its_own_comes_first():
    parent = {"PATH": "/bin", "LANG": "C"}
    assert child_env(parent, {"LANG": "zh_CN.UTF-8", "KEY": "1"}) == {
        "PATH": "/bin",
        "LANG": "zh_CN.UTF-8",
        "KEY": "1",
    }
    assert parent == {"PATH": "/bin", "LANG": "C"}


@pytest.mark.parametrize("name", ["MCP_ENDPOINT", "MCP_ENDPOINT_HOME", "MCP_CONFIG", "XZPIPE_X"])
def test_what_is_xzpipes_own_is_not_inherited(name):
    assert child_env({name: "value", "MCP_TOKEN": "value"}, {}) == {"MCP_TOKEN": "value"}


def test_a_secret_is_inherited_under_no_name():
    parent = {"URL": "wss://host/mcp/?token=s3cret", "COPY": "s3cret", "OTHER": "secret"}
    assert child_env(parent, {}, ["s3cret"]) == {"OTHER": "secret"}


def test_an_empty_secret_hides_nothing():
    assert child_env({"HOME": "/root", "EMPTY": ""}, {}, [""]) == {"HOME": "/root", "EMPTY": ""}


def test_what_a_server_is_given_by_name_it_gets():
    assert child_env({}, {"MCP_ENDPOINT": "s3cret"}, ["s3cret"]) == {"MCP_ENDPOINT": "s3cret"}


def test_a_launch_has_the_usual_time_limits():
    launch = Launch("calc", ("python", "calc.py"), {})
    assert (launch.start_timeout, launch.call_timeout) == (START_TIMEOUT, CALL_TIMEOUT)
    assert launch.cwd is None
