"""States of a run and of its steps: one set of words for every target, the live view and the report."""

from enum import StrEnum

RUN_FINISHED = "lifecycle_run_finished_seconds"
"""The metric of when the newest run of a pipeline ended, wherever it is kept; labels `project`, `pipeline`, `state`."""


class State(StrEnum):
    """How far a step is."""

    waiting = "waiting"
    running = "running"
    cached = "cached"
    done = "done"
    failed = "failed"
    skipped = "skipped"


class RunState(StrEnum):
    """How a run stands or ended. A rejected candidate is a run that did its work."""

    running = "running"
    done = "done"
    rejected = "rejected"
    failed = "failed"
    interrupted = "interrupted"
    damaged = "damaged"
    """Nobody knows: its record cannot be read."""
