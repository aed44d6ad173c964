"""Order of a run: what its process is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OBJECT_STORES = ("minio://", "s3://", "gs://")


@dataclass(frozen=True)
class Order:
    """What a run is to do."""

    run_id: str
    workflow: str
    pipeline: str
    """File of the pipeline specification."""
    arguments: dict[str, Any]
    pipeline_root: str
    objects: str
    """Folder of the object store: `minio://BUCKET/KEY` is `BUCKET/KEY` in it."""
    cache: str
    """Folder of what the cache keeps for this namespace and pipeline."""
    claims: dict[str, list[str]] = field(default_factory=dict)
    """Claims that the pods of each executor mount."""
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    """Variables that secrets give the pods of each executor."""
    templates: dict[str, str] = field(default_factory=dict)
    """What the names of the templates of each executor begin with."""
    steps_that_fit: int | None = None
    """How many steps the workflow has room for; None for all."""
    clock_offset: float = 0.0

    def write(self, folder: Path) -> None:
        """Leave it where the run's process finds it."""
        (folder / "order.json").write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Order:
        """The order of a run."""
        return cls(**json.loads((folder / "order.json").read_text("utf-8")))


def place_of(uri: str, objects: str) -> str:
    """Where the folder that stands for the object store keeps what a URI names."""
    for scheme in OBJECT_STORES:
        if uri.startswith(scheme):
            return f"{objects}/{uri.removeprefix(scheme)}"
    return uri
