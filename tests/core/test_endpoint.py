"""Endpoint addresses, and texts without their secrets."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.endpoint import MASK, Endpoint, parse_endpoint, query_of, redact
from xzpipe.errors import UsageError

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJ1c2VySWQiOjF9.c2ln"
OFFICIAL = f"wss://api.xiaozhi.me/mcp/?token={JWT}"
LOCAL = "ws://host:8004/mcp_endpoint/mcp/?token=a%2Fb%2Bc%3D%3D"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (OFFICIAL, OFFICIAL),
        (LOCAL, LOCAL),
        ("https://h/mcp/?token=t", "wss://h/mcp/?token=t"),
        ("http://h:1/mcp/?token=t", "ws://h:1/mcp/?token=t"),
        ("WSS://h/?token=t", "wss://h/?token=t"),
        (f" \n{OFFICIAL}\t\r\n", OFFICIAL),
        (f'"{OFFICIAL}"', OFFICIAL),
        (f"' {OFFICIAL} '", OFFICIAL),
        ("ws://h/?token=t#part", "ws://h/?token=t"),
        ("ws://h/?token=a b\"c'd<e>", "ws://h/?token=a%20b%22c%27d%3Ce%3E"),
        ("ws://h/?token=a+b/c==", "ws://h/?token=a+b/c=="),
        ("ws://h/智/?token=智", "ws://h/%E6%99%BA/?token=%E6%99%BA"),
        ("ws://智.cn/", "ws://智.cn/"),
        ("ws://[::1]:8004/mcp/?token=t", "ws://[::1]:8004/mcp/?token=t"),
        ("ws://user:pass@h/?token=t", "ws://user:pass@h/?token=t"),
    ],
)
def test_an_address_is_taken_as_users_paste_it(text, url):
    assert parse_endpoint(text, "MCP_ENDPOINT").url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        JWT,
        "api.xiaozhi.me/mcp/?token=SECRET",
        "ftp://h/?token=SECRET",
        "wss:///mcp/?token=SECRET",
        "wss://?token=SECRET",
        "wss://h:port/?token=SECRET",
        "wss://h:99999/?token=SECRET",
        "wss://[::1/?token=SECRET",
        "wss://h/?token=SECRET\udcff",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(text):
    with pytest.raises(UsageError) as refused:
        parse_endpoint(text, "--endpoint")
    said = f"{refused.value.message} {refused.value.hint} {refused.value!r}"
    assert said.startswith("--endpoint: not a WebSocket address")
    assert "SECRET" not in said
    assert JWT not in said


@given(st.text())
def test_any_text_is_an_endpoint_or_a_usage_error(text):
    for tried in (text, f"wss://{text}", f"ws://h/{text}"):
        try:
            endpoint = parse_endpoint(tried, "x")
        except UsageError:
            continue
        assert endpoint.url.startswith(("ws://", "wss://"))
        if not endpoint.url.endswith(("'", '"')):  # a host that is none; it will not be dialled
            assert parse_endpoint(endpoint.url, "x") == endpoint


def test_an_endpoint_never_shows_its_token():
    endpoint = parse_endpoint(OFFICIAL, "x")
    assert str(endpoint) == f"wss://api.xiaozhi.me/mcp/?token={MASK}"
    assert JWT not in repr(endpoint)


def test_the_secrets_are_the_token_in_every_form():
    assert set(parse_endpoint(LOCAL, "x").secrets) == {"a%2Fb%2Bc%3D%3D", "a/b+c=="}
    assert set(parse_endpoint("ws://h/?x=1&token=abcd/ef", "x").secrets) == {"abcd/ef", "abcd%2Fef"}
    two = parse_endpoint("ws://h/?token=number-one&token=number-two", "x")
    assert set(two.secrets) == {"number-one", "number-two"}


@pytest.mark.parametrize(
    "url", ["ws://h/", "ws://h/?token=", "ws://h/?mytoken=abcdef", "ws://h/?token"]
)
def test_without_a_token_there_are_no_secrets(url):
    assert parse_endpoint(url, "x").secrets == ()


def test_a_very_short_token_is_in_other_texts_by_chance_and_what_is_no_url_has_none():
    assert Endpoint("ws://h/?token=calc").secrets == ()
    assert Endpoint("wss://[h/?token=abcdef").secrets == ()
    assert Endpoint("").secrets == ()


def test_the_calling_side_is_beside_the_servers_side():
    endpoint = parse_endpoint("ws://h:8004/mcp_endpoint/mcp/?token=call%2Fmcp%2F", "x")
    assert endpoint.call_side.url == "ws://h:8004/mcp_endpoint/call/?token=call%2Fmcp%2F"
    assert Endpoint("ws://h/mcp/mcp/?token=t").call_side.url == "ws://h/mcp/call/?token=t"


@pytest.mark.parametrize(
    "path", ["/mcp_endpoint/call/", "/call/", "/mcp/call/", "/mcp/call/mcp", "/call/more"]
)
def test_an_address_of_the_calling_side_is_taken_as_it_is(path):
    endpoint = Endpoint(f"ws://h{path}?token=/mcp/")
    assert endpoint.call_side == endpoint


def test_what_is_before_the_servers_side_does_not_matter():
    assert Endpoint("ws://h/call/mcp/?token=t").call_side.url == "ws://h/call/call/?token=t"


@pytest.mark.parametrize(
    "path", ["/other/", "/call", "/mcp", "/", "", "/recall/", "/mcp_endpoint/"]
)
def test_an_endpoint_without_a_calling_side_says_so_without_its_token(path):
    with pytest.raises(UsageError) as refused:
        _ = Endpoint(f"ws://h{path}?token=/mcp/SECRET/call/").call_side
    assert "no side to call from" in refused.value.message
    assert "SECRET" not in refused.value.message


def test_a_server_id_is_added_to_the_query():
    assert Endpoint("ws://h/mcp/?token=a%2B").with_server_id("计 算&1").url == (
        "ws://h/mcp/?token=a%2B&server_id=%E8%AE%A1+%E7%AE%97%261"
    )
    assert Endpoint("ws://h/mcp/").with_server_id("a").url == "ws://h/mcp/?server_id=a"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_the_endpoint_reads_the_server_id_that_was_added(server):
    url = Endpoint("ws://h/mcp/?token=t").with_server_id(server).url
    target = url.removeprefix("ws://h")
    assert query_of(target) == ("/mcp/", {"token": "t", "server_id": server})


def test_of_a_key_given_twice_the_first_counts():
    assert query_of("/mcp/?token=a%2B&token=b&empty=") == ("/mcp/", {"token": "a+"})
    assert query_of("/mcp/") == ("/mcp/", {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /mcp/?token=abc HTTP/1.1", "GET /mcp/?token=*** HTTP/1.1"),
        ("health?key=abc&agentid=7", "health?key=***&agentid=7"),
        ("TOKEN=abc api_key=def", "TOKEN=*** api_key=***"),
        ("url=wss%3A%2F%2Fh%2F%3Ftoken%3Dabc done", "url=wss%3A%2F%2Fh%2F%3Ftoken%3D*** done"),
        ('{"url":"wss://h/?token=abc","n":1}', '{"url":"wss://h/?token=***","n":1}'),
        ('{"access_token": "abc", "n": 1}', '{"access_token": "***", "n": 1}'),
        ("{'token': 'abc'}", "{'token': '***'}"),
        (r'"{\"token\":\"abc\"}"', r'"{\"token\":\"***\"}"'),
        (f"bad token {JWT}, sorry", "bad token ***, sorry"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ.", "***"),
        ("http://user:p@ss@proxy:8080/x", "http://***@proxy:8080/x"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("proxy-authorization: bearer abc.def", "proxy-authorization: bearer ***"),
        ('"Authorization": "Bearer abc"', '"Authorization": "Bearer ***"'),
        ("--header Authorization=Bearer abc -v", "--header Authorization=Bearer *** -v"),
        ("a <b> & c: 25 * 17, mail@host", "a <b> & c: 25 * 17, mail@host"),
        ("http://host/?mail=a@b", "http://host/?mail=a@b"),
    ],
)
def test_secrets_are_masked_wherever_they_stand(text, shown):
    assert redact(text) == shown


def test_the_longest_of_the_given_secrets_is_masked_first():
    assert redact("secret-and-more", ("secret", "secret-and-more", "")) == MASK


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(st.text(), min_size=2, max_size=5))
def test_a_redacted_text_holds_no_given_secret(secrets, between):
    text = "".join(part + secrets[n % len(secrets)] for n, part in enumerate(between))
    shown = redact(text, tuple(secrets))
    # what the masking itself adds cannot be told from a secret that consists of it
    assert not any(secret in shown for secret in secrets)


TOKENS = st.binary(min_size=12, max_size=60).map(lambda raw: base64.b64encode(raw).decode())


@given(TOKENS, st.text())
def test_a_token_in_an_address_is_in_no_redacted_text(token, around):
    endpoint = parse_endpoint(f"wss://h/mcp/?token={token}", "x")
    text = f"{around}{endpoint.url} {endpoint!r} {endpoint} {token}{around}"
    assert token not in redact(text, endpoint.secrets)
    assert token not in str(endpoint)


@given(st.text())
def test_redacting_twice_changes_nothing_more(text):
    once = redact(f"token={text}", ("a",))
    assert redact(once, ("a",)) == once


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "part", ["a", "token=", "eyJ", "a://", "://", '"key": ', "Authorization: Bearer", "a@", "://a@"]
)
def test_a_long_line_is_redacted_in_linear_time(part):
    """A server may write 64 KiB of anything on one line of its stderr."""
    line = part * (2**18 // len(part))
    assert "=abc" not in redact(f"{line} token=abc")


def jwt(payload):
    parts = (b'{"alg":"ES256"}', json.dumps(payload).encode(), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize(
    ("token", "expires"),
    [
        (jwt({"userId": 1, "exp": 1800000000}), 1800000000),
        (jwt({"userId": 1}), None),
        (jwt({"exp": "soon"}), None),
        (jwt([1800000000]), None),
        (jwt({"exp": 1e400}), None),
        ("abc.def.ghi", None),
        ("no-web-token", None),
        ("..", None),
    ],
)
def test_a_token_that_says_when_it_expires_is_believed(token, expires):
    assert Endpoint(f"wss://host/mcp/?token={token}").expires == expires
    assert Endpoint(f"wss://host/mcp/?token={quote(token)}&x=1").expires == expires
