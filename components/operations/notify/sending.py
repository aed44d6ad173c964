"""Sending of a message: to whom, how often, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import apprise

from kfp_lifecycle.components.operations.notify.delivery import FIRST_WAIT_SECONDS, Delivery, deliver, receivers
from kfp_lifecycle.components.operations.notify.ledger import Ledger
from kfp_lifecycle.components.operations.notify.message import RunEnd

# Addresses of whom everything is told, and of whom that after which somebody has to look.
ALL, ALARMS = "LIFECYCLE_NOTIFY_URLS", "LIFECYCLE_NOTIFY_ALARM_URLS"
LEDGER, HOURS = "LIFECYCLE_NOTIFY_LEDGER", "LIFECYCLE_NOTIFY_REPEAT_HOURS"
DEFAULT_HOURS = 12.0
KINDS = {"failed": apprise.NotifyType.FAILURE, "unknown": apprise.NotifyType.WARNING}


@dataclass(frozen=True)
class Sent:
    """What came of a message."""

    delivered: int = 0
    """To how many receivers."""
    undelivered: list[Delivery] = field(default_factory=list)
    held_back: bool = False
    """Whether it was counted and not sent, since the same was said before."""

    @property
    def markdown(self) -> str:
        """Who does not know of it."""
        return "".join(f"\nNot delivered to {each.receiver.name}: {each.failure}.\n" for each in self.undelivered)


def send(
    end: RunEnd,
    environment: Mapping[str, str],
    now: datetime | None = None,
    *,
    first_wait_seconds: float = FIRST_WAIT_SECONDS,
) -> Sent:
    """Send how a run ended to whom the variables name.

    Args:
        end: What is said.
        environment: The step's variables.
        now: When; by default now.
        first_wait_seconds: As `deliver` takes it.
    """
    now = now or datetime.now(UTC)
    to = receivers(ALL, environment.get(ALL, ""))
    to += receivers(ALARMS, environment.get(ALARMS, "")) if end.alarm else []
    if not to:
        return Sent()
    ledger = Ledger(Path(file) if (file := environment.get(LEDGER)) else None, _hours(environment.get(HOURS, "")))
    if ledger.held_back(end.text, now):
        print("It was said before, and is counted instead of sent again.")
        return Sent(held_back=True)
    kind = KINDS.get(end.state, apprise.NotifyType.WARNING if end.alarm else apprise.NotifyType.INFO)
    body = "\n".join(filter(None, (end.body, ledger.held_since(end.text))))
    done = deliver(end.headline, body, kind, to, first_wait_seconds=first_wait_seconds)
    undelivered = [each for each in done if each.failure]
    if len(undelivered) < len(done):
        ledger.sent(end.text, now)
    return Sent(len(done) - len(undelivered), undelivered)


def _hours(given: str) -> float:
    try:
        return float(given) if given else DEFAULT_HOURS
    except ValueError:
        print(f"{HOURS} is {given!r}, which is no number: {DEFAULT_HOURS:g} hours are taken.")
        return DEFAULT_HOURS
