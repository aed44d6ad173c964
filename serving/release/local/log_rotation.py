"""Log rotation: an event listener of supervisord, which looks at the programs' logs once a minute.

`log_rotation.py FOLDER`. What a log has grown to is copied aside and the log begun anew: its program keeps it open, and
writes to its end wherever that is. It imports nothing of this library, since it runs for as long as the servers.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

MOST_BYTES = 10 * 2**20


def rotate(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Begin anew what is larger; one older part is kept, beside it, with the suffix `.1`."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > most_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as file:
                file.truncate()


def listen(folder: Path) -> None:
    """Rotate at each event, until supervisord is gone.

    It says each event in a line of `key:value` pairs, of which `len` is the size of what follows.
    """
    while True:
        print("READY", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        sys.stdin.read(int(dict(pair.split(":", 1) for pair in line.split())["len"]))
        try:
            rotate(folder)
        except OSError as error:
            print(f"{folder}: {error}", file=sys.stderr, flush=True)
        print("RESULT 2\nOK", end="", flush=True)


if __name__ == "__main__":
    listen(Path(sys.argv[1]))
