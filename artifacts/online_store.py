"""Materialization record: what the online store holds of a version of the feature definitions, and what was written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document
from kfp_lifecycle.artifacts.quality import ViewQuality


class MaterializedFeatures(Document):
    """The `store` artifact: the record of one materialization."""

    FILE = "store.json"
    WRITER = "materialize_features"

    online_store: str
    """Where the values are, without a password."""
    feature_version: str
    """Digest of the feature definitions that they were computed by."""
    as_of: datetime
    """The moment that they are as of."""
    rows: dict[str, int]
    """Entities in the store, by view."""
    written: dict[str, int]
    """Of how many entities something was written, by view: the others had not changed."""
    removed: list[str] = Field(default=[])
    """Versions of the definitions that nothing needed any more, and that were removed."""
    quality: list[ViewQuality] = Field(default=[])
    """What the features are like, by view."""
    example_entity: int | str | None = None
    """Key of an entity that is in the store; null where there is none."""

    def metadata(self) -> dict[str, Any]:
        """What a person or the next step would ask first.

        Not `quality`: it grows with the features, and metadata reach each later step in one argument of 128 KiB.
        """
        return {
            **self.model_dump(mode="json", exclude={"format", "quality"}, exclude_none=True),
            "summary": f"{max(self.rows.values(), default=0):,} entities, {len(self.rows)} views",
        }
