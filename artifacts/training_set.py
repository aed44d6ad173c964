"""Training set description: its features, what divides it, and what was checked of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.quality import ViewQuality
from kfp_lifecycle.artifacts.step_origin import StepOrigin

PartName = Literal["train", "validation", "test"]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]


# The column of a training set's files with the group of each row, where the split keeps groups together.
GROUP = "split_group"


class SkewCheck(Part):
    """Comparison of training rows with the online path: all values were the same."""

    snapshot: Date | None
    """The rows' date; none where the split is not by time."""
    entities: int
    """How many rows were compared."""
    features: int
    """How many features of each."""


class LabelRate(Part):
    """How common the event is at one snapshot."""

    snapshot: Date
    """Its date."""
    rows: int
    """Labelled rows."""
    positives: int
    """Of these, rows with the event."""

    @property
    def rate(self) -> float:
        """Share of rows with the event, 0 to 1."""
        return self.positives / self.rows if self.rows else 0.0


class TrainingSetDescription(Document):
    """The description beside `train.parquet`, `validation.parquet` and `test.parquet`."""

    FILE = "training_set.json"
    WRITER = "build_training_set"

    entity: str
    """The entity's key column."""
    key_type: str = ""
    """DuckDB's type of the key: INTEGER, BIGINT or VARCHAR."""
    label: str
    """The label's column: 1 for the event, 0 for none."""
    features: list[Feature]
    """The model's inputs, in order."""
    sensitive: list[str] = Field(default=[])
    """Columns that fairness is judged by."""
    titles: dict[str, str] = Field(default={})
    """What people call features and sensitive columns whose name is another one."""
    feature_service: str = ""
    """The Feast feature service that gives the features."""
    feature_version: str = ""
    """Digest of the feature definitions, which stand in `feature_repo/`."""
    split: Literal["time", "random", "group"] = "time"
    """What divides the rows into parts; only by time is one part later than another."""
    snapshots: dict[PartName, list[Date]]
    """Dates of each part, oldest first; none where the split is not by time."""
    divided_since: Date | None = None
    """First date after a change, from which on rows are divided by entity and their dates are in all parts; none where
    the parts follow each other."""
    rows: dict[PartName, int] = Field(default={})
    """Rows of each part."""
    positives: dict[PartName, int] = Field(default={})
    """Rows of each part that have the event."""
    left_out: list[Date] = Field(default=[])
    """Snapshots that keep the parts a label's horizon apart, or are older than the training window."""
    rows_left_out: int = 0
    """How many labelled rows are in no part: these, and of who tests or validates after a change
    the rows whose label was not known before it."""
    label_rates: list[LabelRate] = Field(default=[])
    """Of every snapshot, also of those that keep the parts apart, oldest first."""
    labels_until: datetime | None = None
    """Until when the label's own tables reach; labels of later moments are not known."""
    notes: list[str] = Field(default=[])
    """What a reader of the training set must know: tables that lag, breaks in the label's rate, how a change
    was dealt with."""
    skew: SkewCheck | None = None
    """The comparison with the online path."""
    quality: list[ViewQuality] = Field(default=[])
    """What the training part's features are like, by view."""
    as_of: datetime | None = None
    """Time of the newest row of all tables; none where no table has times."""
    offline_store: str = "duckdb"
    """What computed the features: `duckdb`, or the kind of a warehouse."""
    quarantined: int = 0
    """Rows that validation had put aside before."""
    origin: StepOrigin = StepOrigin()
    """What built it."""

    @property
    def learns_from_change(self) -> bool:
        """Whether some rows of the dates that are divided by entity train."""
        return self.divided_since is not None and max(self.snapshots["train"], default="") >= self.divided_since

    def metadata(self) -> dict[str, Any]:
        """What a person or the next step would ask first."""
        values = self.model_dump(mode="json", include={
            "rows", "positives", "snapshots", "divided_since", "left_out", "rows_left_out", "skew", "feature_version",
            "as_of", "notes",
        })  # fmt: skip
        return {
            **values,
            "features": len(self.features),
            "summary": f"{sum(self.rows.values()):,} rows, {len(self.features)} features",
        }
