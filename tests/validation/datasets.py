"""Datasets for validation, written without a source."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from kfp_lifecycle.artifacts.tables import Manifest, TableSummary, parquet_file
from kfp_lifecycle.data.tables import columns_of


def write_dataset(folder: Path, **tables: str) -> Path:
    """A finished folder of tables, each from a query, as of the newest `ordered_at` that is not in the future."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    summaries, newest = {}, [datetime(2025, 1, 1)]
    with duckdb.connect() as connection:
        for name, query in tables.items():
            connection.execute(f"COPY ({query}) TO '{parquet_file(folder, name)}' (FORMAT parquet)")
            read = f"SELECT * FROM '{parquet_file(folder, name)}'"
            columns = columns_of(connection, read)
            rows = connection.execute(f"SELECT count(*) FROM ({read})").fetchall()[0][0]
            summaries[name] = TableSummary(rows=rows, columns=columns)
            if "ordered_at" in columns:
                newest += connection.execute(f"SELECT max(ordered_at) FROM ({read})").fetchall()[0]
    Manifest(as_of=max(newest).replace(tzinfo=UTC), tables=summaries).write(folder)
    return folder
