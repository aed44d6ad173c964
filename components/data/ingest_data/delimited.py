"""Comma-separated text, typed by rule: a column is a number or a time only if every one of its values is one.

DuckDB's own detection reads 01-02-2025 as the first of February and 007 as 7. Here only ISO 8601 is a time, a number
has no leading zeros, and what is neither stays the text that it was; where the project has a schema of the table, its
types hold, and a value that is of another is refused.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from kfp_lifecycle.data.tables import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

# Bits for what a value can be. A column is the first of TYPES whose bit all its values share; else VARCHAR.
INTEGER, NUMBER, BOOLEAN, DATE, TIME, ZONED_TIME = (1 << place for place in range(6))
TYPES = {
    INTEGER: "BIGINT",
    NUMBER: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    DATE: "DATE",
    TIME: "TIMESTAMP",
    ZONED_TIME: "TIMESTAMP WITH TIME ZONE",
}
ANY = sum(TYPES)
_CLOCK = r"[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_DAY = r"\d{4}-\d{2}-\d{2}"
# An integer that BIGINT cannot hold is an identifier, and stays text rather than lose digits.
KINDS = rf"""
    CREATE OR REPLACE TEMP MACRO kinds_of(value) AS CASE
        WHEN regexp_full_match(value, '-?(0|[1-9]\d*)')
            THEN CASE WHEN TRY_CAST(value AS BIGINT) IS NULL THEN 0 ELSE {INTEGER | NUMBER} END
        WHEN regexp_full_match(value, '-?(0|[1-9]\d*)?(\.\d+)?([eE][-+]?\d+)?|(?i)[-+]?(nan|inf|infinity)')
            AND TRY_CAST(value AS DOUBLE) IS NOT NULL THEN {NUMBER}
        WHEN lower(value) IN ('true', 'false') THEN {BOOLEAN}
        WHEN regexp_full_match(value, '{_DAY}') AND TRY_CAST(value AS DATE) IS NOT NULL THEN {DATE | TIME}
        WHEN regexp_full_match(value, '{_DAY}{_CLOCK}') AND TRY_CAST(value AS TIMESTAMP) IS NOT NULL THEN {TIME}
        WHEN regexp_full_match(value, '{_DAY}{_CLOCK} ?(Z|UTC|[-+]\d{{2}}(:?\d{{2}})?)')
            AND TRY_CAST(value AS TIMESTAMPTZ) IS NOT NULL THEN {ZONED_TIME}
        ELSE 0 END
"""
# DuckDB holds thousands of values of each column that is read at once: beyond so many it would take more memory than a
# step has, and its kinds are found a part of the columns at a time.
MOST_COLUMNS = 4000
COLUMNS_AT_ONCE = 500


@dataclass(frozen=True)
class Expected:
    """A table by its schema."""

    kinds: dict[str, int]
    """What a column's values may be, in bits; ANY for text."""
    required: frozenset[str]
    """Columns that must be there."""
    fewest_rows: int | None
    most_rows: int | None


def select_delimited(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], expected: Expected | None, table: str, whole: bool
) -> str:
    """SQL of a CSV table's rows, typed.

    Args:
        connection: May read the files.
        files: With the same columns, in the same order, each under a header.
        expected: What the project's schema says; None without one.
        table: The table's name, for messages.
        whole: Whether every column is to be read. A query that takes some of them may do so of any number.

    Raises:
        ContractViolation: a file has no header, one that repeats a name, more columns than can be read, or others than
            the first or the schema say, or a value is of another kind than the schema says.
        duckdb.Error: a row has more or fewer fields than the header, or a file is no UTF-8.
    """
    header = _header(files[0], table)
    for file in files[1:]:
        other = _header(file, table)
        if other != header:
            raise ContractViolation(
                f"table {table}: {file.name} has other columns than {files[0].name}: {', '.join(other)[:200]}. "
                "Write all files of a table with the same columns, in the same order."
            )
    if whole and len(header) > MOST_COLUMNS:
        raise ContractViolation(
            f"table {table}: {files[0].name} has {len(header):,} columns, more than the {MOST_COLUMNS:,} that are "
            "read. If rows and columns changed places, write it the other way round; else name the columns that "
            f"features need in source.tables.{table}.query: SELECT … FROM source."
        )
    if expected is not None:
        _check_names(header, expected, files[0].name, table)
    connection.execute(KINDS)
    rows = text_of(header, files)
    kinds = dict(zip(header, _kinds(connection, header, rows), strict=True))
    if expected is not None:
        for column, found in kinds.items():
            allowed = expected.kinds[column]
            kinds[column] = _kind_by_schema(connection, column, found, allowed, rows, files[0].name, table)
    return f"SELECT {', '.join(_typed(column, kind) for column, kind in kinds.items())} FROM {rows}"


