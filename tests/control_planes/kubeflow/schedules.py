"""Schedules of recurring runs: cron with seconds first, as Kubeflow's controller reads it, and fixed intervals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
# Name, first and last value, and words of each field.
FIELDS: list[tuple[str, int, int, Mapping[str, int]]] = [
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 6, DAYS),
]
DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_EVERY = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# Nothing that recurs less often than that has a next time.
_HORIZON = timedelta(days=5 * 366)
NEVER = float("inf")


@dataclass(frozen=True)
class Cron:
    """A cron expression: seconds, minutes, hours, day of month, month and, if it is given, day of week.

    With five fields it has no day of week: `0 6 * * *` is the sixth minute of every hour, not six o'clock.
    """

    fields: tuple[frozenset[int], ...]
    any_day: tuple[bool, bool]
    """Whether day of month, and day of week, are `*`: else either may match."""
    zone: Any
    every: float = 0.0
    """Seconds, for `@every 1h30m`."""

    @classmethod
    def parse(cls, expression: str) -> Cron:
        """Read an expression.

        Raises:
            ValueError: it is none; the message says what is wrong with it.
        """
        zone: Any = UTC
        if expression.startswith("TZ="):
            named, _, expression = expression.removeprefix("TZ=").partition(" ")
            try:
                zone = ZoneInfo(named)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f"Provided bad location {named}: unknown time zone {named}") from error
            expression = expression.strip()
        if expression.startswith("@every "):
            period = expression.removeprefix("@every ")
            if not _EVERY.fullmatch(period):
                raise ValueError(f"Failed to parse duration {expression}: time: invalid duration {period}")
            parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", period)
            return cls((), (True, True), zone, max(1.0, sum(float(count) * _SECONDS[unit] for count, unit in parts)))
        if expression.startswith("@"):
            if expression not in DESCRIPTORS:
                raise ValueError(f"Unrecognized descriptor: {expression}")
            expression = DESCRIPTORS[expression]
        parts = expression.split()
        if len(parts) not in (5, 6):
            raise ValueError(f"Expected 5 to 6 fields, found {len(parts)}: {expression}")
        if len(parts) == 5:
            parts.append("*")
        fields = tuple(_field(part, *field) for part, field in zip(parts, FIELDS, strict=True))
        return cls(fields, (parts[3] in ("*", "?"), parts[5] in ("*", "?")), zone)

    def next(self, after: float) -> float:
        """The first second after a moment at which it is due; NEVER where there is none."""
        if self.every:
            return float(int(after) + self.every)
        moment = datetime.fromtimestamp(int(after) + 1, self.zone).replace(microsecond=0)
        last = moment + _HORIZON
        second, minute, hour, _, month, _ = self.fields
        while moment < last:
            if moment.month not in month or not self._is_day(moment):
                moment = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0)
            elif moment.hour not in hour:
                moment = (moment + timedelta(hours=1)).replace(minute=0, second=0)
            elif moment.minute not in minute:
                moment = (moment + timedelta(minutes=1)).replace(second=0)
            elif moment.second not in second:
                moment += timedelta(seconds=1)
            else:
                return moment.timestamp()
        return NEVER

    def _is_day(self, moment: datetime) -> bool:
        of_month = moment.day in self.fields[3]
        of_week = moment.isoweekday() % 7 in self.fields[5]
        return of_month and of_week if any(self.any_day) else of_month or of_week


def _field(text: str, name: str, first: int, last: int, words: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if low in ("*", "?"):
            start, end = first, last
        else:
            start = _number(low, words)
            end = _number(high, words) if dash else (last if slash else start)
        width = _number(step, {}) if slash else 1
        if width == 0:
            raise ValueError(f"Step of range should be a positive number: {part}")
        if start < first:
            raise ValueError(f"Beginning of range ({start}) below minimum ({first}): {part}")
        if end > last:
            raise ValueError(f"End of range ({end}) above maximum ({last}): {part}")
        if start > end:
            raise ValueError(f"Beginning of range ({start}) beyond end of range ({end}): {part}")
        found |= set(range(start, end + 1, width))
    return frozenset(found)


def _number(text: str, words: Mapping[str, int]) -> int:
    if text.lower() in words:
        return words[text.lower()]
    if not text.isdigit():
        raise ValueError(f"Failed to parse int from {text}")
    return int(text)


@dataclass(frozen=True)
class Trigger:
    """When a recurring run is due, with or without catching up on what was missed."""

    cron: Cron | None
    interval: float
    start: float | None
    end: float | None
    catch_up: bool

    def next(self, last: float | None, created: float, now: float) -> float:
        """When the next run is due, as Kubeflow's ScheduledWorkflow controller reckons.

        Args:
            last: When the newest one was due.
            created: When the schedule was made.
            now: The moment that it is asked at.
        """
        begin = last if last is not None else self.start if self.start is not None else created
        if self.cron is None:
            return self._next_interval(begin, now)
        due = self.cron.next(max(begin, self.start or begin))
        limit = NEVER if self.end is None else self.end
        if due > limit:
            return NEVER
        while not self.catch_up and (later := self.cron.next(due)) <= min(now, limit):
            due = later
        return due

    def _next_interval(self, begin: float, now: float) -> float:
        if self.start is not None and self.start > begin:
            due = self.start
        else:
            due = begin + self.interval
            if self.end is not None and due > self.end:
                return NEVER
        if not self.catch_up and now >= due + self.interval:
            return self.end if self.end is not None and self.end < now else now
        return due
