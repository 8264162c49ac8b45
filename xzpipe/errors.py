"""Every error that xzpipe reports to its user.

A message says what is wrong and where; the hint says what to do about it. Neither may hold a
secret.

    XzpipeError              exit 1: it failed
    ├── UsageError           exit 2: what was asked cannot be done
    │   └── ConfigError      exit 2: the config file is wrong; carries every problem found
    ├── ServerError          exit 1: an MCP server could not be started
    └── CallError            exit 1: a peer answered a request with an error, or not at all
"""

from collections.abc import Sequence

INTERRUPTED = 130  # the exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it


class XzpipeError(Exception):
    """What went wrong, what to do about it, and the exit code that tells so."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(XzpipeError):
    """The command line, the environment or the config asks for what cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file that cannot be used. `problems` are whole sentences, each naming its place."""

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = tuple(problems)


class ServerError(XzpipeError):
    """An MCP server's process could not be started."""


class CallError(XzpipeError):
    """A request was answered with a JSON-RPC error, or the peer went away before it was
    answered."""
