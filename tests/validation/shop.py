"""A small shop as a project: one or two tables in whatever form a test wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import yaml

from kfp_lifecycle.config.stores import local_stores, save_stores

ORDERS = {"key": ["order_id"], "event_time": "ordered_at"}

GOOD_ORDERS = """
    SELECT i AS order_id, i % 50 AS customer_id, TIMESTAMP '2025-01-01' + i * INTERVAL 1 HOUR AS ordered_at,
        TIMESTAMP '2025-01-01' + i * INTERVAL 1 HOUR + INTERVAL 5 MINUTE AS recorded_at,
        (10 + i % 7)::DOUBLE AS amount, ['card', 'cash'][1 + i % 2] AS paid_by
    FROM range(1000) numbers(i)
"""


def make_project(folder: Path, url: str, tables: dict[str, Any] | None = None, **source: Any) -> Path:
    """A project's folder with its stores beside it, as `load_project` hands it on."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "name": "shop",
        "title": "A shop",
        "entity": {"name": "customer", "key": "customer_id"},
        "source": {"url": url, "tables": tables or {"orders": ORDERS}, **source},
        "label": {"name": "left", "title": "leaves", "horizon_days": 30},
        "features": {"service": "shop"},
        "gate": {"rules": [{"metric": "performance.roc_auc", "at_least": 0.5}]},
        "deployment": {"model": "shop"},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    save_stores(local_stores(folder.parent / "state", "shop"), folder)
    return folder


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
