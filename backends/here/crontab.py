"""Lines of the user's crontab: a managed block, beside which nothing is touched.

A line comes as often as its schedule may be due in any time zone, and its script sees whether it is: so what was missed
runs within the hour after the machine is back.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.here.occurrence import IF_DUE
from kfp_lifecycle.config.cron import Cron
from kfp_lifecycle.config.schedules import Schedule

PAUSED = "# paused: "
# Zones differ by quarters of an hour.
QUARTER = 15


class Crontab:
    """The user's crontab.

    Args:
        place: What tells the block of one state folder from that of another.
    """

    word = "cron"

    def __init__(self, place: str) -> None:
        self._first, self._last = (
            f"# lifecycle {place}: made by `lifecycle schedule apply`",
            f"# lifecycle {place}: end",
        )

    @staticmethod
    def runs() -> bool:
        """Whether this machine has a crontab."""
        return shutil.which("crontab") is not None

    def install(self, name: str, script: Path, schedule: Schedule) -> None:
        """Let a schedule's script recur from now on."""
        # The first occurrence is the next one.
        script.with_suffix(".ran").touch()
        self._write({**self._block(), name: line_of(script, schedule)})

    def remove(self, name: str) -> None:
        """Let it recur no more. An occurrence that is at work goes on."""
        self._write({key: line for key, line in self._block().items() if key != name})

    def pause(self, name: str) -> None:
        """Start no more occurrences."""
        block = self._block()
        self._write({**block, name: PAUSED + block[name].removeprefix(PAUSED)})

    def resume(self, name: str) -> None:
        """Start occurrences again."""
        block = self._block()
        self._write({**block, name: block[name].removeprefix(PAUSED)})

    def has(self, name: str) -> bool:
        """Whether it is there, paused or not."""
        return name in self._block()

    def enabled(self, name: str) -> bool:
        """Whether it starts occurrences."""
        return not self._block().get(name, PAUSED).startswith(PAUSED)

    def remark(self) -> str:
        """What a person has to know beside; empty for nothing."""
        return "" if Path("/run/crond.pid").exists() or Path("/var/run/cron.pid").exists() else "see that cron runs"

    def _block(self) -> dict[str, str]:
        """The lines of the block, by schedule."""
        lines = _read().splitlines()
        if self._first not in lines or self._last not in lines:
            return {}
        own = lines[lines.index(self._first) + 1 : lines.index(self._last)]
        names = (re.search(r"/([^/']+)\.sh'? if-due$", line) for line in own)
        return {found[1]: line for found, line in zip(names, own, strict=True) if found}

    def _write(self, block: dict[str, str]) -> None:
        text = _read()
        lines = text.splitlines()
        if self._first in lines and self._last in lines:
            begin, end = lines.index(self._first), lines.index(self._last) + 1
        else:
            begin = end = len(lines)
        made = [self._first, *(block[name] for name in sorted(block)), self._last] if block else []
        new = "".join(f"{line}\n" for line in [*lines[:begin], *made, *lines[end:]])
        if new != text:
            _replace(new)


def line_of(script: Path, schedule: Schedule) -> str:
    """A line of a crontab, in which `%` would begin the standard input."""
    offsets = {minute % QUARTER for minute in Cron.parse(schedule.cron).minutes}
    minutes = sorted(offset + quarter for offset in offsets for quarter in range(0, 60, QUARTER))
    command = f"/bin/sh {_quoted(str(script))} {IF_DUE}"
    return f"{','.join(map(str, minutes))} * * * * {command}".replace("%", "\\%")


def _quoted(text: str) -> str:
    return shlex.quote(text) if shlex.quote(text).startswith("'") else f"'{text}'"


def _read() -> str:
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    if done.returncode and "no crontab" not in done.stderr:
        raise BackendError(f"the crontab cannot be read: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""


def _replace(text: str) -> None:
    done = subprocess.run(["crontab", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"the crontab cannot be written: {done.stderr.strip()}")
