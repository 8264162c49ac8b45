"""Which setting wins, and what is kept from the servers."""

import pytest

from xzpipe.config.model import Backoff, Own
from xzpipe.config.settings import Overrides, Settings, effective
from xzpipe.errors import UsageError


def test_the_defaults():
    assert effective(Own(), {}, Overrides()) == Settings(
        backoff_initial=1.0,
        backoff_maximum=600.0,
        backoff_reset=60.0,
        max_message_bytes=16 * 2**20,
        call_timeout=300.0,
    )


def test_the_command_line_wins_over_the_environment_and_that_over_the_file():
    own = Own(backoff=Backoff(initial=2, maximum=20, reset_after=200))
    env = {"XZPIPE_BACKOFF_INITIAL": "3", "XZPIPE_BACKOFF_MAX": "30"}
    first = effective(own, env, Overrides(backoff_initial=4))
    assert (first.backoff_initial, first.backoff_maximum, first.backoff_reset) == (4, 30, 200)


@pytest.mark.parametrize("value", ["x", "-1", "0", "nan", "inf", "1e999"])
def test_a_variable_that_is_no_time_is_named_and_not_shown(value):
    with pytest.raises(UsageError) as caught:
        effective(Own(), {"XZPIPE_BACKOFF_RESET": value}, Overrides())
    assert caught.value.message == "XZPIPE_BACKOFF_RESET: expected seconds above 0"


def test_an_option_that_is_no_time_is_named():
    with pytest.raises(UsageError, match="--backoff-max: expected seconds above 0"):
        effective(Own(), {}, Overrides(backoff_max=float("nan")))


def test_a_first_wait_above_the_longest_is_refused():
    with pytest.raises(UsageError, match="700 s, is longer than the longest, 600 s"):
        effective(Own(), {"XZPIPE_BACKOFF_INITIAL": "700"}, Overrides())


def test_the_endpoint_is_not_shown():
    assert "t0ken" not in repr(Overrides(endpoint="t0ken"))
