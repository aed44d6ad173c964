"""States of a step in a run: one set of words for the local runner, the live view and the report."""

from enum import StrEnum


class State(StrEnum):
    """How far a step is."""

    waiting = "waiting"
    running = "running"
    cached = "cached"
    done = "done"
    failed = "failed"
    skipped = "skipped"
