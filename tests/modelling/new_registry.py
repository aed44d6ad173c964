"""New databases of MLflow: copies of one, since a hundred migrations for each would take a second of a core."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from kfp_lifecycle.registry.tracking import connect


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        connect(f"sqlite:///{file}").search_experiments()
        return file.read_bytes()


def new_registry(file: Path) -> str:
    """An empty database at `file`, unless there is one already; its URI."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_empty())
    return f"sqlite:///{file}"
