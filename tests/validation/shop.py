"""A small shop as a project: one or two tables in whatever form a test wants them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import yaml

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.components.data.ingest_data import ingestion
from kfp_lifecycle.config.locations import local_locations
from tests.projects import read_project, save_locations

if TYPE_CHECKING:
    from kfp_lifecycle.components.data.validate_data.quarantine import Quarantine

ORDERS = {"key": ["order_id"], "event_time": "ordered_at"}

GOOD_ORDERS = """
    SELECT i AS order_id, i % 50 AS customer_id, TIMESTAMP '2025-01-01' + i * INTERVAL 1 HOUR AS ordered_at,
        TIMESTAMP '2025-01-01' + i * INTERVAL 1 HOUR + INTERVAL 5 MINUTE AS recorded_at,
        (10 + i % 7)::DOUBLE AS amount, ['card', 'cash'][1 + i % 2] AS paid_by
    FROM range(1000) numbers(i)
"""


def make_project(folder: Path, url: str, tables: dict[str, Any] | None = None, **source: Any) -> Path:
    """A project's folder, and in it where its state is."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "name": "shop",
        "title": "A shop",
        "entity": {"name": "customer", "key": "customer_id"},
        "source": {"url": url, "tables": tables or {"orders": ORDERS}, **source},
        "label": {"name": "left", "title": "leaves", "horizon_days": 30},
        "features": {"service": "shop"},
        "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.5}]},
        "deployment": {"model": "shop"},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    save_locations(local_locations(folder.parent / "state", "shop"), folder)
    return folder


def ingest(folder: Path, tables: Path) -> Manifest:
    """Ingest as the step does with a project's folder."""
    project = read_project(folder)
    return ingestion.ingest(project.settings, project.locations, project.expectations, tables)


def validate(folder: Path, dataset: Path, validated: Path, report: Path) -> Quarantine:
    """Validate as the step does with a project's folder."""
    # TFDV takes seconds to import, and most tests of ingest need none of it.
    from kfp_lifecycle.components.data.validate_data import validation

    project = read_project(folder)
    return validation.validate(project.settings, project.locations, project.expectations, dataset, validated, report)


def make_database(file: Path, **tables: str) -> str:
    """A DuckDB file with a table for each query; its URL."""
    file.unlink(missing_ok=True)
    with duckdb.connect(str(file)) as connection:
        for name, query in tables.items():
            connection.execute(f'CREATE TABLE "{name}" AS {query}')
    return f"duckdb:///{file}"


def file_url(path: Path) -> str:
    """The URL of a file or folder given by its full path."""
    return f"file:///{path}"


def parquet_rows(file: Path) -> list[tuple[Any, ...]]:
    """All rows of a Parquet file, in its order."""
    return duckdb.execute("SELECT * FROM read_parquet(?)", [str(file)]).fetchall()
