"""Predictions of a window: a typed table of the prediction log, each entity once, and what was left out of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

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

    files: int
    """Files that are none of a log, or end within a batch."""
    rows: int
    """How many predictions, of files that tell."""
    examples: list[Flaw]
    """The most frequent flaws first, five at the most."""


class LeftOut(Part):
    """Predictions that are in the files and have no row of their own in the table."""

    shadow: int
    """Answers that nobody got."""
    outside: int
    """Of other times."""
    future: int
    """From a clock that is ahead."""
    repeated: int
    """Older ones of the same version about an entity whose newest counts."""
    identical: int
    """Without an entity, and with the features of one that counts."""
    unsampled: int
    """Rows that count, and are beyond the sample of a version."""


class ServedVersion(Part):
    """What one version answered in the window."""

    version: str
    """The model's version."""
    predictions: int
    """How many answers."""
    counted: int
    """Of these, after each entity was taken once, and identical requests without one."""
    entities: int
    """Of the counted, those that name an entity."""
    first: datetime
    """When it first answered in the window."""
    last: datetime
    """When it last did."""


class LogTable(Part):
    """What was read of a log."""

    predictions: int
    """Answers in the window."""
    rows: int
    """In the table."""
    versions: list[ServedVersion]
    """In the order of their first answers: more than one where the window spans a release."""
    probes: int
    """Rows of the table that stand for ten and more identical requests without an entity."""
    left_out: LeftOut
    """Predictions that have no row."""
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
    version: str
    """The version that the window is judged by: the champion where enough of its predictions count, else the one of
    which most do. So a window before a release is judged by the model that served in it."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Not included."""
    found: LogTable
    """What the log held."""
    notes: list[str] = Field(default=[])
    """What a reader of the window must know, in sentences: that it is empty, small, not over, or spans a release."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        found = self.found.model_dump(mode="json", exclude={"versions"})
        return {
            "model": self.model,
            "champion": self.champion,
            "version": self.version,
            "versions": {served.version: served.counted for served in self.found.versions},
            "notes": self.notes,
            "start": self.start.isoformat(timespec="seconds"),
            "end": self.end.isoformat(timespec="seconds"),
            **found,
        }
