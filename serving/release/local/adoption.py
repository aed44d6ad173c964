"""Adoption of a running server: `adoption.py LOG COMMAND…` becomes that command, or looks after who runs it.

A process manager that was killed leaves healthy servers behind. The next one starts each program through this module:
where a process of this very command lives, it is not started a second time; it is waited for, and stopped with this.
What a program says goes to its log by its own hand, not through a pipe to the process manager, with which it would end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import psutil

# Holds what the command is told beside what its process manager was: JSON, packed so that no configuration file finds
# meaning in a character of it.
VARIABLES = "LIFECYCLE_PROGRAM_VARIABLES"


def packed(variables: Mapping[str, str]) -> str:
    """Variables as one word."""
    return base64.b64encode(json.dumps(variables, sort_keys=True).encode()).decode()


def unpacked(word: str) -> dict[str, str]:
    """What `packed` packed; nothing for no word."""
    variables: dict[str, str] = json.loads(base64.b64decode(word) or b"{}")
    return variables


def living(command: Sequence[str]) -> psutil.Process | None:
    """The process of this user that runs a command, if there is one."""
    for process in psutil.process_iter(["cmdline", "uids", "status"]):
        found = process.info
        mine = found["uids"] is not None and found["uids"].real == os.getuid()
        if mine and found["cmdline"] == list(command) and found["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def write_to(log: str) -> None:
    """Let this process, and what it becomes, write to the end of a file."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.close(file)


def main(log: str, command: list[str]) -> None:
    """Look after the command's process until it ends; without one, become it."""
    write_to(log)
    os.environ.update(unpacked(os.environ.pop(VARIABLES, "")))
    process = living(command)
    if process is None:
        os.execvp(command[0], command)

    def end(*_: int | FrameType | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()

    signal.signal(signal.SIGTERM, end)
    print(f"process {process.pid} of this command runs already: it is kept", flush=True)
    process.wait()
    # A crash, as the process manager is to see it; it starts the command anew.
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
