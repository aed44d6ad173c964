"""Decisions of a run: what an exit handler, which has no inputs, finds of what was decided."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Steps whose decision is what their run is for, in the order it is told; others decide for these.
DECIDING = ("decide_promotion", "decide_remedy", "trigger_retraining")
# Verdicts on a model in production after which somebody has to look.
ALARMS = ("broken data", "world moved", "model is worse")
# On this machine: the file that says what happened in the run.
EVENTS_VARIABLE = "LIFECYCLE_RUN_EVENTS"


@dataclass(frozen=True)
class Decision:
    """What a step decided."""

    step: str
    sentence: str
    alarm: bool
    """Whether somebody has to look."""


def decision_of(step: str, said: Mapping[str, Any]) -> Decision | None:
    """A step's decision out of what it said; none where it decides nothing."""
    if step not in DECIDING or not said.get("sentence"):
        return None
    return Decision(step, str(said["sentence"]), said.get("verdict") in ALARMS)


def decision_in(step: str, message: str) -> Decision | None:
    """A step's decision out of its termination message."""
    try:
        said = json.loads(message)
    except ValueError:
        return None
    return decision_of(step, said) if isinstance(said, dict) else None


def in_order(decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions as they are told."""
    return sorted(decisions, key=lambda decision: DECIDING.index(decision.step))


def decided_here(environment: Mapping[str, str] = os.environ) -> list[Decision]:
    """What was decided in the run on this machine that this step is of; nothing where it is of another target's."""
    file = Path(environment.get(EVENTS_VARIABLE) or os.devnull)
    found: dict[str, Decision] = {}
    for line in file.read_text("utf-8").splitlines():
        event = json.loads(line)
        step = str(event.get("step", "")).replace("-", "_")
        for artifact in event.get("artifacts", {}).values():
            if decision := decision_of(step, artifact.get("metadata", {})):
                found.setdefault(step, decision)
    return in_order(found.values())
