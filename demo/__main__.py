"""The story from its first day to its page."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

from demo.play import play
from demo.story import SMALL, WHOLE
from demo.world import SPOKEN, DemoFailed
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.contract import ContractViolation


def weeks(given: str) -> int:
    """A number of weeks, 1 or more."""
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of weeks, 1 or more, not {given!r}")
    return int(given)


def main() -> None:
    """Play it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--small", action="store_true", help="three months in place of nine")
    parser.add_argument("--weeks", type=weeks, help="play the first so many weeks only")
    parser.add_argument("--state", type=Path, default=ROOT / ".lifecycle" / "demo", help="its state folder")
    given = parser.parse_args()
    state, began = given.state.resolve(), time.monotonic()

    def tell(day: date | None, what: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {f'{day:%a %-d %b %Y}' if day else 'before':>15}  {what}", flush=True)

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    # As an exception, so that the servers are stopped first.
    signal.signal(signal.SIGTERM, end)
    # Nobody's folder is emptied for a slip of the keyboard.
    if state.exists() and not (state / SPOKEN).is_file() and not (state.is_dir() and not any(state.iterdir())):
        parser.error(f"--state {state} holds something else than a demonstration: name an empty folder or a new one")
    shutil.rmtree(state, ignore_errors=True)
    try:
        _, page = play(replace(SMALL if given.small else WHOLE, weeks=given.weeks), state, tell)
    except (DemoFailed, ContractViolation, OSError) as error:
        sys.exit(f"The demonstration failed: {error}\nWhat its commands said is in {state / SPOKEN}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    print(f"\nThe story in five pictures: {page}")


if __name__ == "__main__":
    main()
