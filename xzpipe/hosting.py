"""What `xzpipe endpoint serve` needs besides the server: key, certificate, addresses."""

import os
import socket
import ssl
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

import anyio

from xzpipe.agent_token import agent_of, token_of
from xzpipe.bridge import Emit
from xzpipe.config.model import Serve
from xzpipe.core.admission import MOST, MOST_OF_AGENT, ROOT, Rules
from xzpipe.core.agents import Base
from xzpipe.errors import UsageError, XzpipeError
from xzpipe.process import POSIX
from xzpipe.serve import CALL_TIMEOUT, Serving, listening

HOST, PORT = "127.0.0.1", 8004  # the port of the endpoint server in use
SINGLE_MODULE = "single_module"  # the agent of a xiaozhi-server without a console (wire.md §3)
START_TIMEOUT = 60.0  # seconds to answer initialize; a bridge may still be starting its server
MAX_KEY = 4096  # bytes of a key file
KEY_BYTES = 16  # of chance; their 32 hex digits make an AES-256 key


def default_key_file(env: Mapping[str, str]) -> Path:
    """Where the key is when nobody says so."""
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or "~", ".config")
    return Path(home).expanduser() / "xzpipe" / "endpoint.key"


def read_key(path: Path) -> str:
    """The key in a file. Raises `UsageError`."""
    try:
        if path.exists() and not path.is_file():  # a pipe might never be written to
            raise UsageError(f"the key file {path}: expected a file")
        with path.open("rb") as file:
            data = file.read(MAX_KEY + 1)
        key = data.decode("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f"the key file {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the key file {path}: expected text") from None
    if not key.isprintable() or not key or len(data) > MAX_KEY or len(key.split()) > 1:
        raise UsageError(f"the key file {path}: expected one key and nothing else")
    return key


def make_key(path: Path) -> str:
    """A new key in a new file that only its owner may read; the key that is there, if there is
    one."""
    part = path.with_name(f"{path.name}.{token_hex(4)}")
    try:
        if path.exists():
            return read_key(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token_hex(KEY_BYTES) + "\n")
        try:
            os.link(part, path)
        except FileExistsError:  # two that start at once agree on the first
            part.unlink()
        except OSError:  # a file system without links
            part.replace(path)
        else:
            part.unlink()
    except OSError as error:
        raise UsageError(f"the key file {path}: cannot be made: {error.strerror}") from None
    return read_key(path)


def doubts(path: Path, host: str, tls: bool) -> list[str]:
    """What its user should know before others can reach it."""
    said = []
    if POSIX and stat.S_IMODE(path.stat().st_mode) & 0o077:
        said.append(f"{path} can be read by other users of this machine: chmod 600 it")
    if not tls and not _is_loopback(host):
        said.append(
            f"{host} can be reached from other machines, and tokens cross the network in clear: "
            "use --tls-cert and --tls-key, or a proxy with TLS in front"
        )
    return said


def serving(settings: Serve, key: str, max_message_bytes: int) -> Serving:
    """How to serve by these settings. Raises `UsageError` for a certificate that cannot be used."""
    rules = Rules(
        partial(agent_of, key=key),
        key,
        settings.max_connections or MOST,
        settings.max_connections_per_agent or MOST_OF_AGENT,
    )
    return Serving(
        rules,
        settings.host or HOST,
        PORT if settings.port is None else settings.port,
        _tls(settings.tls_cert, settings.tls_key),
        tuple(settings.allow_origins or ()),
        settings.call_timeout or CALL_TIMEOUT,
        START_TIMEOUT,
        max_message_bytes=max_message_bytes,
    )


def base(serving: Serving, port: int, key: str) -> Base:
    """Where others reach it: with the address of this machine, where it listens on all it has."""
    host = serving.host
    if host in ("", "0.0.0.0", "::"):
        host = _own_address(socket.AF_INET6 if ":" in host else socket.AF_INET)
    shown = f"[{host}]" if ":" in host else host
    return Base("wss" if serving.tls else "ws", f"{shown}:{port}", ROOT.rstrip("/"), key)


def single_module(where: Base, key: str) -> str:
    """The address for the servers of a xiaozhi-server without a console; it holds a secret."""
    return where.tool_side(token_of(SINGLE_MODULE, key, compact=True)).url


def open_many() -> None:
    """Let this process have as many open files as it may: each connection is one."""
    if POSIX:
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS says that there is no limit, and has one
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def host(serving: Serving, emit: Emit, announce: Callable[[int], None]) -> int:
    """Serve for ever; `announce` is told the port. Raises `XzpipeError` where it cannot listen."""
    open_many()
    up = False
    try:
        async with listening(serving, emit) as server:
            up = True
            announce(server.port)
            await anyio.sleep_forever()
    except (OSError, UnicodeError, BaseExceptionGroup) as failed:
        error = _first(failed)
        if up or not isinstance(error, OSError | UnicodeError):
            raise
        reason = getattr(error, "strerror", None) or "it is no address"
        where = f"{serving.host}:{serving.port}"
        raise XzpipeError(f"{where}: {reason}", "Choose another --host or --port.") from None
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("TLS needs both a certificate and its key", "--tls-cert and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise UsageError(f"{cert}, {key}: no pair of PEM files ({error.reason})") from None
    except OSError as error:
        raise UsageError(f"{cert}, {key}: cannot be read: {error.strerror}") from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_address(family: socket.AddressFamily) -> str:
    """The address by which other machines know this one; nothing is sent to find it."""
    six = family is socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # reserved for documentation (RFC 3849, RFC 5737)
            probe.connect(("2001:db8::1" if six else "192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return "::1" if six else "127.0.0.1"
