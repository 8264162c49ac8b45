import pytest

from tests.benchmarks.bridges import PROGRAMS, XZPIPES
from tests.benchmarks.loads import DIRECT, Load, aggregate, compare
from tests.benchmarks.pure import per_call

pytestmark = pytest.mark.anyio


async def test_every_program_gives_the_answers_that_are_expected():
    found = await compare(PROGRAMS, Load(size=200, in_flight=4, calls=20), rounds=1)
    assert set(found) == {DIRECT, *(program.name for program in PROGRAMS)}


async def test_ten_servers_behind_one_link_give_the_answers_that_are_expected():
    tables = [table async for table in aggregate(rounds=1, share=0, programs=XZPIPES[:1])]
    for table in tables:
        assert list(table.samples)[:3] == ["1, separate", "10, separate", "10, aggregate"]
        assert all(rate > 0 for row in table.samples.values() for rate in row["rates"])


def test_a_call_through_the_hub_comes_back_as_it_should():
    assert per_call(200, calls=10) > 0
