"""Predictions of a window: a typed table of the prediction log, and what was left out of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kfp_lifecycle.artifacts.document import Document, Part

TABLE_FILE = "predictions.parquet"


class Flaw(Part):
    """What could not be read of one file, for one reason."""

    file: str
    """Its name in the log."""
    rows: int
    """How many predictions of it; 0 where the file does not even tell that."""
    reason: str
    """In words."""


class Broken(Part):
    """What could not be read."""

    rows: int
    """How many predictions, of files that tell."""
    examples: list[Flaw]
    """The most frequent flaws first, five at the most."""


class LeftOut(Part):
    """Predictions that are in the files and not in the table."""

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
    """Predictions that count for nothing here."""
    broken: Broken
    """What cannot be read."""


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
