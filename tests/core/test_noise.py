import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.jsonrpc import is_message
from xzpipe.core.lines import WINDOW
from xzpipe.core.noise import EXCERPT, excerpt, lost_id, parted

ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{}}'


@pytest.mark.parametrize(
    ("line", "noise", "message"),
    [
        (b"listening", b"listening", b""),
        (b"loading..." + ANSWER, b"loading...", ANSWER),
        (b"loading..." + ANSWER + b" done", b"loading..." + ANSWER + b" done", b""),
        (
            b'{"jsonrpc":"2.0","id":7,"result":"\xb0"}',
            b"",
            '{"jsonrpc":"2.0","id":7,"result":"\ufffd"}'.encode(),
        ),
        (b"\xb0C " + ANSWER, "\ufffdC".encode(), ANSWER),
        (b'{"level":"info"}', b'{"level":"info"}', b""),
    ],
)
def test_a_line_may_be_noise_with_a_message_in_it(line, noise, message):
    said, found = parted(line)
    assert (said.strip(), found) == (noise, message)


@given(st.binary(max_size=100), st.booleans())
def test_what_is_found_is_a_message_and_nothing_is_lost(junk, glued):
    line = junk + ANSWER if glued else junk
    noise, message = parted(line)
    assert (message == b"") or is_message(message)
    if not message:
        assert noise == line


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":NaN}', b"7"),
        (b'{"jsonrpc":"2.0","result":"' + b"x" * 2 * WINDOW + b'\xff NaN","id":7}', b"7"),
        (b'{"jsonrpc":"2.0","id":7,"result":NaN', None),
        (b"nothing}", None),
    ],
)
def test_an_answer_that_cannot_be_read_may_still_say_to_what(line, id):
    assert lost_id(line) == id


def test_a_long_line_is_shown_by_its_beginning():
    assert excerpt(b"short \xff") == "short \ufffd"
    assert excerpt(b"x" * (EXCERPT + 1)) == "x" * EXCERPT + "…"
