"""Training set description: its features, how time divides it, and what was checked of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.quality import ViewQuality

PartName = Literal["train", "validation", "test"]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class SkewCheck(Part):
    """Comparison of training rows with the online path: all values were the same."""

    snapshot: Date
    """The rows' date."""
    entities: int
    """How many rows were compared."""
    features: int
    """How many features of each."""


class TrainingSetDescription(Document):
    """The description beside `train.parquet`, `validation.parquet` and `test.parquet`."""

    FILE = "training_set.json"
    WRITER = "build_training_set"

    entity: str
    """The entity's key column."""
    label: str
    """The label's column: 1 for the event, 0 for none."""
    features: list[Feature]
    """The model's inputs, in order."""
    sensitive: list[str] = Field(default=[])
    """Columns that fairness is judged by."""
    feature_service: str = ""
    """The Feast feature service that gives the features."""
    feature_version: str = ""
    """Digest of the feature definitions, which stand in `feature_repo/`."""
    snapshots: dict[PartName, list[Date]]
    """Dates of each part, oldest first."""
    rows: dict[PartName, int] = Field(default={})
    """Rows of each part."""
    positives: dict[PartName, int] = Field(default={})
    """Rows of each part that have the event."""
    left_out: list[Date] = Field(default=[])
    """Snapshots that keep the parts a label's horizon apart."""
    rows_left_out: int = 0
    """How many labelled rows these had."""
    skew: SkewCheck | None = None
    """The comparison with the online path."""
    quality: list[ViewQuality] = Field(default=[])
    """What the training part's features are like, by view."""
    as_of: datetime | None = None
    """Time of the newest row of all tables."""
    offline_store: str = "duckdb"
    """What computed the features: `duckdb`, or the kind of a warehouse."""

    def metadata(self) -> dict[str, Any]:
        """What a person or the next step would ask first."""
        values = self.model_dump(mode="json", include={
            "rows", "positives", "snapshots", "left_out", "rows_left_out", "skew", "feature_version", "as_of"
        })  # fmt: skip
        return {
            **values,
            "features": len(self.features),
            "summary": f"{sum(self.rows.values()):,} rows, {len(self.features)} features",
        }
