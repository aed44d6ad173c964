"""Snowflake as an offline store, by ADBC: temporary tables, each filled from a temporary stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pyarrow as pa

from kfp_lifecycle.connections.snowflake import connected, fetched
from kfp_lifecycle.data.sql import literal, quoted

TYPES = {"TIMESTAMP": "TIMESTAMP_NTZ", "BIGINT": "NUMBER(38, 0)"}


class Snowflake:
    """A session. Its tables and stages are temporary: no other session sees them, and they end with it."""

    dialect = "snowflake"
    reads_in_place = False

    def __init__(self, url: str, seconds: float) -> None:
        """Note where it is.

        Args:
            url: `snowflake://USER:PASSWORD@ACCOUNT/DATABASE/SCHEMA?warehouse=…&role=…`, with its secrets. The role
                takes USAGE of these and the rights to create tables and stages in the schema.
            seconds: The server ends a statement after this long.
        """
        self._url, self._seconds = url, seconds
        self._session = contextlib.ExitStack()

    def open(self) -> None:
        """Connect.

        Raises:
            adbc_driver_manager.Error: it cannot be reached, or refuses.
        """
        self._connection = self._session.enter_context(connected(self._url, self._seconds))

    def show(self, name: str, columns: Mapping[str, str], file: str) -> str:
        """Put a Parquet file on the stage, and copy it into a table.

        Raises:
            adbc_driver_manager.Error: it cannot be reached, or refuses.
        """
        place = quoted(f"LIFECYCLE_{name.upper()}")
        stage = f"@{place}"
        definitions = ", ".join(f"{quoted(column.upper())} {TYPES.get(kind, kind)}" for column, kind in columns.items())
        self._run(f"CREATE TEMPORARY TABLE {place} ({definitions})")
        self._run(f"CREATE OR REPLACE TEMPORARY STAGE {place}")
        self._run(f"PUT {literal(f'file://{file}')} {stage} AUTO_COMPRESS = FALSE")
        self._run(
            f"COPY INTO {place} FROM {stage} FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) "
            "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE PURGE = TRUE"
        )
        return place

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT; names in small letters."""
        with self._connection.cursor() as cursor:
            yield from fetched(cursor, statement)

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            cursor.fetchall()
