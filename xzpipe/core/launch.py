"""What it takes to start one stdio MCP server: its argv, its environment, its folder, its time
limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

START_TIMEOUT = (
    60.0  # seconds; a first `uvx` or `npx` run downloads the server before it can answer
)
CALL_TIMEOUT = 300.0  # seconds; the official broker waits this long for a tool (wire.md §2)

_OURS = ("MCP_ENDPOINT", "MCP_CONFIG", "XZPIPE_")


@dataclass(frozen=True, slots=True)
class Launch:
    """One server, ready to be started.

    `argv[0]` is still as configured (resolved on `env["PATH"]` when it is started); `env` is the
    child's whole environment; `cwd` is absolute, or None for xzpipe's own; the time limits are in
    seconds.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None = None
    start_timeout: float = START_TIMEOUT
    call_timeout: float = CALL_TIMEOUT


def child_env(
    parent: Mapping[str, str], own: Mapping[str, str], secrets: Iterable[str] = ()
) -> dict[str, str]:
    """The environment of a server: the parent's without xzpipe's own variables, then the server's
    own.

    A variable whose value holds one of `secrets` (an endpoint's token) is left out too, whatever
    its name is.
    """
    hidden = [secret for secret in secrets if secret]
    inherited = {
        name: value
        for name, value in parent.items()
        if not name.startswith(_OURS) and not any(secret in value for secret in hidden)
    }
    return inherited | dict(own)
