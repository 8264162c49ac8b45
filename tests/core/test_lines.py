import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.lines import WINDOW, LineSplitter, Overlong, answered_id


def fed(limit, *chunks):
    splitter = LineSplitter(limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)]


def test_a_line_ends_at_a_newline_and_nowhere_else():
    text = '{"s":"\u2028\u2029\x85"}\x0b\x0c\x1c'.encode()
    assert fed(100, b"\n" + text + b"\r\nb\rc\n\nd") == [b"", text, b"b\rc", b""]


def test_a_line_may_come_in_any_pieces():
    assert fed(100, b"on", b"", b"e\ntw", b"o", b"\n", b"\nthree\n") == [
        b"one",
        b"two",
        b"",
        b"three",
    ]


def test_a_line_at_the_limit_is_whole_and_one_over_it_is_not():
    whole = [b"1234", Overlong(b"12345"), Overlong(b"12345", ended=True)]
    assert fed(4, b"1234\n12345\n") == whole
    assert fed(4, b"1234", b"\n1234", b"5\n") == whole


def test_the_ends_of_an_overlong_line_are_kept_and_the_next_line_is_whole():
    long = bytes(range(32, 127)) * 1000
    ends = [Overlong(long[:WINDOW]), Overlong(long[-WINDOW:], True)]
    assert fed(20_000, long + b"\nnext\n") == [*ends, b"next"]
    assert fed(20_000, *(long[at : at + 999] for at in range(0, len(long), 999)), b"\nnext\n") == [
        *ends,
        b"next",
    ]


def test_the_head_of_a_line_that_never_ends_is_told_at_once():
    splitter = LineSplitter(10)
    assert splitter.feed(b"0123456789") == []
    assert splitter.feed(b"a") == [Overlong(b"0123456789a")]
    assert splitter.feed(b"b" * 100_000) == []
    assert splitter.feed(b"\n") == [Overlong(b"b" * WINDOW, True)]


@pytest.mark.parametrize("chunk", [b"ab", b"x" * 3_000])
def test_no_more_than_the_limit_is_held_however_it_comes(chunk):
    """A spinner writes two bytes at a time for days and never ends its line."""
    splitter = LineSplitter(60_000)
    tracemalloc.start()
    for _ in range(300_000 // len(chunk)):
        splitter.feed(chunk)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 * WINDOW
    assert peak < 2 * 60_000


@given(st.lists(st.binary(max_size=6) | st.sampled_from([b"\n", b"\r\n", b"abcdefgh"])))
def test_any_chunks_of_any_bytes_give_the_lines_that_they_hold(chunks):
    splitter = LineSplitter(8)
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    *lines, begun = b"".join(chunks).split(b"\n")
    for line in lines:
        got = found.pop(0)
        if len(line) > 8:
            assert isinstance(got, Overlong)
            assert len(got.part) > 8
            assert line.startswith(got.part)
            assert found.pop(0) == Overlong(line, ended=True)
        else:
            assert got == line.removesuffix(b"\r")
    assert [begun.startswith(head.part) for head in found] == [True] * (len(begun) > 8)


LONG = b'{"text":"' + b"x" * WINDOW + b'","id":5}'


@pytest.mark.parametrize("body", [LONG, b"[%b]" % LONG, b'"%b"' % (b"x" * WINDOW), b"9" * WINDOW])
@pytest.mark.parametrize(
    "shape",
    [
        b'{"jsonrpc":"2.0","id":41,"result":%b}',
        b'{"jsonrpc":"2.0","id":41,"error":%b}',
        b'{"id":41,"jsonrpc":"2.0","result":%b}',
        b'{"id":41,"result":%b,"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","result":%b,"id":41}',
        b'{"result":%b,"id":41,"jsonrpc":"2.0"}',
        b'{"result":%b,"jsonrpc":"2.0","id":41}',
        b' { "jsonrpc" : "2.0" , "id" : 41 , "result" : %b }',
        b'{ "result": %b , "jsonrpc": "2.0", "id": 41 } \r',
    ],
)
def test_the_id_of_an_overlong_answer_is_at_one_of_its_ends(shape, body):
    line = shape % body
    ends = [answered_id(line[:WINDOW]), answered_id(line[-WINDOW:])]
    assert sorted(ends, key=bool) == [None, b"41"]


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"x" * WINDOW,
        b'{"jsonrpc":"2.0","id":"41","result":"',
        b'{"jsonrpc":"2.0","id":-41,"result":"',
        b'{"jsonrpc":"2.0","id":41,"method":"sampling/createMessage","params":{"x":"',
        b'{"id":41,"jsonrpc":"2.0","method":"roots/list"',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"id":41,"result":"',
        b'{"jsonrpc":"2.0","result":{"id":41,"result":"',
        b'xxx"}],"id":41}}',
        b'xxx"}]},"id":41',
    ],
)
def test_no_id_is_taken_from_what_is_not_the_envelope_of_an_answer(part):
    assert answered_id(part) is None
