"""Who is let in by an endpoint server, and what everyone else is told."""

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.admission import MAX_SERVER_ID, Answer, Entrance, Rules, Side, admit
from xzpipe.errors import UsageError


def agent_of(token: str) -> str:
    if token != "good":
        raise UsageError("this token is not of this endpoint")
    return "agent"


RULES = Rules(agent_of, key="hush-hush", most=10, most_of_agent=5)


def admitted(target: str, rules: Rules = RULES, **held: int) -> Entrance | Answer:
    return admit(target, rules, held, lambda: {"status": "success"})


@pytest.mark.parametrize(
    ("target", "entrance"),
    [
        ("/mcp_endpoint/mcp/?token=good", Entrance(Side.SERVER, "agent")),
        ("/mcp_endpoint/mcp/?token=good&server_id=calc", Entrance(Side.SERVER, "agent", "calc")),
        (
            "/mcp_endpoint/mcp/?server_id=%E6%99%BA&token=good&x=1",
            Entrance(Side.SERVER, "agent", "智"),
        ),
        ("/mcp_endpoint/call/?token=good", Entrance(Side.CALLER, "agent")),
        ("/mcp_endpoint/call/?token=good&server_id=calc", Entrance(Side.CALLER, "agent")),
        ("/mcp_endpoint/call/?token=good&token=bad", Entrance(Side.CALLER, "agent")),
    ],
)
def test_who_has_a_token_is_let_in(target, entrance):
    assert admitted(target) == entrance


def test_the_id_of_a_server_has_a_limit():
    entrance = admitted(f"/mcp_endpoint/mcp/?token=good&server_id={'x' * 1000}")
    assert entrance == Entrance(Side.SERVER, "agent", "x" * MAX_SERVER_ID)


@pytest.mark.parametrize(
    ("target", "status", "code", "reason"),
    [
        ("/mcp_endpoint/mcp/", 401, -32004, "the token is missing"),
        ("/mcp_endpoint/mcp/?token=bad", 401, -32004, "this token is not of this endpoint"),
        ("/mcp_endpoint/mcp?token=good", 404, -32601, "the paths are"),
        ("/elsewhere", 404, -32601, "the paths are"),
        ("http://[", 404, -32601, "the paths are"),
        ("", 404, -32601, "the paths are"),
        ("/mcp_endpoint/health", 401, -32004, "the key is missing or wrong"),
        ("/mcp_endpoint/health?key=", 401, -32004, "the key is missing or wrong"),
        ("/mcp_endpoint/health?key=hush", 401, -32004, "the key is missing or wrong"),
        ("/mcp_endpoint/health?key=%ff\udcff", 401, -32004, "the key is missing or wrong"),
    ],
)
def test_everyone_else_is_told_why_not_in_json_without_a_result(target, status, code, reason):
    answer = admitted(target)
    assert answer.status == status
    assert answer.reason.startswith(reason)
    body = json.loads(answer.body)
    assert body["error"] == {"code": code, "message": answer.reason}
    assert "result" not in body and b"good" not in answer.body and b"hush-" not in answer.body


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"agent": 4, "other": 5}, None),
        ({"agent": 5}, "this agent has too many connections"),
        ({"agent": 4, "other": 6}, "there are too many connections"),
    ],
)
def test_connections_are_limited_in_all_and_for_each_agent(held, reason):
    answer = admitted("/mcp_endpoint/call/?token=good", **held)
    if reason is None:
        assert isinstance(answer, Entrance)
    else:
        assert (answer.status, answer.reason) == (429, reason)


def test_the_root_leads_to_what_the_endpoint_is():
    assert admitted("/") == Answer(307, location="/mcp_endpoint/")
    about = admitted("/mcp_endpoint/")
    assert (about.status, about.reason) == (200, "")
    assert json.loads(about.body)["result"]["message"] == "MCP Endpoint Server"


def test_its_health_is_for_who_has_the_key():
    answer = admitted("/mcp_endpoint/health?key=hush-hush")
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "result": {"status": "success"},
    }


def test_a_plus_in_the_key_may_stand_as_it_is():
    rules = Rules(agent_of, key="a+b c")
    assert admitted("/mcp_endpoint/health?key=a%2Bb%20c", rules).status == 200
    rules = Rules(agent_of, key="a+b")
    assert admitted("/mcp_endpoint/health?key=a+b", rules).status == 200
    assert admitted("/mcp_endpoint/health?key=a-b", rules).status == 401


def test_who_takes_over_a_place_is_not_one_more():
    full = {"agent": 5, "other": 5}

    def ask(target: str) -> Entrance | Answer:
        def has(agent: str, server_id: str) -> bool:
            return (agent, server_id) == ("agent", "a")

        return admit(target, RULES, full, dict, has)

    assert ask("/mcp_endpoint/mcp/?token=good&server_id=a") == Entrance(Side.SERVER, "agent", "a")
    for other in ("mcp/?token=good&server_id=b", "mcp/?token=good", "call/?token=good&server_id=a"):
        assert ask(f"/mcp_endpoint/{other}").status == 429


def test_without_a_key_nobody_sees_its_health():
    assert admitted("/mcp_endpoint/health?key=", Rules(agent_of)).status == 401


@given(st.text(max_size=60), st.sampled_from(["mcp/", "call/", "health", "", "x"]), st.booleans())
def test_no_query_is_too_odd_to_be_answered(text, side, escaped):
    query = quote(text, errors="surrogatepass") if escaped else text
    found = admitted(f"/mcp_endpoint/{side}?token={query}&key={query}&server_id={query}")
    if isinstance(found, Entrance):
        assert "good" in re.sub(r"[\t\r\n]", "", text) and found.agent == "agent"
    else:
        assert found.status in (200, 401, 404)


def test_the_key_is_not_shown():
    assert "hush" not in repr(RULES)
