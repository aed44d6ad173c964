"""Parquet files of a table: they must agree on what the columns are, since DuckDB would make all like the first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import duckdb

from kfp_lifecycle.components.data.ingest_data.names import check_names_differ
from kfp_lifecycle.data.sql import literal
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.runtime.contract import ContractViolation

# Types that hold each other's values, the smaller first: parts that differ in these are one column of the largest.
FAMILIES = (
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"),
    ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    ("FLOAT", "DOUBLE"),
)
# The Arrow type whose content is a pickle.
PICKLED = b"arrow.py_extension_type"


def select_parquet(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], table: str) -> str:
    """SQL of all rows of some Parquet files, with no more columns than they have.

    Raises:
        ContractViolation: a file carries a pickled object, has two columns whose names SQL cannot tell apart, or other
            columns than the first, or of another type.
        duckdb.Error: a file cannot be read.
    """
    # A folder that is named x=9 would become a column x.
    one = "SELECT * FROM read_parquet({files}, hive_partitioning = false{more})"
    described = {}
    for file in files:
        _check_no_pickle(connection, file, table)
        names = _top_names(connection, file)
        check_names_differ(names, f"table {table}: {file.name}")
        described[file] = columns_of(connection, one.format(files=literal(str(file)), more=""))
    first = described[files[0]]
    for file, columns in described.items():
        _check_alike(file.name, columns, files[0].name, first, table)
    listed = f"[{', '.join(literal(str(file)) for file in files)}]"
    alike = all(list(columns.items()) == list(first.items()) for columns in described.values())
    return one.format(files=listed, more="" if alike else ", union_by_name = true")


def _check_no_pickle(connection: duckdb.DuckDBPyConnection, file: Path, table: str) -> None:
    """Refuse a file that runs code where PyArrow before 14.0.1 opens it (CVE-2023-47248). DuckDB runs none of it."""
    schemas = connection.execute(
        f"SELECT value FROM parquet_kv_metadata({literal(str(file))}) WHERE key = 'ARROW:schema'"
    ).fetchall()
    for (schema,) in schemas:
        try:
            carries = PICKLED in base64.b64decode(schema)
        except binascii.Error:
            # No Arrow schema that anybody could read.
            continue
        if carries:
            raise ContractViolation(
                f"table {table}: {file.name} carries a pickled Python object (Arrow's type {PICKLED.decode()}), which "
                "may run any code where it is opened (CVE-2023-47248). Nothing of it was run. Find out who wrote it, "
                "and have the column written as a plain type."
            )


def _top_names(connection: duckdb.DuckDBPyConnection, file: Path) -> list[str]:
    """The names in the file's own schema, without those inside of nested columns."""
    schema = connection.execute(
        f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({literal(str(file))})"
    ).fetchall()
    names, position = [], 1
    while position < len(schema):
        names.append(schema[position][0])
        open_children = 1
        while open_children and position < len(schema):
            open_children += schema[position][1] - 1
            position += 1
    return names


def _check_alike(file: str, columns: dict[str, str], first_file: str, first: dict[str, str], table: str) -> None:
    missing = [name for name in first if name not in columns]
    more = [name for name in columns if name not in first]
    if missing or more:
        found = [f"lacks {', '.join(missing)[:200]}"] if missing else []
        found += [f"has {', '.join(more)[:200]} besides"] if more else []
        raise ContractViolation(
            f"table {table}: {file} {' and '.join(found)}, compared with {first_file}. Write all files of a table with "
            "the same columns."
        )
    for name, kind in columns.items():
        if kind != first[name] and not any(kind in family and first[name] in family for family in FAMILIES):
            raise ContractViolation(
                f"table {table}: the column {name} is {kind} in {file}, and {first[name]} in {first_file}; as one of "
                "these its values would change. Write all files of a table with the same types."
            )
