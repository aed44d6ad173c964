"""Predictions of a window: a typed table of the prediction log, and what was left out of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kfp_lifecycle.artifacts.document import Document, Part

TABLE_FILE = "predictions.parquet"


class Flaw(Part):
    """Lines of one file that could not be read for one reason."""

    file: str
    """Its name in the log."""
    lines: int
    """How many lines of it."""
    reason: str
    """Follows "lines": `that are no JSON`."""
    example: str
    """The beginning of one of them."""


class Broken(Part):
    """Lines that could not be read."""

    lines: int
    """How many."""
    examples: list[Flaw]
    """The most frequent flaws first, five at the most."""


class LeftOut(Part):
    """Lines that are in the files and not in the table."""

    shadow: int
    """Answers that nobody got."""
    outside: int
    """Of other times."""
    future: int
    """From a clock that is ahead."""


class LogTable(Part):
    """What was read of a log."""

    rows: int
    """In the table."""
    versions: dict[str, int]
    """Rows by model version."""
    entities: int
    """How many different ones are named."""
    left_out: LeftOut
    """Lines that count for nothing here."""
    broken: Broken
    """Lines that cannot be read."""


class Predictions(Document):
    """The window and what was found in it. The table stands beside it."""

    FILE = "predictions.json"
    WRITER = "collect_predictions"

    model: str
    """Its name in the registry."""
    champion: str
    """The version in production when they were collected."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Not included."""
    found: LogTable
    """What the log held."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        found = self.found.model_dump(mode="json")
        return {
            "model": self.model,
            "champion": self.champion,
            "start": self.start.isoformat(timespec="seconds"),
            "end": self.end.isoformat(timespec="seconds"),
            **found,
        }
