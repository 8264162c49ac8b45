"""Agents in tokens: the vectors of wire.md §3, and what holds for every agent and key."""

import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xzpipe.agent_token import (
    MAX_ID,
    MAX_TOKEN,
    BadToken,
    agent_of,
    decrypt,
    encrypted,
    token_of,
)
from xzpipe.core.agents import hashed
from xzpipe.errors import UsageError

KEY = "6a369b7f1bcf4d3e8d123ece38bb9627"
SPACED = {
    "test1": "0fBjOA0YclUsK7iEYvt6r2hBxAHCoka5nAL4gj6ZAXQ=",
    "5a105e8b9d40e1329780d62ea2265d8a": (
        "8h5xji9TI3Dpg3rrM8WVnBKI3KCEDpAbG32rahF7hwDKNIODZ31tdtl5LQ2YbMtz"
    ),
    "2ec199f1e2de31576869a57488e919ad": (
        "gxjLBeWJyKqjcW/RireYCeraQXpL475V7c3c+7hJX89UhGbvoWJkjMeH3U8MHEP1"
    ),
    "83a87fd756ab57199c0bb6d5e11168cb": (
        "dQUZzKvtWanl5ObVjDgc41kWUNfAb7T9z4M5O4JaK0uZ2W05f+NOJ/f3vWowCNyT"
    ),
}
COMPACT = {
    "single_module": "xTr7w9G0EcAbf8IorLoBiE5b9K+CwZtl2DlcrI/9XpY=",
    "5a105e8b9d40e1329780d62ea2265d8a": (
        "ZB5/2Af2Ip/CqtuV6sfK6PmY4OdAkXAiCwGCEyxmUJfFOoJuNEbLtoHCtCQSbUZK"
    ),
}
OTHER_KEYS = {  # of every length that is treated in its own way
    "short": "6RzZHVnV2esZv4+iLd4EXkUjNRbmZCbYqaEDIqib8eo=",
    "1234567890123456": "6/uFHiWZA/x1Nz1m9xphyh0ul2sYF01LjrtEoe+j5pQ=",
    "123456789012345678901234": "M+SyrQnsk8JzqTuZ85PvjhHPFTfkyuCwWXNIgqMbTGk=",
    "verylongkeythatwillbetruncatedto32bytes": "m2fhGB/XuF7U8Td5/ylqk8xqJUCFH7sKcPjb5HxaQ+A=",
}

TEXTS = st.text(st.characters(codec="utf-8"))
AGENTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=100)


@pytest.mark.parametrize(("agent", "token"), SPACED.items())
def test_a_token_is_as_a_java_console_makes_it(agent, token):
    assert token_of(agent, KEY) == token
    assert agent_of(token, KEY) == agent


@pytest.mark.parametrize(("agent", "token"), COMPACT.items())
def test_a_compact_token_is_as_the_endpoint_server_in_use_makes_it(agent, token):
    assert token_of(agent, KEY, compact=True) == token
    assert agent_of(token, KEY) == agent


@pytest.mark.parametrize(("key", "token"), OTHER_KEYS.items())
def test_a_key_of_any_length_is_used_filled_or_cut(key, token):
    assert token_of("test1", key) == token
    assert agent_of(token, key) == "test1"


def test_any_text_can_be_encrypted():
    key, text, token = "xiaozhi1234567890", "Hello, 小智!", "uRfRrBPSOMYLfJTLGjUfiA=="
    assert encrypted(text, key) == token
    assert decrypt(token, key) == text


@given(AGENTS, TEXTS, st.booleans())
def test_every_agent_comes_back_under_every_key(agent, key, compact):
    assert agent_of(token_of(agent, key, compact=compact), key) == agent


@given(st.text(st.characters(codec="utf-8"), max_size=700), TEXTS)
def test_every_text_comes_back_under_every_key(text, key):
    assert decrypt(encrypted(text, key), key) == text


@given(AGENTS, st.booleans())
def test_what_is_in_a_token_is_json_in_one_of_two_forms(agent, compact):
    text = decrypt(token_of(agent, KEY, compact=compact), KEY)
    assert json.loads(text) == {"agentId": agent}
    assert text.startswith('{"agentId":"' if compact else '{"agentId": "')


@given(AGENTS, TEXTS, TEXTS)
def test_another_key_never_gives_the_agent(agent, key, other):
    assume(encrypted("", key) != encrypted("", other))  # AES may see the same in both
    token = token_of(agent, key)
    try:
        assert agent_of(token, other) != agent
    except BadToken as refused:
        assert token not in refused.message


