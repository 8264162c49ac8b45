"""`xzpipe demo`: `run --local` and one caller, on the bundled config; each hop is shown."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio

from xzpipe.app import linked_to, local_endpoint, run
from xzpipe.calling import calling_endpoint
from xzpipe.config.load import load
from xzpipe.core.events import Event, ServerDown, ServerReady, ServerStarting, ToolCalled
from xzpipe.core.link_events import LinkUp
from xzpipe.errors import CallError
from xzpipe.guard import Guard

CONFIG = Path(__file__).with_name("mcp_config.json")
TOOL = "calculator"
EXPRESSION = "25 * 17"
WITHIN = 30.0  # seconds for all of it; it takes less than one


async def show(guard: Guard, env: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Run it; 0 when the answer came back. Raises `CallError` when it did not in time."""
    # this interpreter, since there may be none called python, or one without xzpipe
    config = load(CONFIG, {**env, "PYTHON": sys.executable}, CONFIG.parent)
    demo = _Demo(say)
    with anyio.move_on_after(WITHIN):
        async with (
            local_endpoint(config, demo.endpoint_hears) as endpoint,
            anyio.create_task_group() as tasks,
        ):
            demo.hop("endpoint", f"listening on {endpoint}")
            tasks.start_soon(run, guard, linked_to(endpoint, config), demo.hear)
            await demo.linked.wait()
            async with calling_endpoint(endpoint) as caller:
                await caller.tools()
                demo.hop("caller", f"tools/call {TOOL}: {EXPRESSION}")
                result = await caller.call(TOOL, {"expression": EXPRESSION})
                demo.hop("caller", f"the answer: {result['content'][0]['text']}")
            tasks.cancel_scope.cancel()
        return 0
    raise CallError(f"the demonstration did not end within {WITHIN:g} s")


class _Demo:
    """What has been shown so far, and what the caller waits for."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.linked = anyio.Event()
        self._say = say
        self._hops = 0

    def hop(self, who: str, what: str) -> None:
        self._hops += 1
        self._say(f"{self._hops:3}  {who:<9} {what}")

    def hear(self, event: Event) -> None:
        """Something happened in the bridge."""
        match event:
            case ServerStarting():
                self.hop("server", f"{event.server} started as a process, pid {event.pid}")
            case ServerReady():
                self.hop("bridge", f"initialized {event.server} in {event.seconds:.2f} s")
            case LinkUp():
                self.hop("bridge", "connected to the endpoint over a WebSocket")
            case ToolCalled():
                self.hop("server", f"answered through the bridge in {event.seconds * 1000:.1f} ms")
            case ServerDown():
                self.hop("server", str(event))

    def endpoint_hears(self, event: Event) -> None:
        """Something happened in the endpoint."""
        match event:
            case ServerReady():
                self.hop("endpoint", f"initialized {event.server}, which has {event.tools} tool")
                self.linked.set()
            case ToolCalled():
                self.hop("endpoint", f"passed it back, {event.seconds * 1000:.1f} ms in all")
