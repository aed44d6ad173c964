"""Retraining policy: whether what monitoring asks for is started, waits for a person, or is held back.

Time is that of the windows, so that a late or repeated look at a window comes to the same answer; only quiet hours go
by the clock. What was asked for before is told by the names of runs: nothing is kept beside the target.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.config.retraining import Retraining, TrainingRemedy
from kfp_lifecycle.runtime.states import RunState

Action = Literal["start", "ask", "hold"]

TRAINED: frozenset[str] = frozenset(TrainingRemedy)
"""Remedies that the training pipeline carries out."""

# What the names of all runs that monitoring asked for begin with.
NAMED = "retraining-"
_NAME = re.compile(rf"{NAMED}(?P<end>\d{{8}}-\d{{6}})-(?P<cause>[0-9a-f]{{8}})")
_END = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class TrainingRun:
    """A run of the training pipeline, whoever started it."""

    name: str
    state: RunState

    @property
    def end(self) -> datetime | None:
        """End of the window that asked for it; none where no window did."""
        found = _NAME.fullmatch(self.name)
        return datetime.strptime(found["end"], _END).replace(tzinfo=UTC) if found else None

    @property
    def cause(self) -> str:
        """Digest of why it was asked for; empty where no window did."""
        found = _NAME.fullmatch(self.name)
        return found["cause"] if found else ""


@dataclass(frozen=True)
class Decided:
    """What is done about a retraining that is due."""

    action: Action
    """`start`, `ask` for a person's approval, or `hold` it back."""
    sentence: str
    """That, and why."""


def run_name(remedy: Remedy) -> str:
    """The name of the training run that a window asks for: that of the same window and reason is the same."""
    return f"{NAMED}{remedy.window.end.astimezone(UTC):{_END}}-{cause_of(remedy)}"


def cause_of(remedy: Remedy) -> str:
    """Digest of the reason: the version that is judged, the verdict, its remedy, and what found it. Which columns are
    named, and how far they moved, differs from window to window without being another reason."""
    found_by = remedy.reasons[0].source if remedy.reasons else ""
    said = (remedy.model, remedy.version, remedy.verdict, remedy.remedy, found_by)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def decide(
    policy: Retraining, remedy: Remedy, runs: Sequence[TrainingRun], now: datetime, horizon_days: int | None = None
) -> Decided:
    """Apply a project's policy.

    Args:
        policy: `monitoring.retraining`.
        remedy: What monitoring found; its remedy is one of TRAINED.
        runs: Runs of the training pipeline that there are.
        now: By the clock.
        horizon_days: How long after its date a label is known; None where it is known on it.
    """
    if held := next(_obstacles(policy, remedy, runs, now, timedelta(days=horizon_days or 0)), ""):
        return Decided("hold", f"Nothing is started: {held}.")
    if policy.mode == "approval":
        return Decided("ask", "The retraining waits for a person's approval (monitoring.retraining.mode: approval).")
    return Decided("start", f"The training pipeline is started as {run_name(remedy)}.")


def _obstacles(
    policy: Retraining, remedy: Remedy, runs: Sequence[TrainingRun], now: datetime, horizon: timedelta
) -> Iterator[str]:
    """Why a retraining is not due yet, or not at all, the weightiest first; nothing where it is."""
    end = remedy.window.end
    asked = [(run, run.end) for run in runs if run.end is not None]
    if remedy.verdict == "broken data":
        yield "the data is broken, and nothing should be learned from it; repair it first"
    if policy.mode == "off":
        yield "the project does not retrain because of monitoring (monitoring.retraining.mode: off)"
    for run, before in asked:
        if before == end:
            yield f"this window has led to {run.name} already, which is {run.state}"
    if now - end > timedelta(days=policy.current_days):
        yield f"the window ended on {end:%Y-%m-%d}, and only what is so now leads to a retraining"
    if any(before > end for _, before in asked):
        yield "a later window has led to a retraining already"
    if remedy.adjustment is None and remedy.since is not None and end < remedy.since + horizon:
        yield (
            f"no label of a date since {remedy.since:%Y-%m-%d} is known before {remedy.since + horizon:%Y-%m-%d}, and "
            "a model would learn from what was before alone"
        )
    for run in runs:
        if run.state is RunState.running:
            yield f"{run.name} is at work, and one training runs at a time"
    yield from _too_often(policy, remedy, [(run, before) for run, before in asked if before < end])
    quiet = policy.quiet_hours
    if policy.mode == "automatic" and quiet and quiet.holds(now):
        yield f"it is between {quiet.begin} and {quiet.end} ({quiet.zone}); the next run of monitoring decides anew"


def _too_often(policy: Retraining, remedy: Remedy, earlier: Sequence[tuple[TrainingRun, datetime]]) -> Iterator[str]:
    """Why earlier retrainings stand in the way of another one."""
    end = remedy.window.end
    ended = [(run, before) for run, before in earlier if run.state in (RunState.done, RunState.rejected)]
    for run, before in ended:
        if before > end - timedelta(days=policy.cool_down_days):
            yield f"{run.name} is less than {policy.cool_down_days:g} days ago (monitoring.retraining.cool_down_days)"
    for run, before in ended:
        unlearned = before > end - timedelta(days=policy.new_label_days)
        if run.state is RunState.rejected and run.cause == cause_of(remedy) and unlearned:
            yield (
                f"the candidate of {run.name} was rejected for the same reason, and the labels of fewer than "
                f"{policy.new_label_days:g} more days are known since (monitoring.retraining.new_label_days)"
            )
    spent = sum(before > end - timedelta(days=policy.budget_days) for _, before in earlier)
    if spent >= policy.budget_runs:
        days = f"{policy.budget_days:g} days"
        yield f"{spent} retrainings in {days} are as many as monitoring.retraining.budget_runs allows"
