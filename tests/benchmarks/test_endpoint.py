import pytest

from tests.benchmarks.bridges import LOOPS
from tests.benchmarks.endpoint import crowd, relayed
from tests.benchmarks.loads import Load

pytestmark = pytest.mark.anyio


async def test_a_crowd_at_the_endpoint_gets_the_answers_that_are_expected():
    table = await crowd(rounds=1, share=0, agents=2, settle=0)
    assert list(table.samples) == [f"xzpipe/{loop}" for loop in LOOPS]
    assert all(row["rates"][0] > 0 for row in table.samples.values())


async def test_the_relay_gives_the_answers_that_are_expected_as_the_endpoint_does():
    table = await relayed(rounds=1, load=Load(size=200, in_flight=4, calls=20))
    names = [f"{kind}/{loop}" for kind in ("relay", "xzpipe") for loop in LOOPS]
    assert list(table.samples) == names
