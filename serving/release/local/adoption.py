"""Adoption of a running server: `adoption.py COMMAND…` becomes that command, or looks after the process that runs it.

A process manager that was killed leaves healthy servers behind. The next one starts each program through this module:
where a process of this very command lives, it is not started a second time; it is waited for, and stopped with this.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import psutil


def living(command: Sequence[str]) -> psutil.Process | None:
    """The process of this user that runs a command, if there is one."""
    for process in psutil.process_iter(["cmdline", "uids", "status"]):
        found = process.info
        mine = found["uids"] is not None and found["uids"].real == os.getuid()
        if mine and found["cmdline"] == list(command) and found["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def main(command: list[str]) -> None:
    """Look after the command's process until it ends; without one, become it."""
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
    main(sys.argv[1:])
