"""Timers of systemd for the user: a service and a timer for each schedule, which make up for what was missed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.config.cron import FIELDS, Cron
from kfp_lifecycle.config.schedules import Schedule

WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


class SystemdTimers:
    """The user's own systemd.

    Args:
        place: What tells the units of one state folder from those of another.
    """

    word = "systemd"

    def __init__(self, place: str) -> None:
        configured = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        self._units = Path(configured) / "systemd" / "user"
        self._place = place

    @staticmethod
    def runs() -> bool:
        """Whether systemd runs for this user."""
        try:
            asked = subprocess.run(["systemctl", "--user", "show-environment"], capture_output=True, check=False)
        except OSError:
            return False
        return asked.returncode == 0

    def install(self, name: str, script: Path, schedule: Schedule) -> None:
        """Let a schedule's script recur from now on."""
        self._units.mkdir(parents=True, exist_ok=True)
        timer = self._unit(name, "timer")
        self._unit(name, "service").write_text(service_text(name, script), "utf-8")
        timer.write_text(timer_text(name, schedule), "utf-8")
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", timer.name)
        # A timer that stood with other times.
        _systemctl("restart", timer.name)

    def remove(self, name: str) -> None:
        """Let it recur no more. An occurrence that is at work goes on."""
        timer, service = self._unit(name, "timer"), self._unit(name, "service")
        if timer.exists():
            _systemctl("disable", "--now", timer.name)
        for unit in (timer, service):
            unit.unlink(missing_ok=True)
        _systemctl("daemon-reload")

    def pause(self, name: str) -> None:
        """Start no more occurrences."""
        _systemctl("disable", "--now", self._unit(name, "timer").name)

    def resume(self, name: str) -> None:
        """Start occurrences again."""
        _systemctl("enable", "--now", self._unit(name, "timer").name)

    def has(self, name: str) -> bool:
        """Whether it is there, paused or not."""
        return self._unit(name, "timer").is_file() and self._unit(name, "service").is_file()

    def enabled(self, name: str) -> bool:
        """Whether it starts occurrences."""
        return (self._units / "timers.target.wants" / self._unit(name, "timer").name).is_symlink()

    def remark(self) -> str:
        """What a person has to know beside; empty for nothing."""
        user = os.environ.get("USER") or str(os.getuid())
        if Path("/var/lib/systemd/linger", user).exists():
            return ""
        return "timers run while you are logged in; `loginctl enable-linger` lets them run always"

    def _unit(self, name: str, kind: str) -> Path:
        return self._units / f"lifecycle-{self._place}-{name}.{kind}"


def service_text(name: str, script: Path) -> str:
    """The service that runs a script. A training that it starts outlives it."""
    return (
        f"[Unit]\nDescription={name}, by lifecycle schedule\n\n"
        f"[Service]\nType=oneshot\nKillMode=process\nExecStart=/bin/sh {_word(str(script))}\n"
    )


def timer_text(name: str, schedule: Schedule) -> str:
    """The timer of a service: what was missed while the machine was off runs once."""
    times = "\n".join(f"OnCalendar={moment}" for moment in calendar_of(schedule))
    return (
        f"[Unit]\nDescription={name}, by lifecycle schedule\n\n"
        f"[Timer]\n{times}\nPersistent=true\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )


def calendar_of(schedule: Schedule) -> list[str]:
    """A cron expression as systemd's calendar events: two where a day of the month or of the week is due."""
    cron = Cron.parse(schedule.cron)
    minutes, hours, days, months = (
        _listed(values, *bounds[1:])
        for values, bounds in zip((cron.minutes, cron.hours, cron.days, cron.months), FIELDS, strict=False)
    )
    weekdays = "" if len(cron.weekdays) == len(WEEKDAYS) else ",".join(WEEKDAYS[day] for day in sorted(cron.weekdays))
    clock = f"{hours}:{minutes}:00 {schedule.zone}"
    if cron.any_day:
        return [f"{weekdays} *-{months}-{days} {clock}".strip()]
    return [f"*-{months}-{days} {clock}", f"{weekdays} *-{months}-* {clock}".strip()]


def _listed(values: frozenset[int], first: int, last: int) -> str:
    return "*" if len(values) == last - first + 1 else ",".join(f"{value:02}" for value in sorted(values))


def _word(text: str) -> str:
    """One word of a command line in a unit's file, in which specifiers and variables are replaced."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"systemd does not {words[0]} {' '.join(words[1:])}: {done.stderr.strip()}")
