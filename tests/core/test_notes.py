import pytest

from xzpipe.core.notes import LongList, NameChanged, NotDescribed, Note, RulesUnused

SENTENCES = [
    (
        NameChanged("calc", "add", "calc__add"),
        "warning",
        "calc: its tool add is listed as calc__add (see tools.rename)",
    ),
    (
        NotDescribed("calc", ("add", "sub")),
        "warning",
        "calc: no description: add, sub (see tools.describe)",
    ),
    (
        NotDescribed("calc", tuple(f"t{number}" for number in range(12))),
        "warning",
        "calc: no description: t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more "
        "(see tools.describe)",
    ),
    (
        RulesUnused("calc", ("ad", "su*")),
        "warning",
        "calc: its tools policy names what it does not have: ad, su*",
    ),
    (
        LongList("home", 40, 30_000),
        "warning",
        "home: 40 tools in one list of 30,000 bytes; an assistant may not take them all: "
        "choose with tools.allow or tools.deny",
    ),
]


@pytest.mark.parametrize(("event", "level", "sentence"), SENTENCES)
def test_a_note_is_a_sentence_with_a_level(event, level, sentence):
    assert (event.level, str(event)) == (level, sentence)


def test_every_note_has_its_sentence():
    assert set(Note.__subclasses__()) == {type(event) for event, _, _ in SENTENCES}
