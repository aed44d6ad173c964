"""Clock that a test can move."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """The time of the control plane: the machine's, and what a test adds to it."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self.moved: Callable[[], None] = lambda: None
        """Called after the clock was moved."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset

    def advance(self, **period: float) -> None:
        """Let time pass: `clock.advance(hours=3)`. What becomes due meanwhile happens before this returns."""
        self.offset += timedelta(**period).total_seconds()
        self.moved()

    def move_to(self, moment: datetime) -> None:
        """Let time pass until a moment."""
        self.advance(seconds=moment.timestamp() - self.now())

    def today(self) -> datetime:
        """The moment that it shows, in UTC."""
        return datetime.fromtimestamp(self.now(), UTC)
