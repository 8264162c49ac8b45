"""Command lines as a user types them: in a process of their own, with an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Xzpipe = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def xzpipe(tmp_path: Path) -> Xzpipe:
    """Run `xzpipe ARGS…` in tmp_path; its exit code and what it printed."""

    def run(
        *args: object, env: Mapping[str, str] | None = None, input: str = "", code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [sys.executable, "-m", "xzpipe", *map(str, args)],
            cwd=tmp_path,
            env={**bare, **(env or {})},
            input=input,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert code is None or done.returncode == code, done
        return done

    return run