@given(st.text())
def test_any_text_is_a_token_of_this_key_or_a_bad_one(text):
    with pytest.raises(BadToken):
        agent_of(text, KEY)


@given(st.binary(max_size=64))
def test_any_text_in_a_token_names_an_agent_or_is_refused(raw):
    try:
        agent = agent_of(encrypted(raw.decode(errors="replace"), KEY), KEY)
    except BadToken:
        return
    assert agent


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ('{"agentId": 17}', "17"),
        ('{"agentId": 1.5}', "1.5"),
        ('{"agentId": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ('{"agentId":"a","agentName":"b"}', "a"),
        (' { "more" : [1], "agentId" : "\\u667a" } ', "智"),
    ],
)
def test_an_object_that_names_an_agent_is_enough(text, agent):
    assert agent_of(encrypted(text, KEY), KEY) == agent


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '"agentId"', "null", '["agentId"]', '{"agentid": "a"}', '{"agentId": ""}']
    + [f'{{"agentId": {value}}}' for value in ("0", "0.0", "null", "true", "[1]", "{}")],
)
def test_json_without_an_agent_is_no_token(text):
    with pytest.raises(BadToken) as refused:
        agent_of(encrypted(text, KEY), KEY)
    assert refused.value.message == "the token holds no agentId"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "single_module",
        '{"agentId": "a"',
        "{'agentId': 'a'}",
        '{"agentId": "a"} b',
        '{"agentId": NaN}',
        '{"agentId": "\\ud800"}',
        '{"agentId": "a", "more": ' + "[" * 2500,
    ],
)
def test_what_is_no_json_is_no_token(text):
    with pytest.raises(BadToken) as refused:
        agent_of(encrypted(text, KEY), KEY)
    assert refused.value.message == "the token was made with another key, or not for an agent"


OWN = SPACED["test1"]


@pytest.mark.parametrize(
    ("token", "key", "message"),
    [
        (OWN, "another key", "the token was made with another key, or is not whole"),
        (OWN[:24], KEY, "the token was made with another key, or is not whole"),
        (OWN[:-4], KEY, "the token was made with another key, or is not whole"),
        ("", KEY, "the token was made with another key, or is not whole"),
        ("QUJD", KEY, "the token was made with another key, or is not whole"),
        (OWN[:-1], KEY, "the token is not base64"),
        (f"{OWN}\n", KEY, "the token is not base64"),
        (OWN.replace("=", "%3D"), KEY, "the token is not base64"),
        (OWN.replace("Y", "智"), KEY, "the token is not base64"),
        (OWN.replace("Y", "\udcff"), KEY, "the token is not base64"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJ1c2VySWQiOjF9.c2ln", KEY, "the token is not base64"),
    ],
)
def test_a_bad_token_is_told_why_without_its_secrets(token, key, message):
    with pytest.raises(BadToken) as refused:
        agent_of(token, key)
    assert refused.value.message == message
    assert refused.value.exit_code == 2
    assert refused.value.__suppress_context__
    assert not token or token not in repr(refused.value)


def test_a_plus_that_became_a_space_is_not_taken_for_one():
    with pytest.raises(BadToken) as refused:
        agent_of(COMPACT["single_module"].replace("+", " "), KEY)
    assert "must be written %2B" in refused.value.message


def test_a_token_that_is_too_long_is_not_read():
    whole = encrypted(json.dumps({"agentId": "a", "more": "b" * 3000}), KEY)
    assert MAX_TOKEN - 64 <= len(whole) <= MAX_TOKEN
    assert agent_of(whole, KEY) == "a"
    for token in ("!" * (MAX_TOKEN + 1), encrypted(json.dumps({"agentId": "b" * 3100}), KEY)):
        with pytest.raises(BadToken) as refused:
            agent_of(token, KEY)
        assert refused.value.message == "the token is too long: more than 4096 characters"


def test_a_token_that_would_be_too_long_is_not_made():
    assert agent_of(token_of("b" * MAX_ID, KEY), KEY) == "b" * MAX_ID
    with pytest.raises(UsageError, match="too long for a token"):
        token_of("b" * (MAX_ID + 1), KEY)


def test_blocks_of_a_token_that_are_put_in_again_make_few_more_agents():
    """Whoever has one token can do that, since nothing in it is signed."""
    data = b64decode(token_of(hashed("agent"), KEY))
    longer = b64encode(data[:32] + data[16:32] * 100 + data[32:]).decode()
    with pytest.raises(BadToken, match="agentId is too long"):
        agent_of(longer, KEY)
