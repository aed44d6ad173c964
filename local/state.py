"""State of local runs: one folder holds all that they write."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.runtime.state_folder import state_folder

STATE = state_folder()
RUNS = STATE / "runs"


@contextmanager
def exclusive(what: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of this state folder: one run at a time.

    Args:
        what: Who holds it, for those who wait: "run training-20261124-160205".
        waiting: Called once with the holder's name when the lock is taken.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    # The lock belongs to the process: it is released however the process ends.
    with (STATE / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            waiting(file.read().strip() or "another run")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"{what} (process {os.getpid()})\n")
        file.flush()
        yield


def write_json(file: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(file, json.dumps(value, indent=1, ensure_ascii=False))
