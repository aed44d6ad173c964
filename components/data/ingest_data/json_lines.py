"""JSON lines, typed by rule: numbers and times only where every value stays what it was.

DuckDB's own detection makes one type of whatever it finds: a number of 24 digits loses the last eight. Here each value
of a plain column is looked at as the text that stands in the file; nested ones are what DuckDB finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from kfp_lifecycle.components.data.ingest_data.kinds import (
    ANY,
    DOUBLE_DIGITS,
    INTEGER,
    NUMBER,
    TYPES,
    define_kinds,
)
from kfp_lifecycle.components.data.ingest_data.names import check_names_differ
from kfp_lifecycle.data.checks import shown_value
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.runtime.contract import ContractViolation

DETECTED = (
    "read_json({files}, format = 'newline_delimited', ignore_errors = false, sample_size = -1, maximum_depth = 2, "
    "dateformat = '%Y-%m-%d', maximum_object_size = 67108864, hive_partitioning = false)"
)
TYPED = (
    "read_json({files}, format = 'newline_delimited', ignore_errors = false, columns = {columns}, "
    "maximum_object_size = 67108864, hive_partitioning = false)"
)
OBJECTS = "read_ndjson_objects({files}, ignore_errors = false, maximum_object_size = 67108864)"
NESTED = ("STRUCT", "MAP")
# A number where a value stands in a line of JSON, with more digits than every DOUBLE keeps.
LONG_NUMBER = r'"((?:[^"\\]|\\.)*)"\s*:\s*\[?\s*(-?[0-9.]{16,}(?:[eE][-+]?[0-9]+)?)\s*[],}]'
NUMBERS = {"UBIGINT", "BIGINT", "DOUBLE"}
COLUMNS_AT_ONCE = 200


def select_json_lines(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], table: str, has_query: bool) -> str:
    """SQL of all objects of some files of JSON lines.

    Args:
        connection: May read the files.
        files: One JSON object in each line.
        table: The table's name, for messages.
        has_query: Whether a query makes something of it: then a column whose values are of several types is JSON.

    Raises:
        ContractViolation: a line is no object or has a key twice, or a column's values are of several types or would
            change on the way.
        duckdb.Error: a line is no JSON.
    """
    listed = f"[{', '.join(literal(str(file)) for file in files)}]"
    _check_objects(connection, files, table)
    keys = connection.execute(
        f"SELECT DISTINCT unnest(json_keys(json)) AS key FROM {OBJECTS.format(files=listed)} "
        "ORDER BY lower(key), key DESC"
    ).fetchall()
    check_names_differ([key for (key,) in keys], f"table {table}: {files[0].name}")
    define_kinds(connection)
    _check_numbers(connection, listed, table)
    detected = columns_of(connection, f"SELECT * FROM {DETECTED.format(files=listed)}")
    plain = [name for name, kind in detected.items() if not (kind.endswith("]") or kind.startswith(NESTED))]
    kinds = {name: "JSON" if name in plain else kind for name, kind in detected.items()}
    columns = "{" + ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in kinds.items()) + "}"
    rows = TYPED.format(files=listed, columns=columns)
    selected = {name: quoted(name) for name in detected}
    for name, types, bits in _found(connection, plain, rows):
        selected[name] = _selected(connection, name, types, bits, rows, table, has_query)
    return f"SELECT {', '.join(f'{value} AS {quoted(name)}' for name, value in selected.items())} FROM {rows}"


def _check_objects(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], table: str) -> None:
    for file in files:
        with file.open("rb") as content:
            start = content.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith(b"["):
            raise ContractViolation(
                f"table {table}: {file.name} is one JSON array, and not an object in each line. Write JSON lines: an "
                "object, a line end, and the next one, without commas between them."
            )
        wrong = connection.execute(
            "SELECT number, json_type(json), json_keys(json) FROM (SELECT row_number() OVER () AS number, "
            f"json FROM {OBJECTS.format(files=literal(str(file)))}) WHERE json_type(json) <> 'OBJECT' "
            "OR len(json_keys(json)) <> len(list_distinct(list_transform(json_keys(json), lambda key : lower(key)))) "
            "ORDER BY number LIMIT 1"
        ).fetchall()
        for number, kind, keys in wrong:
            if kind == "OBJECT":
                check_names_differ(keys, f"table {table}: row {number:,} of {file.name}")
            raise ContractViolation(
                f"table {table}: {file.name} holds {'null' if kind == 'NULL' else f'a value of type {kind}'} in place "
                f"of an object in its row {number:,}. Write one JSON object in each line."
            )


def _check_numbers(connection: duckdb.DuckDBPyConnection, listed: str, table: str) -> None:
    """Refuse numbers with more digits than any type keeps, nested ones too, before anything reads them as numbers."""
    long = "-?[0-9.]{16}"
    found = connection.execute(
        f"SELECT number, name, value FROM (SELECT number, unnest(regexp_extract_all(json, {literal(LONG_NUMBER)}, 1)) "
        f"AS name, unnest(regexp_extract_all(json, {literal(LONG_NUMBER)}, 2)) AS value FROM "
        f"(SELECT row_number() OVER () AS number, CAST(json AS VARCHAR) AS json FROM {OBJECTS.format(files=listed)}) "
        f"WHERE regexp_matches(json, {literal(long)})) WHERE NOT stays_itself(value) "
        "AND (contains(value, '.') OR TRY_CAST(value AS BIGINT) IS NULL) LIMIT 1"
    ).fetchall()
    for number, name, value in found:
        raise ContractViolation(
            f"table {table}: {name} is {shown_value(value)[1:-1]} in row {number:,}, which has more than the "
            f"{DOUBLE_DIGITS} digits that a number keeps. Write it as a JSON string, or round it."
        )


def _text(name: str) -> str:
    column = quoted(name)
    return f"CASE json_type({column}) WHEN 'VARCHAR' THEN {column} ->> '$' ELSE CAST({column} AS VARCHAR) END"


def _found(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], rows: str
) -> Iterator[tuple[str, set[str], int | None]]:
    """Of each plain column: which JSON types its values have, and the kinds that all share."""
    for start in range(0, len(names), COLUMNS_AT_ONCE):
        part = names[start : start + COLUMNS_AT_ONCE]
        found = connection.execute(
            "SELECT place, list(DISTINCT type), bit_and(kinds_of(value)) FROM (SELECT "
            f"unnest([{', '.join(map(_text, part))}]) AS value, "
            f"unnest([{', '.join(f'json_type({quoted(name)})' for name in part)}]) AS type, "
            f"unnest(range({len(part)})) AS place FROM {rows}) WHERE value IS NOT NULL GROUP BY place"
        ).fetchall()
        answer = {place: (set(types), bits) for place, types, bits in found}
        for place, name in enumerate(part):
            yield name, *answer.get(place, (set(), None))


def _selected(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    types: set[str],
    bits: int | None,
    rows: str,
    table: str,
    has_query: bool,
) -> str:
    """SQL of a column as what all its values are."""
    text, kinds = _text(name), (bits or 0) & ANY
    if not types or types == {"VARCHAR"}:
        times = kinds & ~(INTEGER | NUMBER) if types and kinds != ANY else 0
        sql = next((sql for bit, sql in TYPES.items() if times & bit and sql != "BOOLEAN"), None)
        return f"CAST({text} AS {sql})" if sql else text
    if types == {"BOOLEAN"}:
        return f"CAST({text} AS BOOLEAN)"
    if types <= NUMBERS and kinds & (INTEGER | NUMBER):
        return f"CAST({text} AS {TYPES[INTEGER] if kinds & INTEGER and 'DOUBLE' not in types else TYPES[NUMBER]})"
    if has_query:
        return quoted(name)
    if types <= NUMBERS:
        odd = f"TRY_CAST({text} AS BIGINT) IS NULL AND NOT contains({text}, '.') OR NOT stays_itself({text})"
        why = "more digits than a number keeps beside the fractions and integers of its column"
    else:
        odd, why = f"json_type({quoted(name)}) <> 'VARCHAR'", "another type than other values of its column"
    value, number = connection.execute(
        f"SELECT {text}, number FROM (SELECT row_number() OVER () AS number, {quoted(name)} FROM {rows}) WHERE "
        f"{quoted(name)} IS NOT NULL AND ({odd}) ORDER BY number LIMIT 1"
    ).fetchall()[0]
    raise ContractViolation(
        f"table {table}: {name} is {shown_value(value)[1:-1]} in row {number:,}, which has {why} "
        f"({', '.join(sorted(types))}). Write all its values alike, or say in source.tables.{table}.query what they "
        "are: to it the column is JSON."
    )
