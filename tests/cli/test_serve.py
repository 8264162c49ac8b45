"""`xzpipe endpoint serve` as a command. What it serves is in tests/e2e."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "xzpipe", "endpoint", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"HOME": str(folder), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def shown(folder: Path, *options: str) -> tuple[str, str, int]:
    """What it prints until it is listening and told to stop: stdout, stderr, exit code."""
    with serving(folder, *options) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        while "--help" not in lines[-1] and lines[-1]:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        return "".join(lines) + out, err, process.returncode


def test_it_shows_where_it_is_and_where_its_key_lies_but_not_the_key(tmp_path):
    out, err, code = shown(tmp_path)
    key_file = tmp_path / ".config" / "xzpipe" / "endpoint.key"
    assert code == 0 and err == ""
    assert f"Its key is in {key_file} " in out
    assert "http://127.0.0.1:" in out and "/mcp_endpoint/health?key=***" in out
    assert "ws://127.0.0.1:" in out and "/mcp_endpoint/mcp/?token=***" in out
    assert key_file.read_text().strip() not in out


def test_it_shows_secrets_to_who_asks_for_them(tmp_path):
    out, _, _ = shown(tmp_path, "--show-secrets", "--key-file", "mine")
    key = (tmp_path / "mine").read_text().strip()
    assert f"/mcp_endpoint/health?key={key}\n" in out
    assert "***" not in out


def test_a_key_of_any_signs_is_shown_as_it_must_be_written_in_an_address(tmp_path):
    (tmp_path / "mine").write_text("\ufeffab+c/d&e==\n", encoding="utf-8")
    out, _, _ = shown(tmp_path, "--show-secrets", "--key-file", "mine")
    assert "/mcp_endpoint/health?key=ab%2Bc%2Fd%26e%3D%3D\n" in out


def test_it_keeps_its_key_and_so_its_addresses(tmp_path):
    def token(out: str) -> str:
        return out.partition("token=")[2].partition("\n")[0]

    first, again = (shown(tmp_path, "--show-secrets")[0] for _ in range(2))
    assert token(first) == token(again) != ""


def test_who_opens_it_to_others_is_warned(tmp_path):
    _, err, code = shown(tmp_path, "--host", "0.0.0.0")
    assert err.startswith("warning: 0.0.0.0 can be reached from other machines")
    assert code == 0


def test_its_settings_may_stand_in_a_config(tmp_path):
    (tmp_path / "c.yaml").write_text("xzpipe: {serve: {host: '::1', keyFile: here/key}}\n")
    out, _, _ = shown(tmp_path, "--config", "c.yaml")
    assert "ws://[::1]:" in out
    assert (tmp_path / "here" / "key").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "70000 is not in the range"),
        (["--call-timeout", "0"], "0 is not in the range"),
        (["--call-timeout", "nan"], "--call-timeout: expected seconds above 0"),
        (["--call-timeout", "inf"], "--call-timeout: expected seconds above 0"),
        (["--key-file", "k" * 300], "File name too long"),
        (["--host", "x" * 70 + ".local"], "it is no address"),
        (["--config", "none.json"], "none.json: cannot be read"),
        (["--tls-cert", "a.pem"], "TLS needs both a certificate and its key"),
        (["--key-file", "."], "expected a file"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(options, said, xzpipe):
    done = xzpipe("endpoint", "serve", *options, code=None)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
