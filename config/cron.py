"""Cron expressions of five fields: when they are due, in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

# Name, first and last value of each field; Sunday is 0.
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))


@dataclass(frozen=True)
class Cron:
    """A cron expression, read as Kubeflow and Vertex AI read it."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Whether day of month or day of week is `*`: else a day of either is one."""

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read an expression.

        Raises:
            ValueError: it is none; the message names the field and the rule.
        """
        parts = text.split()
        if len(parts) != len(FIELDS):
            raise ValueError(f"it needs {len(FIELDS)} fields ({', '.join(name for name, _, _ in FIELDS)})")
        minutes, hours, days, months, weekdays = (
            _values(part, *field) for part, field in zip(parts, FIELDS, strict=True)
        )
        return cls(minutes, hours, days, months, weekdays, parts[2].startswith("*") or parts[4].startswith("*"))

    def between(self, first: datetime, last: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Moments at which it is due, both ends included, in UTC and in order.

        An hour that a clock leaves out in spring is not due, one that comes twice in autumn is due once.
        """
        day = first.astimezone(zone).date()
        while day <= last.astimezone(zone).date():
            if self._is_due_on(day.day, day.month, day.isoweekday() % 7):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        shown = datetime.combine(day, time(hour, minute))
                        moment = shown.replace(tzinfo=zone).astimezone(UTC)
                        exists = moment.astimezone(zone).replace(tzinfo=None) == shown
                        if exists and first <= moment <= last:
                            yield moment
            day += timedelta(days=1)

    def _is_due_on(self, day: int, month: int, weekday: int) -> bool:
        found = (day in self.days, weekday in self.weekdays)
        return month in self.months and (all(found) if self.any_day else any(found))


def _values(text: str, name: str, first: int, last: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if not all(word.isdigit() for word in ([] if span == "*" else [low, *([high] if dash else [])])):
            raise ValueError(f"{name}: {part!r} is neither *, a number nor a range")
        if slash and not (step.isdigit() and int(step)):
            raise ValueError(f"{name}: the step of {part!r} has to be a positive number")
        begin = first if span == "*" else int(low)
        end = last if span == "*" or (slash and not dash) else int(high or low)
        if not first <= begin <= end <= last:
            raise ValueError(f"{name}: {part!r} is not within {first} to {last}")
        found |= set(range(begin, end + 1, int(step or 1)))
    return frozenset(found)
