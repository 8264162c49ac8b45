"""`${VAR}` and `.env`."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.config.env import MAX_FILE_BYTES, expand, read_dotenv, read_text
from xzpipe.errors import ConfigError

ENV = {"A": "1", "EMPTY": "", "TRICK": "${A}"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def expanded_with(value: object, place: str = "here") -> tuple[object, list[str]]:
    problems: list[str] = []
    return expand(value, ENV, place, problems), problems


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"),
        ("x${A}y${env:A}z", "x1y1z"),
        ("${B:-b c}", "b c"),
        ("${B:-}", ""),
        ("${A:-b}", "1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-b}", "b"),
        ("${env:B:-b}", "b"),
        ("${TRICK}", "${A}"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$${", "${"),
        ("$A $ $$ {A} }", "$A $ $$ {A} }"),
        ("${B:-$1}", "$1"),
    ],
)
def test_references_are_replaced(text, expanded):
    assert expanded_with(text) == (expanded, [])


@pytest.mark.parametrize(
    "text", ["${", "${A", "${}", "${input:id}", "${A-b}", "${a b}", "${B:-${A}}", "${1}"]
)
def test_another_form_of_reference_is_a_problem_that_names_the_place(text):
    _, problems = expanded_with(text)
    assert len(problems) == 1
    assert problems[0].startswith("here: expected ${VAR}, ${VAR:-default} or ${env:VAR}")


def test_an_unset_variable_is_a_problem_that_names_place_and_variable():
    value, problems = expanded_with({"a": ["${A}", {"b": "${B}"}]})
    assert value == {"a": ["1", {"b": "${B}"}]}
    assert problems == [
        "here.a[1].b: expected the environment variable B to be set; "
        "set it, put it in .env, or write ${B:-default}"
    ]


def test_all_unset_variables_are_reported():
    assert len(expanded_with(["${B}${C}", "${D}"])[1]) == 3


def test_keys_are_not_expanded():
    assert expanded_with({"${A}": 1}) == ({"${A}": 1}, [])


@given(JSON)
def test_what_has_no_dollar_is_left_as_it_is(value):
    if "$" not in repr(value):
        assert expanded_with(value, "") == (value, [])


@given(JSON)
def test_any_tree_is_expanded_or_refused_in_sentences(value):
    _, problems = expanded_with(value, "")
    assert all(isinstance(each, str) for each in problems)


def test_a_dotenv_is_read_as_it_is_written(tmp_path):
    text = "\ufeffexport A=1\nB='x y' # z\nC=${HOME}\nD\n\n# E=1\n"
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    assert read_dotenv(tmp_path / ".env") == {"A": "1", "B": "x y", "C": "${HOME}"}


def test_no_dotenv_is_an_empty_one(tmp_path):
    assert read_dotenv(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfea\0", "expected UTF-8 text, byte 0 is none"),
        (b"ab\xff", "byte 2 is none"),
        (b"a\0b", "NUL"),
        (b" " * (MAX_FILE_BYTES + 1), "at most 1048576 bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, words):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(ConfigError, match=words) as caught:
        read_text(tmp_path / "f", "shown")
    assert caught.value.problems[0].startswith("shown: ")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="found a folder") as caught:
        read_text(tmp_path, "shown")
    assert "Docker" in caught.value.hint


@pytest.mark.parametrize("name", ["none", "x" * 300, "a\0b"])
def test_what_cannot_be_opened_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="shown: cannot be read: "):
        read_text(tmp_path / name, "shown")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / "f").write_text("{}")
    (tmp_path / "f").chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        read_text(tmp_path / "f", "shown")
