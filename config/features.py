"""Configuration of what is predicted, as of when, and from which features."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from kfp_lifecycle.config.section import Name, RelativePath, Section


class Snapshots(Section):
    """The dates as of which training rows are made: one row for each entity and date."""

    every_days: int = Field(default=30, gt=0)
    """Days between two dates."""
    count: int = Field(default=12, gt=0)
    """How many dates at the most, counted back from the newest whose label is known."""


class Label(Section):
    """What is predicted."""

    name: Name
    """The label's column: 1 for the event, 0 for none."""
    title: str
    """The event in words, for reports: "churns within 30 days"."""
    query: RelativePath = "feature_repo/label.sql"
    """SQL that gives the entity key and the label for every entity that is a customer at `$snapshot`. It sees all rows,
    also later ones; its window ends `$horizon` after the snapshot."""
    horizon_days: int = Field(gt=0)
    """Days after the snapshot until the label is known. Nothing is trained on a label before that, and the parts of the
    split are this far apart."""


class Split(Section):
    """Which snapshots train, validate and test: always in this order of time."""

    validation_snapshots: int = Field(default=2, gt=0)
    """Snapshots that calibrate (the newer half of them) and set the decision threshold (the older half); a single one
    is divided by entity."""
    test_snapshots: int = Field(default=2, gt=0)
    """The newest snapshots, which only the evaluation sees."""


class Present(StrEnum):
    """What a served model takes for the present, where a request names no time."""

    now = "now"
    data = "data"


class Features(Section):
    """Where features are defined, and which a model uses."""

    repository: RelativePath = "feature_repo"
    """The Feast repository: definitions in `features.py`, one `<view>.sql` for each feature view."""
    service: Name
    """The Feast feature service whose features the model is trained on and served with."""
    sensitive: list[str] = Field(default=[])
    """Features (`view:feature`) that fairness is judged by. They join the training set and are never used for
    prediction unless the feature service names them too."""
    freshness_days: int = Field(default=35, gt=0)
    """A feature older than this is missing, in training as in serving."""
    skew_sample: int = Field(default=500, gt=0)
    """Entities that each training run asks of the online path, to compare every feature with the training row, bit for
    bit. Any difference stops the run."""
    warehouse_timeout_seconds: float = Field(default=1800, gt=0)
    """Longest that an `offline_store` other than DuckDB may take over one table, or over one view as of one date."""
    present: Present = Present.now
    """Time of a request that names none. `now` is the clock; `data` is the time of the newest row in the online store,
    for a project on historical data, whose every feature would otherwise be too old."""
