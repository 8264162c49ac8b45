"""What several commands take: where the config is, what is logged, and `-- COMMAND ARG…`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xzpipe.errors import UsageError

if TYPE_CHECKING:
    from xzpipe.config.load import Config
    from xzpipe.core.events import Event
    from xzpipe.core.launch import Launch
    from xzpipe.core.plan import Plan

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "rich", "plain", "json")
MODES = ("separate", "aggregate", "auto")
COMMAND = "xzpipe.command"  # where a context keeps what stood behind `--`


class TakesCommand(click.Command):
    """A command that can be followed by `-- COMMAND ARG…`, which is then its one server."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND] = ()
        if "--" in args:
            at = args.index("--")
            ctx.meta[COMMAND] = tuple(args[at + 1 :])
            args = args[:at]
            if not ctx.meta[COMMAND]:
                raise click.UsageError("a command is expected after --", ctx)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ARG…]"]


@dataclass(frozen=True, slots=True)
class Logging:
    """What the options say of how to log; None where they say nothing."""

    level: str | None = None
    format: str | None = None
    default: str = "info"

    def no_chattier_than(self, level: str) -> "Logging":
        """The same, with another default than info."""
        return replace(self, default=level)

    def setup(
        self,
        env: Mapping[str, str],
        secrets: tuple[str, ...] = (),
        config: "Config | None" = None,
    ) -> "Callable[[Event], None]":
        """Start logging as options, environment or `.env` say; what events are to be handed to.

        The warnings of `config` are logged at once.
        """
        from xzpipe import logs
        from xzpipe.config.load import environment

        here = Path.cwd()
        beside = config.path.parent if config and config.path else here
        env = environment(env, beside, here)
        level = self.level or _one_of(LEVELS, "XZPIPE_LOG_LEVEL", env, self.default)
        form = self.format or _one_of(FORMATS, "XZPIPE_LOG_FORMAT", env, "auto")
        emit = logs.setup(level, form, env, secrets)
        for warning in config.warnings if config else ():
            logs.warn(warning)
        return emit


def _one_of(known: tuple[str, ...], variable: str, env: Mapping[str, str], default: str) -> str:
    value = env.get(variable, "").lower() or default
    if value not in known:
        raise UsageError(f"{variable}: expected one of {', '.join(known)}")
    return value


def config_option(function: F) -> F:
    """--config."""
    return click.option(
        "--config",
        "-c",
        metavar="PATH",
        help="The config file. [default: $MCP_CONFIG, or ./mcp_config.json, .yaml, .yml]",
    )(function)


def logging_options(function: Callable[..., R]) -> Callable[..., R]:
    """-v, -q, --log-level and --log-format, handed on as one `logging` argument. Those of the group
    hold where the command's own say nothing."""

    def wrapper(
        *args: Any, verbose: bool, quiet: bool, log_level: str, log_format: str, **more: Any
    ) -> R:
        group = click.get_current_context().find_root().obj or Logging()
        level = log_level or ("debug" if verbose else "warning" if quiet else group.level)
        return function(*args, logging=Logging(level, log_format or group.format), **more)

    wrapper.__name__ = function.__name__
    wrapper.__doc__ = function.__doc__
    wrapper.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--log-format", type=click.Choice(FORMATS), help="[default: auto]"),
        click.option("--log-level", type=click.Choice(LEVELS), help="[default: info]"),
        click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only."),
        click.option("--verbose", "-v", is_flag=True, help="Log everything."),
    ):
        wrapper = option(wrapper)
    return wrapper


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything about the config that the command line said."""

    config: str | None = None
    endpoint: str | None = None
    endpoint_file: str | None = None
    mode: str | None = None
    servers: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    backoff_initial: float | None = None
    backoff_max: float | None = None
    backoff_reset: float | None = None

    def load(self, env: Mapping[str, str]) -> "Config":
        """The config that was asked for. Raises `UsageError`.

        With a command, a config file is read only if it was named: for its settings.
        """
        from xzpipe.config.load import Overrides, find, load

        if self.endpoint is not None and self.endpoint_file is not None:
            raise UsageError("--endpoint and --endpoint-file are two ways to say one thing")
        given = self.endpoint if self.endpoint_file is None else _read_endpoint(self.endpoint_file)
        if given is not None and not given.strip():
            raise UsageError(f"--endpoint{'-file' if self.endpoint_file else ''}: it is empty")
        overrides = Overrides(
            endpoint=given,
            mode=self.mode,
            backoff_initial=self.backoff_initial,
            backoff_max=self.backoff_max,
            backoff_reset=self.backoff_reset,
        )
        cwd = Path.cwd()
        named = self.config is not None or bool(env.get("MCP_CONFIG"))
        path = find(self.config, env, cwd) if named or not self.command else None
        config = load(path, env, cwd, overrides=overrides, command=self.command)
        config = replace(config, servers=_chosen(config, self.servers))
        return replace(config, plans=_narrowed(config)) if self.servers else config


def _read_endpoint(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UsageError(f"--endpoint-file {path}: {reason}") from None


def _chosen(config: "Config", names: tuple[str, ...]) -> "tuple[Launch, ...]":
    known = {launch.name: launch for launch in config.servers}
    for name in names:
        if name in config.disabled:
            raise UsageError(f"the server '{name}' is switched off", "Remove `disabled` from it")
        if name not in known:
            raise UsageError(f"there is no server '{name}'", f"There are: {', '.join(known)}")
    servers = tuple(known[name] for name in dict.fromkeys(names)) or config.servers
    if not servers:
        raise UsageError("every server of the config is switched off")
    return servers


def _narrowed(config: "Config") -> "tuple[Plan, ...]":
    names = frozenset(launch.name for launch in config.servers)
    return tuple(plan for each in config.plans if (plan := each.only(names)).servers)


def environment() -> Mapping[str, str]:
    """The process's environment: the one place where it is read."""
    return os.environ
