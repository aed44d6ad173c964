"""State of local runs: one folder holds all that they write."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.runtime.state_folder import VARIABLE, state_folder

STATE = state_folder()
RUNS = STATE / "runs"
# In a run's folder: locked by the process that works in it.
LIFE_FILE = "alive"
# Bytes. A disk with more room than this is not full.
SMALL = 16 * 2**20


@dataclass(frozen=True)
class Lock:
    """The lock of a state folder, held."""

    file: IO[str]

    @property
    def descriptor(self) -> int:
        """For a process that is to hold it, too, for as long as it lives."""
        return self.file.fileno()

    def say(self, what: str) -> None:
        """Say who holds it, for those who wait: "run training-20261124-160205-7"."""
        self.file.seek(0)
        self.file.truncate()
        self.file.write(f"{what} (process {os.getpid()})\n")
        self.file.flush()


@contextmanager
def exclusive(waiting: Callable[[str], None]) -> Iterator[Lock]:
    """Hold the lock of this state folder: one run at a time.

    Args:
        waiting: Called once with the holder's name when the lock is taken.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    with _locked(STATE / "lock", waiting) as file:
        lock = Lock(file)
        lock.say("a run that begins")
        try:
            yield lock
        finally:
            # Also for what a step may have left that inherited it. Where this process is killed, the lock is free
            # when the last process of its steps is gone.
            fcntl.flock(file, fcntl.LOCK_UN)


def _locked(path: Path, waiting: Callable[[str], None]) -> IO[str]:
    told = False
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    file.seek(0)
                    waiting(file.read().strip() or "another run")
                    told = True
                fcntl.flock(file, fcntl.LOCK_EX)
            # While this one waited, the state folder may have been removed, and another file be the lock.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def alive(folder: Path) -> Iterator[None]:
    """Show that the process that works in a folder lives: unlike its number, a lock ends with it and is no other's."""
    with (folder / LIFE_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_alive(folder: Path) -> bool:
    """Whether the process that works in a folder lives."""
    try:
        with (folder / LIFE_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_json(file: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(file, json.dumps(value, indent=1, ensure_ascii=False))


def trouble(error: OSError) -> str | None:
    """What is wrong with the place that could not be written or read, and the remedy; None for other failures."""
    place = Path(error.filename) if isinstance(error.filename, str) else None
    elsewhere = f"or name another folder with {VARIABLE}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # A write does not say where it failed; what there is least room in is meant.
        full = place or min((STATE, Path(tempfile.gettempdir())), key=_room)
        if place is None and _room(full) > SMALL:
            return f"there was no room to write: where this prints to is full, or {STATE} was until a moment ago"
        return f"there is no room left to write in {full}: remove what is not needed there, {elsewhere}"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{place or STATE} cannot be used ({error.strerror}): give this user leave to read and write, {elsewhere}"
        )
    if place is not None and place.is_relative_to(STATE):
        return (
            f"{place} cannot be used ({error.strerror}): the state folder was changed by somebody else. See that "
            f"{STATE} is a folder and start again, {elsewhere}"
        )
    return None


def _room(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free
