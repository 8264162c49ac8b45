import pytest

from tests.benchmarks.bridges import PROGRAMS
from tests.benchmarks.loads import DIRECT, Load, compare
from tests.benchmarks.pure import per_call

pytestmark = pytest.mark.anyio


async def test_every_program_gives_the_answers_that_are_expected():
    found = await compare(PROGRAMS, Load(size=200, in_flight=4, calls=20), rounds=1)
    assert set(found) == {DIRECT, *(program.name for program in PROGRAMS)}


def test_a_call_through_the_hub_comes_back_as_it_should():
    assert per_call(200, calls=10) > 0
