"""One part of `benchmarks/scale.py`, alone in a process, which tells its own time and memory.

python -m benchmarks.scale_step {simulate,ingest,features} FOLDER [CUSTOMERS DAYS]
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def simulate(folder: Path, customers: str, days: str) -> Callable[[], dict[str, Any]]:
    """The business, in a database file. For the platform environment."""
    from kfp_lifecycle.simulation.business import simulate as run

    return lambda: {"rows": run(folder / "source.duckdb", customers=int(customers), days=int(days)).rows}


def ingest(folder: Path) -> Callable[[], dict[str, Any]]:
    """The source in Parquet files. For the validation environment."""
    from kfp_lifecycle.components.data.ingest_data.ingestion import ingest as run
    from tests.projects import read_project

    project = read_project(folder / "project")

    def work() -> dict[str, Any]:
        manifest = run(project.settings, project.locations, project.expectations, folder / "tables")
        return {"rows": {name: table.rows for name, table in manifest.tables.items()}}

    return work


def features(folder: Path) -> Callable[[], dict[str, Any]]:
    """The training set. For the modelling environment."""
    import kfp_lifecycle.components.features.build_training_set.training_set  # noqa: F401
    from tests.feature_steps import build

    return lambda: {"rows": build(folder / "project", folder / "tables", folder / "training_set").rows}


PARTS: dict[str, Callable[..., Callable[[], dict[str, Any]]]] = {
    "simulate": simulate,
    "ingest": ingest,
    "features": features,
}


def peak_megabytes() -> float:
    """The largest memory this process ever held (its resident set), in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Do the part, its imports not counted in its seconds, and print one line of JSON."""
    part, folder, *arguments = sys.argv[1:]
    work = PARTS[part](Path(folder), *arguments)
    before, began = peak_megabytes(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    print(json.dumps({**result, "seconds": seconds, "imports_mb": before, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
