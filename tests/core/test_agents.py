"""Ids of agents as tokens hold them, and addresses made from a base."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.agents import Base, hashed, parse_base, refused_word
from xzpipe.core.endpoint import query_of
from xzpipe.errors import UsageError

KEY = "your_secret_key"


@pytest.mark.parametrize(
    ("agent_id", "digest"),  # wire.md §3
    [
        ("test1", "5a105e8b9d40e1329780d62ea2265d8a"),
        ("agent123", "2ec199f1e2de31576869a57488e919ad"),
        ("agent1", "83a87fd756ab57199c0bb6d5e11168cb"),
        ("智", "c49daac45133451f2757114205361d8b"),
    ],
)
def test_an_id_is_hashed_as_consoles_do_it(agent_id, digest):
    assert hashed(agent_id) == digest


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("", ""),
        ("/", ""),
        ("/path", "/path"),
        ("/path/", "/path"),
        ("/a/b", "/a/b"),
        ("/health", ""),
        ("/mcp_endpoint/", "/mcp_endpoint"),
        ("/mcp_endpoint/health", "/mcp_endpoint"),
        ("/mcp_endpoint/health/", "/mcp_endpoint"),
        ("/mcp_endpoint//health", "/mcp_endpoint"),
        ("/my-health", "/my-health"),
        ("/health/path", "/health/path"),
        ("/智", "/%E6%99%BA"),
    ],
)
def test_the_prefix_is_the_path_without_health(path, prefix):
    base = parse_base(f"https://host:8080{path}?key={KEY}", "--base")
    assert base == Base("wss", "host:8080", prefix, KEY)


@pytest.mark.parametrize(
    ("scheme", "dialled"), [("https", "wss"), ("http", "ws"), ("wss", "wss"), ("ws", "ws")]
)
def test_the_scheme_is_that_of_a_websocket(scheme, dialled):
    assert parse_base(f"{scheme}://h/?key=k", "--base").scheme == dialled
    assert parse_base(f"{scheme.upper()}://h/?key=k", "--base").scheme == dialled


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("key=a", "a"),
        ("agentid=7&key=a", "a"),
        ("key=a&agentid=7", "a"),
        ("monkey=b&key=a", "a"),
        ("key=a&key=b", "a"),
        ("key=a+b/c==", "a+b/c=="),
        ("key=a%2Bb%26c", "a+b&c"),
        ("key=%E6%99%BA", "智"),
        ("key=智 能", "智 能"),
        ("key=100%", "100%"),
        ("key=a#part", "a"),
    ],
)
def test_the_key_is_read_as_java_reads_it(query, key):
    assert parse_base(f"https://h/path?{query}", "--base").key == key


@pytest.mark.parametrize(
    "text", [" https://h/?key=k \n", "'https://h/?key=k'", '"https://h?key=k"']
)
def test_a_base_is_taken_as_users_paste_it(text):
    assert parse_base(text, "--base") == Base("wss", "h", "", "k")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:8080/path?key=SECRET",
        "ftp://host/path?key=SECRET",
        "https:///path?key=SECRET",
        "https://?key=SECRET",
        "https://host:port/?key=SECRET",
        "https://[::1/?key=SECRET",
        "https://host/?key=SECRET\udcff",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(text):
    with pytest.raises(UsageError) as refused:
        parse_base(text, "--base")
    assert refused.value.message == (
        "--base: expected an address with a host, that begins with https, http, wss or ws"
    )
    assert "SECRET" not in f"{refused.value.hint} {refused.value!r}"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("query", ["", "?", "?key", "?key=", "?token=SECRET", "?KEY=SECRET"])
def test_a_base_without_a_key_is_refused(query):
    with pytest.raises(UsageError) as refused:
        parse_base(f"https://host/path{query}", "XZPIPE_ENDPOINT_BASE")
    assert refused.value.message == "XZPIPE_ENDPOINT_BASE: the address has no key"
    assert "SECRET" not in f"{refused.value.hint} {refused.value!r}"


def test_a_base_never_shows_its_secrets():
    base = parse_base(f"https://user:password@h/?key={KEY}", "--base")
    assert KEY not in f"{base} {base!r}"
    assert "password" not in f"{base} {base!r}"


TOKEN = "xTr7w9G0EcAbf8IorLoBiE5b9K+CwZtl2DlcrI/9XpY="
QUOTED = "xTr7w9G0EcAbf8IorLoBiE5b9K%2BCwZtl2DlcrI%2F9XpY%3D"  # wire.md §3: Java's URLEncoder


def test_both_sides_of_an_agent_are_made_as_consoles_make_them():
    base = parse_base(f"https://mcp.example.com:8080/path?key={KEY}", "--base")
    assert base.tool_side(TOKEN).url == f"wss://mcp.example.com:8080/path/mcp/?token={QUOTED}"
    assert base.call_side(TOKEN).url == f"wss://mcp.example.com:8080/path/call/?token={QUOTED}"


def test_a_prefix_that_looks_like_a_side_stays():
    base = parse_base("http://h/mcp/?key=k", "--base")
    assert base.tool_side("t").url == "ws://h/mcp/mcp/?token=t"
    assert base.call_side("t").url == "ws://h/mcp/call/?token=t"


@given(st.binary(min_size=1), st.sampled_from(["", "/", "/path", "/a/b/", "/a/health"]))
def test_an_endpoint_server_reads_the_token_as_it_was(raw, path):
    token = b64encode(raw).decode()
    base = parse_base(f"http://h:1{path}?key=k", "--base")
    for side, name in ((base.tool_side(token), "mcp"), (base.call_side(token), "call")):
        target = side.url.removeprefix("ws://h:1")
        assert query_of(target) == (f"{base.prefix}/{name}/", {"token": token})


@given(st.text())
def test_any_text_is_a_base_or_a_usage_error(text):
    for tried in (text, f"https://h{text}?key=k", f"https://h/?key={text}"):
        try:
            base = parse_base(tried, "x")
        except UsageError:
            continue
        assert base.key and base.netloc and base.scheme in ("ws", "wss")
        assert not base.prefix.endswith("/")
        assert base.prefix == "" or base.prefix.startswith("/")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ws://h/mcp_endpoint/mcp/?token=abc", ""),
        ("ws://h/mcp_endpoint/mcp/?token=akEyb", "key"),
        ("ws://h/mcp_endpoint/mcp/?token=aCALLb", "call"),
        ("ws://monkey/mcp/?token=t", "key"),
        ("ws://h/k%65y/", ""),
        ("", ""),
    ],
)
def test_a_word_that_makes_an_address_useless_is_found(text, word):
    assert refused_word(text) == word
