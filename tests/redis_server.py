"""A real Redis for the tests that need one."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# The environment that the tests are started from brings one, whichever environment they run in.
COMMAND_LINE = Path(__file__).resolve().parents[1] / ".venv" / "bin"


def redis_command() -> str | None:
    """Where the server's program is, if it is on this machine."""
    return shutil.which("redis-server", path=str(COMMAND_LINE)) or shutil.which("redis-server")


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis server on a free port, which is stopped in the end; skips the test where there is none."""
    command = redis_command()
    if command is None:
        import pytest

        pytest.skip("there is no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    server = subprocess.Popen([command, *settings], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