def text_of(header: Sequence[str], files: Sequence[Path]) -> str:
    """SQL of CSV files with every cell as its text; an empty one is NULL."""
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    names = ", ".join(literal(str(file)) for file in files)
    return (
        f"read_csv([{names}], columns = {{{columns}}}, auto_detect = false, header = true, delim = ',', quote = '\"', "
        "escape = '\"', skip = 0, strict_mode = true, null_padding = false, ignore_errors = false, encoding = 'utf-8', "
        "max_line_size = 16777216)"
    )


def _header(file: Path, table: str) -> list[str]:
    try:
        with (
            file.open("rb") as stored,
            gzip.open(stored) if file.suffix == ".gz" else contextlib.nullcontext(stored) as content,
            io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text,
        ):
            names = next(csv.reader(text, strict=True), [])
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ContractViolation(
            f"table {table}: {file.name} is no comma-separated UTF-8 text: {error}. Write it again to its end, as "
            "UTF-8, with commas between the fields and quotes around those that hold one."
        ) from error
    if not names:
        raise ContractViolation(
            f"table {table}: {file.name} is empty: it lacks even a header. Write the names of its columns first."
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or "" in names:
        what = f"the column {twice[0]!r} twice" if twice and twice[0] else "a column without a name"
        raise ContractViolation(
            f"table {table}: {file.name} has {what} in its header. Give each column a name of its own."
        )
    return names


def _check_names(header: Sequence[str], expected: Expected, file: str, table: str) -> None:
    missing = [name for name in expected.kinds if name in expected.required and name not in header]
    unknown = [name for name in header if name not in expected.kinds]
    if missing or unknown:
        found = [f"lacks {', '.join(missing)[:200]}"] if missing else []
        found += [f"has {', '.join(unknown)[:200]} besides"] if unknown else []
        raise ContractViolation(
            f"table {table}: {file} {' and '.join(found)}, by the schema {table}.pbtxt. Write it with the columns of "
            "the schema, or correct the schema if the table has changed for good."
        )


def _kinds(connection: duckdb.DuckDBPyConnection, header: Sequence[str], rows: str) -> list[int]:
    # A column without any value may be anything.
    kinds = [ANY] * len(header)
    for start in range(0, len(header), COLUMNS_AT_ONCE):
        # Cells under each other rather than an expression for each column: planning a thousand of those takes seconds.
        part = header[start : start + COLUMNS_AT_ONCE]
        found = connection.execute(
            f"SELECT place, bit_and(kinds_of(value)) FROM (SELECT unnest([{', '.join(map(quoted, part))}]) AS value, "
            f"unnest(range({len(part)})) AS place FROM {rows}) GROUP BY place"
        ).fetchall()
        for place, bits in found:
            kinds[start + place] = ANY if bits is None else bits
    return kinds


def _kind_by_schema(
    connection: duckdb.DuckDBPyConnection, column: str, kinds: int, allowed: int, rows: str, file: str, table: str
) -> int:
    if allowed == ANY:
        return 0
    fits = kinds & allowed
    name = quoted(column)
    others = connection.execute(
        f"SELECT {name} FROM {rows} WHERE {name} IS NOT NULL AND (kinds_of({name}) & {allowed}) = 0 LIMIT 3"
    ).fetchall()
    if not fits:
        wanted = " or ".join(kind for bit, kind in TYPES.items() if bit & allowed)
        examples = ", ".join(repr(value)[:80] for (value,) in others) or "times with a zone and times without"
        raise ContractViolation(
            f"table {table}: {file} holds {examples} in the column {column}, which is {wanted} by the schema "
            f"{table}.pbtxt. Write plain numbers and ISO 8601 times, or correct the schema."
        )
    return fits


def _typed(column: str, kind: int) -> str:
    name = quoted(column)
    for bit, sql in TYPES.items():
        if kind & bit and kind != ANY:
            return f"CAST({name} AS {sql}) AS {name}"
    return name
