"""What happens in a run, step by step, as lines of JSON that the live view, `status` and the report read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.states import State

# Steps whose summary is what a run is for: a person reads it instead of that it is done.
DECIDING = ("decide-remedy", "trigger-retraining")


@dataclass
class StepRecord:
    """One step of a run."""

    name: str
    state: State = State.waiting
    started_at: datetime | None = None
    seconds: float | None = None
    summary: str = ""
    reason: str = ""
    log: str = ""
    artifacts: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunProgress:
    """The steps of a run as they stand, in the order kfp runs them."""

    steps: dict[str, StepRecord]
    damage: str = ""
    """What of it could not be read, for a person."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        step = self.steps.get(event.get("step", ""))
        if step is None:
            return
        # All is read before anything is taken in: an event that cannot be read changes nothing.
        at, state = datetime.fromisoformat(event["time"]), State(event["state"])
        if state is State.running:
            step.state, step.started_at, step.log = state, at, str(event["log"])
            return
        if state is State.skipped:
            step.state = state
            return
        parameters = dict(event.get("parameters", {}))
        artifacts = {
            name: (str(item["path"]), dict(item["metadata"])) for name, item in event.get("artifacts", {}).items()
        }
        step.state, step.parameters, step.artifacts = state, parameters, artifacts
        step.reason = str(event.get("reason", ""))
        if step.started_at is not None:
            # A clock may be set back meanwhile.
            step.seconds = max(0.0, (at - step.started_at).total_seconds())
        step.summary = next((str(data["summary"]) for _, data in artifacts.values() if "summary" in data), "")

    def artifact(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """Path and metadata of the newest artifact of this name."""
        found = [step.artifacts[name] for step in self.steps.values() if name in step.artifacts]
        return found[-1] if found else None

    def running(self) -> StepRecord | None:
        """The step that works, or worked when the run's process ended without a word."""
        return next((step for step in self.steps.values() if step.state is State.running), None)

    def decisions(self) -> list[str]:
        """What the run decided, in the sentences of the steps that decide; none where it only does its work."""
        found = (self.steps.get(step) for step in DECIDING)
        return [step.summary for step in found if step is not None and step.summary]

    def failed(self) -> StepRecord | None:
        """The first step that failed."""
        return next((step for step in self.steps.values() if step.state is State.failed), None)


def event(step: str, state: State, **details: Any) -> dict[str, Any]:
    """An event of now."""
    return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": step, "state": state, **details}


def append_event(file: Path, value: Mapping[str, Any]) -> None:
    """Write one event at the end of a run's events."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def read_progress(file: Path) -> RunProgress:
    """The state of a run from its events; the first line names its steps.

    A process that is killed may leave half a line, and a disk that loses power worse: what can be read counts, and
    `damage` says that there was more.
    """
    progress = RunProgress({})
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return progress
    except OSError as error:
        progress.damage = f"{file.name} cannot be read: {error.strerror}"
        return progress
    unreadable = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            names = value["steps"] if "steps" in value else [value["step"]]
            progress.steps.update((name, StepRecord(name)) for name in names if name not in progress.steps)
            if "steps" not in value:
                progress.apply(value)
        except (ValueError, TypeError, KeyError, AttributeError):
            unreadable.append(str(number))
    if unreadable:
        progress.damage = f"{file.name}: line {', '.join(unreadable)} of {len(lines)} cannot be read"
    return progress
