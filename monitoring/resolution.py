"""Resolution of alarms: what was done about each window that asked for something, or since when nothing was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from kfp_lifecycle.audit.record import entries_of, open_record
from kfp_lifecycle.monitoring.history import Retraining, WindowRecord

State = Literal["nothing to do", "resolved", "open"]
WEEK_DAYS = 7
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Move:
    """Traffic that was given to a version, for good."""

    version: str
    """Which has it now."""
    before: str
    """Which had it; empty where none did."""
    at: datetime
    by: str
    """Who, as the audit record says."""
    back: bool
    """Whether it was a rollback."""


@dataclass(frozen=True)
class Resolution:
    """What became of an alarm."""

    state: State
    sentence: str
    why: str = ""
    """More of it, where there is."""


def moves_of(record: str, model: str) -> list[Move]:
    """The releases and rollbacks of a model, oldest first; none where nobody keeps a record.

    Args:
        record: The audit record's location, or nothing.
        model: Its name in the registry.

    Raises:
        ContractViolation: the record cannot be read.
    """
    entries = entries_of(open_record(record)) if record else []
    return [
        Move(
            entry.version,
            str(entry.details.get("champion") or ""),
            datetime.fromisoformat(entry.at).astimezone(UTC),
            entry.by,
            back=entry.action == "traffic returned",
        )
        for entry in entries
        if entry.model == model and entry.action in ("released", "traffic returned")
    ]


def resolutions(
    history: Sequence[WindowRecord], retrainings: Mapping[str, Retraining], moves: Sequence[Move]
) -> list[Resolution]:
    """What was done about each window.

    Args:
        history: The windows, oldest first.
        retrainings: Trainings by the run of monitoring that asked for them.
        moves: Releases and rollbacks, oldest first.

    Returns:
        One for each window, in its order.
    """
    return [_resolved(history, place, retrainings, moves) for place in range(len(history))]


def _resolved(
    history: Sequence[WindowRecord], place: int, retrainings: Mapping[str, Retraining], moves: Sequence[Move]
) -> Resolution:
    window = history[place]
    if window.remedy == "nothing":
        return Resolution("nothing to do", "nothing to do")
    later = [item for item in history if item.end > window.end and item.verdict != "undecided"]
    if window.remedy == "repair":
        return _repaired(later) or _open(history, place)
    trained = _retraining(window, retrainings)
    if trained is not None:
        return _of_training(trained, moves)
    return _rolled_back(window, moves) or _by_later(window, later, retrainings, moves) or _open(history, place)


def _repaired(later: Sequence[WindowRecord]) -> Resolution | None:
    well = next((item for item in later if item.verdict != "broken data"), None)
    if well is None:
        return None
    return Resolution("resolved", f"repaired: data is well again in the window to {_day(well.end)}")


def _rolled_back(window: WindowRecord, moves: Sequence[Move]) -> Resolution | None:
    left = (move for move in moves if move.back and move.before == window.version and move.at >= window.end)
    back = next(left, None)
    if back is None:
        return None
    return Resolution("resolved", f"rolled back to version {back.version} on {_moment(back.at)} by {back.by}")


def _by_later(
    window: WindowRecord,
    later: Sequence[WindowRecord],
    retrainings: Mapping[str, Retraining],
    moves: Sequence[Move],
) -> Resolution | None:
    """By what came of it in a later window."""
    for item in later:
        if item.version != window.version:
            return Resolution("resolved", f"version {item.version} answers in the window to {_day(item.end)}")
        if item.remedy == "nothing":
            return Resolution("resolved", f"not asked for any more in the window to {_day(item.end)}")
        if trained := _retraining(item, retrainings):
            found = _of_training(trained, moves)
            return Resolution(found.state, f"{found.sentence}, in the window to {_day(item.end)}")
    return None


def _retraining(window: WindowRecord, retrainings: Mapping[str, Retraining]) -> Retraining | None:
    return next((retrainings[run] for run in window.runs if run in retrainings), None)


def _of_training(trained: Retraining, moves: Sequence[Move]) -> Resolution:
    released = next((move for move in moves if not move.back and move.version == trained.version), None)
    if released is not None:
        sentence = f"retrained: version {released.version} released on {_moment(released.at)} by {released.by}"
        return Resolution("resolved", sentence, _reason(trained))
    state: State = "resolved" if trained.decision == "approved" else "open"
    return Resolution(state, f"retrained: {trained.decision or 'not decided yet'}", _reason(trained))


def _reason(trained: Retraining) -> str:
    """The verdict on its candidate, and what it rests on first: all of it is in the report of its run."""
    return " ".join(SENTENCE_END.split(trained.verdict)[:2])


def _open(history: Sequence[WindowRecord], place: int) -> Resolution:
    """It is still asked for: since the first of the windows without a break that ask for something alike."""
    window, newest = history[place], history[-1]
    broken = window.verdict == "broken data"
    first = window
    for item in reversed(history[:place]):
        if item.remedy == "nothing" or (item.verdict == "broken data") != broken or item.version != window.version:
            break
        first = item
    weeks = (newest.end - first.end).days // WEEK_DAYS
    since = f", open for {weeks} week{'s' if weeks > 1 else ''}, since {_day(first.end)}" if weeks else ""
    return Resolution("open", f"asked for: {window.remedy}{since}")


def _day(moment: datetime) -> str:
    return f"{moment:%-d %B %Y}"


def _moment(moment: datetime) -> str:
    return f"{moment:%-d %B %Y, %H:%M} UTC"
