import pytest
from hypothesis import settings

settings.register_profile("xzpipe", deadline=None)  # other tests run beside this one
settings.load_profile("xzpipe")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
