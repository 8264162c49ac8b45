from itertools import pairwise

import msgspec

from xzpipe.core.status import BUCKETS, SIZES, Latency, LinkStatus, ServerStatus, Status


def test_bounds_ascend():
    assert all(low < high for bounds in (BUCKETS, SIZES) for low, high in pairwise(bounds))


def test_a_status_survives_its_way_through_json():
    server = ServerStatus("calc", "ready", 1.5, latency=Latency(0.1, 0.2))
    link = LinkStatus("calc", "endpoint", "wss://host/mcp/", "up", 1.0, expires=1800000000)
    status = Status("1", "here", 42, 3.0, True, True, ("why",), (server,), (link,), ())
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status
