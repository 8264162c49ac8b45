"""Configs on disk, and what is heard of a bridge that runs by one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.session import Bell
from xzpipe.config.load import Config, load
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event

ENV = {"PATH": os.environ["PATH"]}
DIRECT = {"proxy": "none", "backoff": {"initial": 0.01, "maximum": 0.05}}


def config(folder: Path, servers: Mapping[str, Any], **settings: Any) -> Config:
    path = folder / "mcp_config.json"
    path.write_text(json.dumps({"mcpServers": servers, "xzpipe": {**DIRECT, **settings}}))
    return load(path, ENV, folder)


class Heard:
    """Every event; `of` those of a kind, `event` to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._bell = Bell()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._bell.ring()

    def of(self, kind: type[Event]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]

    async def event(self, kind: type[Event], nth: int = 1) -> Any:
        await self._bell.until(lambda: len(self.of(kind)) >= nth)
        return self.of(kind)[nth - 1]


# Signals


class Announced:
    """The addresses that were announced."""

    def __init__(self) -> None:
        self.addresses: list[Endpoint] = []
        self.bell = Bell()

    def __call__(self, address: Endpoint) -> None:
        self.addresses.append(address)
        self.bell.ring()
