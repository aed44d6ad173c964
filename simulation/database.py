"""The DuckDB file: its tables, and how rows get in so that the same rows give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np

from kfp_lifecycle.simulation.tables import NUMBER, Rows
from kfp_lifecycle.simulation.words import VOCABULARY

TABLES: dict[str, dict[str, str]] = {
    "customers": {
        "customer_id": "BIGINT",
        "signed_up_at": "TIMESTAMP",
        "age_band": "VARCHAR",
        "gender": "VARCHAR",
        "region": "VARCHAR",
        "channel": "VARCHAR",
        "recorded_at": "TIMESTAMP",
    },
    "subscriptions": {
        "subscription_id": "BIGINT",
        "customer_id": "BIGINT",
        "billed_at": "TIMESTAMP",
        "account_age_days": "INTEGER",
        "plan": "VARCHAR",
        "monthly_charge": "DOUBLE",
        "discount": "DOUBLE",
        "payment_method": "VARCHAR",
        "payment_status": "VARCHAR",
        "recorded_at": "TIMESTAMP",
    },
    "logins": {
        "login_id": "BIGINT",
        "customer_id": "BIGINT",
        "logged_in_at": "TIMESTAMP",
        "device": "VARCHAR",
        "session_minutes": "DOUBLE",
        "recorded_at": "TIMESTAMP",
    },
    "purchases": {
        "purchase_id": "BIGINT",
        "customer_id": "BIGINT",
        "purchased_at": "TIMESTAMP",
        "category": "VARCHAR",
        "quantity": "INTEGER",
        "amount": "DOUBLE",
        "recorded_at": "TIMESTAMP",
    },
    "support_tickets": {
        "ticket_id": "BIGINT",
        "customer_id": "BIGINT",
        "opened_at": "TIMESTAMP",
        "category": "VARCHAR",
        "resolved_at": "TIMESTAMP",
        "satisfaction": "INTEGER",
        "recorded_at": "TIMESTAMP",
    },
    "cancellations": {
        "customer_id": "BIGINT",
        "cancelled_at": "TIMESTAMP",
        "reason": "VARCHAR",
        "recorded_at": "TIMESTAMP",
    },
    "truth": {"customer_id": "BIGINT", "day": "DATE", "probability": "DOUBLE"},
}
"""Columns and types of each table, in their order. The first is numbered here where the rows come without it."""

MEMORY_LIMIT = "512MB"
"""Of the database. It is fixed since by default it is a share of the machine's, and decides when rows go to disk."""
# What DuckDB 2.0 needs to write the same bytes twice, besides one thread: files of formats from 1.4 on carry a random
# identifier, and text columns choose their compression from a random sample and save unused memory with FSST
# (duckdb#23382).
STORAGE_VERSION = "v1.2.0"
TEXT_COMPRESSION = "USING COMPRESSION dictionary"


class Database:
    """An open file that rows are appended to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.rows = dict.fromkeys(TABLES, 0)
        """Rows written so far, by table."""

    def append(self, table: str, rows: Rows) -> None:
        """Append rows; those without their table's key have it in `NUMBER`."""
        numbers = rows[NUMBER]
        size = len(numbers)
        chunk = {name: rows.get(name, numbers) for name in TABLES[table]}
        expressions = [_expression(name, kind, chunk[name].dtype) for name, kind in TABLES[table].items()]
        self._connection.execute(f"INSERT INTO file.{table} SELECT {', '.join(expressions)} FROM chunk")
        self.rows[table] += size

    def rename_column(self, table: str, column: str, name: str) -> None:
        """Rename a column of a table."""
        self._connection.execute(f"ALTER TABLE file.{table} RENAME COLUMN {column} TO {name}")


def _definition(name: str, kind: str) -> str:
    return f"{name} {kind} {TEXT_COMPRESSION}" if kind == "VARCHAR" else f"{name} {kind}"


def _expression(name: str, kind: str, dtype: np.dtype[np.generic]) -> str:
    if kind == "VARCHAR":
        return f"[{', '.join(repr(word) for word in VOCABULARY)}][{name}]"  # counts from 1; beyond it is NULL
    if dtype.kind == "f":
        return f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END::{kind}"
    return f"{name}::{kind}"


@contextmanager
def create_database(output: Path) -> Iterator[Database]:
    """A new database that takes the place of `output` when the block ends well, and vanishes when it does not.

    Raises:
        OSError: the folder cannot be made or written to.
        duckdb.Error: the database cannot be written.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    _remove(partial)
    try:
        # One thread: several would lay out the file as they happen to finish.
        with duckdb.connect(config={"threads": 1, "memory_limit": MEMORY_LIMIT, "temp_directory": ""}) as connection:
            path = str(partial).replace("'", "''")
            connection.execute("SET enable_progress_bar = false")  # on where Python takes its code from an argument
            connection.execute(f"ATTACH '{path}' AS file (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("BEGIN")
            for table, columns in TABLES.items():
                definitions = ", ".join(_definition(name, kind) for name, kind in columns.items())
                connection.execute(f"CREATE TABLE file.{table} ({definitions})")
            yield Database(connection)
            connection.execute("COMMIT")
            connection.execute("DETACH file")
        # A journal that an interrupted writer left beside the old file would be replayed into the new one.
        _journal(output).unlink(missing_ok=True)
        partial.replace(output)
    finally:
        _remove(partial)


def _journal(database: Path) -> Path:
    return database.with_name(f"{database.name}.wal")


def _remove(database: Path) -> None:
    database.unlink(missing_ok=True)
    _journal(database).unlink(missing_ok=True)
