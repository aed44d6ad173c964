"""SQLite, by Python's own module. A column there holds what was put in it, so every value is asked for its type."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import Refused

ROWS = 2000
# Arrow type by the set of types that a column's values have; of none where all are NULL.
TYPES = {
    frozenset[str](): pa.string(),
    frozenset({"integer"}): pa.int64(),
    frozenset({"real"}): pa.float64(),
    frozenset({"integer", "real"}): pa.float64(),
    frozenset({"text"}): pa.string(),
    frozenset({"blob"}): pa.binary(),
}


def batches(file: Path, statement: str, seconds: float) -> Iterator[pa.RecordBatch]:
    """The rows of a statement, read-only; an empty batch first, for its columns.

    Args:
        file: The database.
        statement: One SELECT.
        seconds: How long to wait where another process is writing.

    Raises:
        sqlite3.Error: the file is no database, or does not understand the statement.
        Refused: a column holds values of several types.
    """
    uri = f"file:{quote(str(file))}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=min(seconds, 60))) as connection:
        rows = f"(\n{statement}\n)"
        names = [name for name, *_ in connection.execute(f"SELECT * FROM {rows} LIMIT 0").description]
        quoted = ('"' + name.replace('"', '""') + '"' for name in names)
        kinds = ", ".join(f"group_concat(DISTINCT nullif(typeof({name}), 'null'))" for name in quoted)
        found = connection.execute(f"SELECT {kinds} FROM {rows}").fetchone()
        pairs = zip(names, found, strict=True)
        schema = pa.schema([(name, _type(name, frozenset((kinds or "").split(",")) - {""})) for name, kinds in pairs])
        yield pa.RecordBatch.from_pylist([], schema=schema)
        cursor = connection.execute(statement)
        while fetched := cursor.fetchmany(ROWS):
            values = zip(zip(*fetched, strict=True), schema, strict=True)
            columns = [pa.array(column, field.type) for column, field in values]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _type(column: str, kinds: frozenset[str]) -> pa.DataType:
    if kinds not in TYPES:
        raise Refused(
            f"column {column}",
            f"holds values of several types: {' and '.join(sorted(kinds))}",
            f"Say in the table's extract which it is: SELECT …, CAST({column} AS TEXT) AS {column} FROM …",
        )
    return TYPES[kinds]
