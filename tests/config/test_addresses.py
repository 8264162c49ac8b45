"""Where endpoints are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.config.addresses import (
    is_address,
    needs,
    of_entry,
    secrets,
    unnamed,
    variable,
    variables,
)
from xzpipe.config.model import Named, Own
from xzpipe.config.policies import Notes
from xzpipe.config.servers import Surroundings
from xzpipe.config.settings import Overrides, effective
from xzpipe.core.endpoint import Endpoint, parse_endpoint
from xzpipe.errors import UsageError

NO_ADDRESS = "not a WebSocket address; it looks like wss://api.xiaozhi.me/mcp/?token=…"
SELF_HOSTED = Endpoint("ws://pi:8004/mcp_endpoint/mcp/?token=abcdef")


@pytest.fixture
def around(tmp_path):
    env = {"HOME": str(tmp_path / "home"), "VAR": "wss://var/", "BAD": "s3cret"}
    return Surroundings(tmp_path, env, effective(Own(), env, Overrides()))


def entry(around: Surroundings, given: str | None = None, **keys: str) -> tuple[str, list[str]]:
    notes = Notes()
    address = of_entry(Named(**keys), "here", given, around, notes)
    assert notes.warnings == []
    return address.url if address else "", notes.problems


# Of an entry


def test_a_url_is_taken_as_users_paste_it(around):
    assert entry(around, url=" 'https://h/?token=a b' ") == ("wss://h/?token=a%20b", [])
    assert entry(around, url="ws://h/mcp/{server}/") == ("ws://h/mcp/{server}/", [])


def test_a_file_is_beside_the_config_or_at_home(around, tmp_path):
    (tmp_path / "home").mkdir()
    for name in ("url", "home/url"):
        (tmp_path / name).write_text(f"\ufeff wss://{name}\n", encoding="utf-8")
    assert entry(around, url_file="url") == ("wss://url", [])
    assert entry(around, url_file="~/url") == ("wss://home/url", [])
    assert entry(around, url_file=str(tmp_path / "url")) == ("wss://url", [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "expected UTF-8 text, byte 0 is none"),
        (b"s3cret", NO_ADDRESS),
        (b"", NO_ADDRESS),
        (b"x" * (2**20 + 1), "expected at most 1048576 bytes, found more"),
    ],
)
def test_a_file_that_holds_no_address_is_a_problem_of_its_place(around, tmp_path, content, problem):
    if content is not None:
        (tmp_path / "s3cret").write_bytes(content)
    assert entry(around, url_file="s3cret") == ("", [f"here.urlFile: {problem}"])


@pytest.mark.parametrize(
    ("token", "written"),
    [
        ("eyJh.eyJ1.c-_", "eyJh.eyJ1.c-_"),
        ("a+b/c==", "a%2Bb%2Fc%3D%3D"),
        ("a%2Bb%3d", "a%2Bb%3d"),
        ("100%", "100%25"),
        (" a&b#c\n", "a%26b%23c"),
    ],
)
def test_a_token_is_one_of_the_official_endpoint(around, token, written):
    url = f"wss://api.xiaozhi.me/mcp/?token={written}"
    assert entry(around, token=token) == (url, [])


@pytest.mark.parametrize("token", ["wss://h/?token=s3cret", "s3\ncret", "s3cret\udcff"])
def test_a_token_that_is_none_is_refused_and_not_shown(around, token):
    problem = "here.token: expected a token and nothing else; a URL goes into url"
    assert entry(around, token=token) == ("", [problem])


@given(st.text(min_size=1))
def test_any_token_makes_an_address_that_holds_it(token):
    notes = Notes()
    address = of_entry(Named(token=token), "here", None, None, notes)
    assert (address is None) == bool(notes.problems)
    if address:
        assert parse_endpoint(address.url, "x") == address


@pytest.mark.parametrize("given", [None, "VAR"])
def test_one_way_is_enough(around, given):
    problem = "here: expected one of url, urlFile and token, found {}"
    assert entry(around, given, url="a", token="b") == ("", [problem.format(2)])
    assert entry(around, given, url="a", url_file="b", token="c") == ("", [problem.format(3)])


def test_what_is_empty_is_not_given(around):
    assert entry(around) == ("", [])
    assert entry(around, url="", url_file="", token="t") == (
        "wss://api.xiaozhi.me/mcp/?token=t",
        [],
    )


def test_the_variable_wins_over_the_entry_and_spares_the_file(around):
    assert entry(around, "VAR", url_file="none") == ("wss://var/", [])
    assert entry(around, "BAD", url="wss://h/") == ("", [f"BAD: {NO_ADDRESS}"])


def test_an_address_that_is_none_is_named_and_not_shown(around):
    assert entry(around, url="s3cret") == ("", [f"here.url: {NO_ADDRESS}"])


# Of the endpoint without a name


def test_the_command_line_wins_over_the_environment_and_that_over_the_file():
    own, notes = Own(endpoint="wss://file/"), Notes()
    env = {"MCP_ENDPOINT": "wss://env/"}
    assert unnamed("wss://cli/", own, env, notes).url == "wss://cli/"
    assert unnamed(None, own, env, notes).url == "wss://env/"
    assert unnamed(None, own, {"MCP_ENDPOINT": ""}, notes).url == "wss://file/"
    assert unnamed(None, Own(endpoint=""), {}, notes) is None
    assert notes == Notes()


def test_what_is_no_address_is_said_of_the_file_and_of_the_rest():
    own, notes = Own(endpoint="s3cret"), Notes()
    for option, env in (("s3cret", {}), (None, {"MCP_ENDPOINT": "s3cret"})):
        with pytest.raises(UsageError) as caught:
            unnamed(option, own, env, notes)
        assert caught.value.message == "the endpoint: not a WebSocket address"
    assert unnamed(None, own, {}, notes) is None
    assert notes.problems == [f"xzpipe.endpoint: {NO_ADDRESS}"]


# Variables


@pytest.mark.parametrize(
    ("name", "var"),
    [
        ("home", "MCP_ENDPOINT_HOME"),
        ("Living-Room 2", "MCP_ENDPOINT_LIVING_ROOM_2"),
        ("a.b_c", "MCP_ENDPOINT_A_B_C"),
        ("客厅", "MCP_ENDPOINT_客厅"),
    ],
)
def test_an_endpoint_has_a_variable(name, var):
    assert variable(name) == var


def test_variables_of_endpoints_are_found_however_they_are_spelt():
    env = {
        "MCP_ENDPOINT": "1",
        "MCP_ENDPOINT_": "2",
        "MCP_ENDPOINT_Home": "3",
        "MCP_ENDPOINT_EMPTY": "",
        "MCP_ENDPOINTS_X": "4",
        "MCP_ENDPOINT_A_B": "5",
    }
    assert variables(env) == {
        "MCP_ENDPOINT_HOME": "MCP_ENDPOINT_Home",
        "MCP_ENDPOINT_A_B": "MCP_ENDPOINT_A_B",
    }


def test_an_address_is_told_from_a_name():
    assert is_address("ws://h")
    assert not is_address("home")
    assert not is_address(None)


# What is known, and what is secret


def test_the_official_endpoint_is_known_to_take_8192_bytes():
    assert needs(Endpoint("wss://API.xiaozhi.me/mcp/?token=x")) == {"result_limit": 8192}


def test_a_self_hosted_endpoint_is_known_to_need_simple_results():
    assert needs(SELF_HOSTED) == {
        "result_limit": 2**20,
        "join_text": True,
        "inline_schemas": True,
        "rereads": False,
    }


@pytest.mark.parametrize(
    "url", ["wss://h/mcp/?token=api.xiaozhi.me", "ws://mcp_endpoint/?a=/mcp_endpoint/"]
)
def test_nothing_is_known_of_another_endpoint(url):
    assert needs(Endpoint(url)) == {}
    assert needs(None) == {}


def test_tokens_and_headers_are_secret_if_they_are_long():
    headers = {
        "Authorization": "Bearer t0ken.long",
        "X-Key": "short",
        "X-API-KEY": "sixsix",
        "Cookie": "sid=c00kie.long; a=b",
        "X-Site": "production",
        "X-Dir": "/usr/bin",
    }
    assert secrets(SELF_HOSTED, headers) == {
        "abcdef",
        "Bearer t0ken.long",
        "Bearer",
        "t0ken.long",
        "sixsix",
        "sid=c00kie.long; a=b",
        "c00kie.long",
    }
    assert secrets(None, {}) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_problem(around, tmp_path):
    (tmp_path / "f").write_text("wss://h/")
    (tmp_path / "f").chmod(0)
    assert entry(around, url_file="f") == ("", ["here.urlFile: cannot be read: Permission denied"])
