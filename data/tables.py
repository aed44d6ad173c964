"""DuckDB sessions over tables, and folders to write tables to."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

from kfp_lifecycle.artifacts.tables import TIMELESS, parquet_file
from kfp_lifecycle.data.sql import literal, quoted

# DuckDB spills to disk beyond this, so that a table's size is never bounded by memory.
MEMORY_LIMIT = "2GB"


def hand_on(source: Path, destination: Path) -> None:
    """Put every file of a folder of tables into another, without a copy where the file system can share it."""
    for file in sorted(source.iterdir()):
        try:
            os.link(file, destination / file.name)
        except OSError:
            shutil.copyfile(file, destination / file.name)


def newest_event(event_time: str | None) -> str:
    """SQL of a table's newest event time; `TIMELESS` where the table has none."""
    if event_time is None:
        return f"TIMESTAMP '{TIMELESS:%Y-%m-%d}'"
    return f"max({quoted(event_time)}) FILTER (isfinite({quoted(event_time)}))"


@contextlib.contextmanager
def database(
    readable: Iterable[Path] = (),
    writable: Path | None = None,
    attach: Path | None = None,
    threads: int | None = None,
    memory: str = MEMORY_LIMIT,
    ordered: bool = True,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session of bounded memory in which SQL reaches only the files it was given.

    Args:
        readable: Files and folders that SQL may read.
        writable: Folder that SQL may also write.
        attach: Database file, opened read-only under the name `source`; its tables can be named without it.
        threads: How many may work at once; by default one for each core. With one alone, a sum of floating-point
            numbers is always taken in the same order.
        memory: What DuckDB may hold before it spills to disk.
        ordered: Whether a query without ORDER BY gives rows in the order of what it reads; it takes less memory not to.

    Raises:
        duckdb.Error: `attach` is no database, or another process is writing it.
    """
    allowed = [path.resolve() for path in [*readable, *([writable] if writable else [])]]
    folders = [f"{path}/" for path in allowed if path.is_dir()]
    files = [str(path) for path in allowed if not path.is_dir()]
    with tempfile.TemporaryDirectory(prefix="duckdb-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory,
            "temp_directory": spill,
            "preserve_insertion_order": str(ordered).lower(),
            # Nothing is fetched from the network because a query happens to mention it.
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        if threads:
            settings["threads"] = str(threads)
        with duckdb.connect(config=settings) as connection:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            if attach:
                connection.execute(f"ATTACH {literal(str(attach))} AS source (READ_ONLY)")
                connection.execute("USE source")
            connection.execute(f"SET allowed_directories = [{', '.join(map(literal, folders))}]")
            connection.execute(f"SET allowed_paths = [{', '.join(map(literal, files))}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection


@contextlib.contextmanager
def tables_database(
    folder: Path, tables: Iterable[str], writable: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session in which every table of the folder is a view of its name; SQL may write to `writable` alone."""
    with database(readable=[folder], writable=writable) as connection:
        for table in tables:
            file = literal(str(parquet_file(folder.resolve(), table)))
            connection.execute(f"CREATE VIEW {quoted(table)} AS SELECT * FROM read_parquet({file})")
        yield connection


def columns_of(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """DuckDB type by name of a query's columns, in order.

    Raises:
        duckdb.Error: the query cannot be understood, or what it reads cannot be.
    """
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}
