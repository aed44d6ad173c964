"""Batch scores: a Parquet file of scored entities, beside a description of what scored them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from kfp_lifecycle.artifacts.document import Document


class Scores(Document):
    """The description beside `scores.parquet`, whose columns are the entity key, `as_of`, `score`, `decision`,
    `reason_1` to `reason_3` and `model_version`."""

    FILE = "scores.json"
    WRITER = "score_batch"
    TABLE: ClassVar[str] = "scores.parquet"
    """Name of the file with the scores."""

    model: str
    """Name of the model that scored."""
    version: str
    """Its version."""
    threshold: float
    """It acts from this score on."""
    as_of: datetime
    """The moment that the features are as of."""
    rows: int
    """Entities that were scored."""
    above_threshold: float
    """Share of them whose score reaches the threshold, 0 to 1."""

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            **self.model_dump(mode="json", exclude={"format"}),
            "summary": f"{self.rows:,} scores, {self.above_threshold:.1%} above {self.threshold:.2f}",
        }
