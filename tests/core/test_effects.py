import pytest

from xzpipe.core.effects import DropClient, DropServer, ToClient, ToServer, WakeAt

EFFECTS = [
    (ToServer("calc", b"{}"), "ToServer(server='calc', line=b'{}')"),
    (ToClient("link", b"{}"), "ToClient(client='link', text=b'{}')"),
    (DropServer("calc", "why"), "DropServer(server='calc', reason='why')"),
    (DropClient("link", "why"), "DropClient(client='link', reason='why')"),
    (WakeAt(1.5), "WakeAt(when=1.5)"),
]


@pytest.mark.parametrize(("effect", "shown"), EFFECTS)
def test_an_effect_is_a_value_that_can_be_read(effect, shown):
    assert repr(effect) == shown
    assert [each for each, _ in EFFECTS if each == effect] == [effect]
    with pytest.raises(AttributeError):
        setattr(effect, effect.__struct_fields__[0], "other")
