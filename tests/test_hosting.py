"""The key, the certificate and the addresses of an endpoint server."""

import os
import shutil
import stat
import subprocess

import anyio
import pytest

from xzpipe.agent_token import agent_of
from xzpipe.config.model import Serve
from xzpipe.core.endpoint import query_of
from xzpipe.errors import UsageError, XzpipeError
from xzpipe.hosting import (
    base,
    default_key_file,
    doubts,
    host,
    make_key,
    read_key,
    serving,
    single_module,
)

KEY = "6a369b7f1bcf4d3e8d123ece38bb9627"
MIB = 2**20


def settings(**keys: object) -> Serve:
    return Serve(**keys)


# The key


def test_a_key_is_made_once_and_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "endpoint.key"
    key = make_key(path)
    assert len(bytes.fromhex(key)) == 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_key(path) == read_key(path) == key
    assert os.listdir(path.parent) == ["endpoint.key"]
    assert doubts(path, "127.0.0.1", tls=False) == []


def test_two_keys_are_never_the_same(tmp_path):
    assert make_key(tmp_path / "a") != make_key(tmp_path / "b")


@pytest.mark.parametrize("text", ["", " \n", "two keys", "x" * 5000, "\udcff", "a\x01b"])
def test_a_file_that_holds_no_key_is_refused_and_left_alone(text, tmp_path):
    path = tmp_path / "endpoint.key"
    data = text.encode(errors="surrogateescape")
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"^the key file .*endpoint\.key: expected"):
        make_key(path)
    assert path.read_bytes() == data


def test_a_key_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"endpoint\.key: cannot be made: "):
        make_key(tmp_path / "file" / "endpoint.key")


def test_a_pipe_is_no_key_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="expected a file"):
        make_key(tmp_path / "pipe")


def test_a_key_file_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_key(tmp_path / "endpoint.key")


def test_a_key_that_others_may_read_is_warned_of(tmp_path):
    path = tmp_path / "endpoint.key"
    make_key(path)
    path.chmod(0o640)
    [said] = doubts(path, "::1", tls=False)
    assert "chmod 600" in said and make_key(path) not in said


@pytest.mark.parametrize(
    ("env", "where"),
    [
        ({"HOME": "/home/me"}, "/home/me/.config/xzpipe/endpoint.key"),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "/c"}, "/c/xzpipe/endpoint.key"),
    ],
)
def test_a_key_has_its_place_in_the_users_config(env, where):
    assert str(default_key_file(env)) == where


# What is served


def test_what_nobody_says_is_as_the_endpoint_server_in_use_has_it():
    made = serving(settings(), KEY, MIB)
    assert (made.host, made.port, made.tls, made.origins) == ("127.0.0.1", 8004, None, ())
    assert (made.call_timeout, made.max_message_bytes) == (30.0, MIB)
    assert (made.rules.most, made.rules.most_of_agent) == (4096, 512)
    assert KEY not in repr(made)


def test_every_setting_has_its_effect():
    made = serving(
        settings(
            host="::",
            port=0,
            call_timeout=5.0,
            allow_origins=["https://mine"],
            max_connections=7,
            max_connections_per_agent=3,
        ),
        KEY,
        MIB,
    )
    assert (made.host, made.port, made.call_timeout) == ("::", 0, 5.0)
    assert made.origins == ("https://mine",)
    assert (made.rules.most, made.rules.most_of_agent) == (7, 3)


def test_a_token_is_of_the_agent_that_it_names():
    made = serving(settings(), KEY, MIB)
    assert made.rules.agent_of("0fBjOA0YclUsK7iEYvt6r2hBxAHCoka5nAL4gj6ZAXQ=") == "test1"
    with pytest.raises(XzpipeError):
        made.rules.agent_of("bm9uZQ==")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("127.0.0.1", "ws://127.0.0.1:81/mcp_endpoint/mcp/?token=abc"),
        ("::1", "ws://[::1]:81/mcp_endpoint/mcp/?token=abc"),
        ("pi.local", "ws://pi.local:81/mcp_endpoint/mcp/?token=abc"),
    ],
)
def test_its_address_is_that_where_it_listens(asked, shown):
    assert base(serving(settings(host=asked), KEY, MIB), 81, KEY).tool_side("abc").url == shown


@pytest.mark.parametrize("asked", ["0.0.0.0", "::", ""])
def test_where_it_listens_on_all_addresses_one_is_shown_that_others_can_reach(asked):
    made = serving(settings(host=asked or "0.0.0.0"), KEY, MIB)
    netloc = base(made, 81, KEY).netloc
    assert netloc not in ("0.0.0.0:81", "[::]:81", ":81")
    assert netloc.startswith("[") == (asked == "::")


def test_there_is_an_agent_for_a_server_without_a_console():
    url = single_module(base(serving(settings(), KEY, MIB), 81, KEY), KEY)
    path, query = query_of(url)
    assert path == "/mcp_endpoint/mcp/"
    assert agent_of(query["token"], KEY) == "single_module"


@pytest.mark.parametrize(
    ("where", "tls", "warned"),
    [
        ("127.0.0.1", False, False),
        ("127.1.2.3", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("192.168.1.5", False, True),
        ("pi.local", False, True),
        ("0.0.0.0", True, False),
    ],
)
def test_tokens_that_cross_a_network_in_clear_are_warned_of(where, tls, warned, tmp_path):
    make_key(tmp_path / "key")
    assert bool(doubts(tmp_path / "key", where, tls)) == warned


# TLS


def certificate(folder) -> tuple[str, str]:
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_with_a_certificate_its_address_is_a_secure_one(tmp_path):
    cert, key = certificate(tmp_path)
    made = serving(settings(tls_cert=cert, tls_key=key), KEY, MIB)
    assert made.tls is not None
    assert base(made, 81, KEY).tool_side("t").url.startswith("wss://127.0.0.1:81/")
    with pytest.raises(UsageError, match="no pair of PEM files"):
        serving(settings(tls_cert=key, tls_key=key), KEY, MIB)


def test_a_certificate_needs_its_key_and_both_must_be_there(tmp_path):
    for half in ({"tls_cert": "a"}, {"tls_key": "a"}):
        with pytest.raises(UsageError, match="both a certificate and its key"):
            serving(settings(**half), KEY, MIB)
    missing = str(tmp_path / "none.pem")
    with pytest.raises(UsageError, match=r"none\.pem: cannot be read: No such file"):
        serving(settings(tls_cert=missing, tls_key=missing), KEY, MIB)


# Listening


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_said_in_one_sentence():
    made = serving(settings(port=0), KEY, MIB)
    ports: list[int] = []
    async with anyio.create_task_group() as tasks:
        up = anyio.Event()

        def announce(port: int) -> None:
            ports.append(port)
            up.set()

        tasks.start_soon(host, made, lambda _: None, announce)
        await up.wait()
        again = serving(settings(port=ports[0]), KEY, MIB)
        with pytest.raises(XzpipeError, match=rf"^127\.0\.0\.1:{ports[0]}: ") as caught:
            await host(again, lambda _: None, ports.append)
        assert "--port" in caught.value.hint
        tasks.cancel_scope.cancel()
    assert len(ports) == 1


@pytest.mark.anyio
async def test_a_host_that_is_none_is_said_in_one_sentence():
    with pytest.raises(XzpipeError, match=r"^no\.such\.host\.invalid:8004: "):
        made = serving(settings(host="no.such.host.invalid"), KEY, MIB)
        await host(made, lambda _: None, lambda _: None)
