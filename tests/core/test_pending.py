from xzpipe.core.effects import WakeAt
from xzpipe.core.pending import FOREVER, Alarm, Pending, PendingTable


def entry(client="link", outer=b"0", deadline=9.0):
    return Pending(client, outer, "tools/call", 0.0, deadline)


def test_each_server_has_its_own_ids_and_none_is_used_twice():
    table = PendingTable(1)
    ids = [table.add(server, entry()) for server in ("calc", "calc", "time")]
    assert ids == [1, 2, 1]
    table.take("calc", b"2")
    table.take_server("calc")
    assert table.add("calc", entry()) == 3


def test_the_first_id_may_be_zero():
    table = PendingTable(0)
    assert table.add("calc", entry(outer=b"7")) == 0
    assert table.take("calc", b"0").outer == b"7"


def test_a_request_is_taken_once():
    table = PendingTable(1)
    asked = entry()
    table.add("calc", asked)
    assert table.get("calc", b"1") is asked
    assert table.take("calc", b"1") is asked
    assert table.take("calc", b"1") is None
    assert table.get("calc", b"1") is None


def test_only_the_server_that_was_asked_can_answer():
    table = PendingTable(1)
    table.add("calc", entry())
    assert table.take("time", b"1") is None
    assert table.take("calc", b"1") is not None


def test_an_id_that_is_no_number_of_ours_is_nobodys():
    table = PendingTable(1)
    table.add("calc", entry())
    for raw in (b'"1"', b"1.0", b"-1", b"null", b"1e0", b"", b"9" * 5000, "²".encode()):
        assert table.take("calc", raw) is None
        assert not table.was_asked("calc", raw)


def test_it_is_known_which_ids_were_handed_out():
    table = PendingTable(1)
    table.add("calc", entry())
    table.take("calc", b"1")
    assert [table.was_asked("calc", raw) for raw in (b"0", b"1", b"2")] == [False, True, False]
    assert not table.was_asked("time", b"1")


def test_pending_requests_are_found_by_server_by_client_and_by_deadline():
    table = PendingTable(1)
    mine, other, own = entry(deadline=5.0), entry("next", deadline=6.0), entry(None, deadline=7.0)
    table.add("calc", mine)
    table.add("time", other)
    table.add("calc", own)
    assert table.of_client("next") == [("time", 1, other)]
    assert table.overdue(4.9) == []
    assert table.overdue(6.0) == [("calc", 1, mine), ("time", 1, other)]
    assert table.next_deadline() == 5.0
    assert table.take_server("calc") == [mine, own]
    assert table.take_server("calc") == []
    assert table.next_deadline() == 6.0


def test_nothing_pending_is_never_overdue():
    table = PendingTable(1)
    assert table.next_deadline() == FOREVER
    assert table.overdue(1e12) == []


def test_a_forgotten_server_starts_anew():
    table = PendingTable(1)
    table.add("calc", entry())
    table.take_server("calc")
    table.forget("calc")
    assert not table.was_asked("calc", b"1")
    assert table.add("calc", entry()) == 1
    table.forget("none")


def test_an_alarm_is_set_only_when_it_must_ring_sooner():
    alarm = Alarm()
    assert alarm.by(FOREVER) == []
    assert alarm.by(9.0) == [WakeAt(9.0)]
    assert alarm.by(9.0) == []
    assert alarm.by(10.0) == []
    assert alarm.by(3.0) == [WakeAt(3.0)]
    alarm.rang()
    assert alarm.by(9.0) == [WakeAt(9.0)]
