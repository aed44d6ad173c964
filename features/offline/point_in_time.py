"""Point-in-time views: tables as they were known at a moment, and feature values computed from nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import cpu_count

from kfp_lifecycle.artifacts.tables import parquet_file
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import database
from kfp_lifecycle.features.definitions import DUCKDB_TYPES, TIMESTAMP, Definitions
from kfp_lifecycle.runtime.contract import ContractViolation

BATCH_ROWS = 100_000
"""Rows that are held in memory at a time, on the way to a file or a store."""
# No table of a project can have this name.
RESULT = '"query result"'
MOMENT = "%Y%m%dT%H%M%S"
FRACTIONS = ("FLOAT", "DOUBLE")
FEAST_NAMES = {duckdb_type: str(feast_type) for feast_type, duckdb_type in DUCKDB_TYPES.items()}
# The present as words of the SQL standard, which are functions of other names.
CLOCK_WORDS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
# Functions that count from the present where they are given so few arguments.
FROM_THE_PRESENT = {"age": 1}
SAMPLE = "a sample that is not REPEATABLE"


@contextlib.contextmanager
def session(folder: Path, writable: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session over a folder of tables, in which the same data give the same bits.

    One thread computes a query, so that a sum is always taken in the same order; cursors of the session, each on a
    thread of its own, share its bounded memory.
    """
    with database(readable=[folder], writable=writable, threads=1) as connection:
        yield connection


def write_view_values(
    validated: Path,
    tables: Mapping[str, Table],
    definitions: Definitions,
    views: Iterable[str],
    moments: Iterable[datetime],
    folder: Path,
) -> None:
    """Write the values of views as of several moments, as many moments at once as there are cores.

    Args:
        validated: The tables artifact.
        tables: The tables of the configuration.
        definitions: The project's feature definitions.
        views: Names of the views.
        moments: Every table is cut at each of them before a view's SQL runs.
        folder: Where to write `<view>/<moment>.parquet`, with the columns and in the order of `view_values`.

    Raises:
        ContractViolation: a table, or a view's SQL, is at fault; the file is named.
    """
    views = list(views)
    for view in views:
        (folder / view).mkdir(parents=True)

    def write(cursor: duckdb.DuckDBPyConnection, moment: datetime) -> None:
        show_tables(cursor, validated, tables, moment)
        for view in views:
            write_values(view_values(cursor, definitions, view, moment), view, moment, folder)

    with session(validated) as connection, ThreadPoolExecutor(cpu_count()) as threads:
        written = [threads.submit(write, connection.cursor(), moment) for moment in moments]
        try:
            for moment in written:
                moment.result()
        finally:
            threads.shutdown(cancel_futures=True)


def write_values(values: pa.RecordBatchReader, view: str, moment: datetime, folder: Path) -> None:
    """Write what `view_values` gives to its place."""
    with pq.ParquetWriter(folder / view / f"{moment:{MOMENT}}.parquet", values.schema) as file:
        for batch in values:
            file.write_batch(batch)


def moment_of(file: Path) -> datetime:
    """The moment that a file of `write_view_values` is of."""
    return datetime.strptime(file.stem, MOMENT).replace(tzinfo=UTC)


def show_tables(
    connection: duckdb.DuckDBPyConnection, folder: Path, tables: Mapping[str, Table], as_of: datetime | None
) -> None:
    """Make a view of each table, cut to what had happened and had arrived.

    Args:
        connection: Where to make the views, visible in no other cursor; those of an earlier call are replaced.
        folder: The tables artifact: `<table>.parquet` for each table.
        tables: The tables of the configuration.
        as_of: Nothing later than this is seen. A row without one of the times is never known. None: all rows are seen,
            and the tables that only the label may see too. Of a table without times all rows are seen in either case.

    Raises:
        ContractViolation: a table's file or time column is missing, or is not a time.
    """
    for name, table in tables.items():
        if as_of is not None and table.label_only:
            connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}")
            continue
        try:
            show_table(connection, folder, name, [] if as_of is None else [(time, as_of) for time in table.times])
        except duckdb.Error as error:
            raise ContractViolation(
                f"The table {name} cannot be cut at a date by its event_time {table.event_time} and arrival_time "
                f"{table.arrival_time}: {first_line(error)} Name columns that hold times in source.tables.{name}."
            ) from error


def show_table(
    connection: duckdb.DuckDBPyConnection, folder: Path, name: str, until: Iterable[tuple[str, datetime]]
) -> None:
    """Make a view of one table, with the rows whose times are no later than some moments.

    Args:
        connection: Where to make it; an earlier one of the table is replaced.
        folder: The tables artifact.
        name: The table's name.
        until: Time columns, and the latest moment of each.

    Raises:
        ContractViolation: the table's file is missing.
        duckdb.Error: a time column is missing, or is no time.
    """
    file = validated_file(folder, name)
    query = f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT * FROM read_parquet({literal(str(file))})"
    conditions = [f"{quoted(time)} <= {_moment(moment, 'TIMESTAMP')}" for time, moment in until]
    connection.execute(f"{query} WHERE {' AND '.join(conditions)}" if conditions else query)


def validated_file(folder: Path, table: str) -> Path:
    """The file of a table, as an absolute path.

    Raises:
        ContractViolation: it is missing.
    """
    file = parquet_file(folder, table)
    if not file.is_file():
        raise ContractViolation(
            f"The table {table} is not among the validated tables ({file.name} is missing). Run the pipeline anew, "
            "or take the table out of source.tables."
        )
    return file.resolve()


def view_values(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, view: str, as_of: datetime
) -> pa.RecordBatchReader:
    """Run the SQL of a feature view over the tables that `show_tables` made.

    Args:
        connection: The session with the tables.
        definitions: The project's feature definitions.
        view: Name of the view.
        as_of: The moment the tables were cut at; the SQL knows it as `$as_of`.

    Returns:
        Rows sorted by the key: the key, the view's features in the types of their definitions (not-a-number is
        missing, times are whole seconds as the online store keeps them), and `event_timestamp`, which is `as_of`.

    Raises:
        ContractViolation: the SQL fails or lacks a column, or a key is missing or not unique; the file is named.
    """
    parameters, columns = {"as_of": as_of}, view_columns(definitions, view)
    return run_query(connection, definitions, definitions.sql_file(view), parameters, columns, timestamp=as_of)


def view_columns(definitions: Definitions, view: str) -> dict[str, str]:
    """DuckDB type of each feature of a view, by name."""
    return {field.name: DUCKDB_TYPES[field.dtype] for field in definitions.views[view].features}


def run_query(
    connection: duckdb.DuckDBPyConnection,
    definitions: Definitions,
    file: Path,
    parameters: Mapping[str, datetime],
    columns: Mapping[str, str],
    timestamp: datetime,
    optional: Mapping[str, str] | None = None,
    name: str = "",
) -> pa.RecordBatchReader:
    """Run an SQL file of the project, check its result, and give it sorted by the key.

    Args:
        connection: The session with the tables.
        definitions: The project's feature definitions: they name the key.
        file: The SQL file: one SELECT.
        parameters: Moments that the SQL may use, by name.
        columns: DuckDB type of each column that the file must give beside the key.
        timestamp: Value of `event_timestamp`, the last column returned.
        optional: The same for columns that are returned where the file gives them.
        name: What messages call the file; its path by default.

    Returns:
        The rows, in batches; they have to be read before the next query runs.

    Raises:
        ContractViolation: the file is missing, fails, lacks a column, or has a key that is missing or not unique.
    """
    name = name or str(file)
    query, asked = checked_query(file, parameters, name)
    used = {name: parameters[name].astimezone(UTC).replace(tzinfo=None) for name in asked}
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {RESULT} AS {query}", used)
    except duckdb.Error as error:
        raise ContractViolation(f"{name} failed: {first_line(error)}") from error
    return checked_result(connection, definitions, name, columns, timestamp, optional)


def checked_query(file: Path, parameters: Iterable[str], name: str = "") -> tuple[str, set[str]]:
    """The SELECT of an SQL file, and which of the parameters it uses; messages call the file by `name`, or its path.

    Raises:
        ContractViolation: the file is missing, holds something else, asks for another parameter, or would give other
            values at another time.
    """
    name = name or str(file)
    query, asked = read_query(file, name)
    _refuse_clocks(name, query)
    unknown = sorted(asked - set(parameters))
    if unknown:
        raise ContractViolation(
            f"{name} asks for ${', $'.join(unknown)}; it may use ${', $'.join(sorted(parameters))} only."
        )
    return query, asked


def checked_result(
    connection: duckdb.DuckDBPyConnection,
    definitions: Definitions,
    file: str,
    columns: Mapping[str, str],
    timestamp: datetime,
    optional: Mapping[str, str] | None = None,
) -> pa.RecordBatchReader:
    """What an SQL file gave, as `run_query` returns it; it stands in the table RESULT of the session.

    Raises:
        ContractViolation: a column is missing, a value is not one of its type, or a key is missing or not unique.
    """
    key = definitions.key
    try:
        found = {row[0].lower(): row[1] for row in connection.execute(f"DESCRIBE {RESULT}").fetchall()}
        missing = [name for name in (key, *columns) if name.lower() not in found]
        if missing:
            raise ContractViolation(
                f"{file} returns no column {', '.join(missing)}; it has to give {', '.join((key, *columns))}."
            )
        returned = {key: definitions.key_type, **columns}
        returned |= {name: kind for name, kind in (optional or {}).items() if name.lower() in found}
        conversions = [Conversion(name, found[name.lower()], kind) for name, kind in returned.items()]
        _refuse_changed_values(connection, file, key, conversions)
        wrong = connection.execute(
            f"SELECT {conversions[0].value} AS key, count(*) FROM {RESULT} GROUP BY ALL "
            "HAVING count(*) > 1 OR key IS NULL ORDER BY ALL LIMIT 3"
        ).fetchall()
        if wrong:
            examples = " and ".join(f"{count:,} for {value}" for value, count in wrong)
            raise ContractViolation(
                f"{file} must return one row for each {key}, and none without it; at {timestamp:%Y-%m-%d %H:%M:%S} it "
                f"returned {examples}. Group by the key, or join on a unique one."
            )
        return connection.sql(
            f"SELECT {', '.join(f'{column.value} AS {quoted(column.name)}' for column in conversions)}, "
            f"{_moment(timestamp, 'TIMESTAMPTZ')} AS {TIMESTAMP} FROM {RESULT} ORDER BY {quoted(key)}"
        ).to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as error:
        raise ContractViolation(f"{file} failed: {first_line(error)}") from error


@dataclass(frozen=True)
class Conversion:
    """A column of a query's result on its way to the type that its definition gives it: no value may change."""

    name: str
    found: str
    """The DuckDB type that the query gave it."""
    wanted: str
    """That of the definition."""

    @property
    def given(self) -> str:
        """What the query gave, not-a-number as missing."""
        column = quoted(self.name)
        return f"CASE WHEN NOT isnan({column}) THEN {column} END" if self.found in FRACTIONS else column

    @property
    def converted(self) -> str:
        """It in the definition's type, missing where that holds no such value."""
        return f"TRY_CAST({self.given} AS {self.wanted})"

    @property
    def value(self) -> str:
        """What is handed on: times in whole seconds, as the online store keeps them."""
        return f"date_trunc('second', {self.converted})" if self.wanted == "TIMESTAMPTZ" else self.converted

    @property
    def changes(self) -> str:
        """Whether the type does not give back what it was given, or holds it only as infinite.

        A fraction becomes the nearest that FLOAT holds, and a time keeps its seconds: the definition asks for that.
        """
        lost = f"{self.converted} IS NULL"
        fraction = self.found in FRACTIONS or self.found.startswith("DECIMAL")
        if not (self.wanted == "FLOAT" and fraction) and not (
            self.wanted == "TIMESTAMPTZ" and self.found.startswith("TIMESTAMP")
        ):
            lost = f"TRY_CAST({self.converted} AS {self.found}) IS DISTINCT FROM {self.given}"
        infinite = f" OR isinf({self.converted})" if self.wanted in (*FRACTIONS, "TIMESTAMPTZ") else ""
        return f"({self.given} IS NOT NULL AND ({lost}{infinite}))"

    def refusal(self, shown: str, became: str | None, key: str) -> str:
        """Why one value is refused.

        Args:
            shown: The value.
            became: What it would be in the definition's type; None for nothing.
            key: Whose it is.
        """
        if shown.lstrip("-") in ("inf", "infinity"):
            return (
                f"{self.name} is infinite for {key}: a division by zero, most likely. Use nullif(divisor, 0), so that "
                "it is missing there."
            )
        named = FEAST_NAMES.get(self.wanted, self.wanted)
        return (
            f"{self.name} is {shown:.60} ({self.found}) for {key}, which is no {named}: it would become "
            f"{'nothing' if became is None else f'{became:.60}'}. Give it the type in the SQL, in the way that is "
            "meant, or another type where it is defined."
        )


def _refuse_changed_values(
    connection: duckdb.DuckDBPyConnection, file: str, key: str, conversions: Sequence[Conversion]
) -> None:
    """Refuse a result with a value that its definition's type does not hold.

    Raises:
        ContractViolation: there is one; the message shows column, key and value.
    """
    bounded = (*FRACTIONS, "TIMESTAMPTZ")
    checked = [column for column in conversions if column.found != column.wanted or column.wanted in bounded]
    if not checked:
        return
    counts = ", ".join(f"count(*) FILTER ({column.changes})" for column in checked)
    [numbers] = connection.execute(f"SELECT {counts} FROM {RESULT}").fetchall()
    for column, number in zip(checked, numbers, strict=True):
        if not number:
            continue
        [(shown, became, of)] = connection.execute(
            f"SELECT {column.given}::VARCHAR, {column.converted}::VARCHAR, {quoted(key)}::VARCHAR FROM {RESULT} "
            f"WHERE {column.changes} ORDER BY {quoted(key)} LIMIT 1"
        ).fetchall()
        more = f" ({number:,} such rows)" if number > 1 else ""
        whose = f"{key} {of}{more}" if column.name != key else f"one row{more}"
        raise ContractViolation(f"{file}: {column.refusal(shown, became, whose)}")


def read_query(file: Path, name: str = "") -> tuple[str, set[str]]:
    """The one SELECT of an SQL file, and the names of its parameters; messages call the file by `name`, or its path.

    Raises:
        ContractViolation: there is no such file, or it holds something else.
    """
    name = name or str(file)
    if not file.is_file():
        raise ContractViolation(f"There is no {name}. Write it, or name another file in the configuration.")
    try:
        statements = duckdb.extract_statements(file.read_text(encoding="utf-8"))
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise ContractViolation(f"{name} is not SQL: {first_line(error)}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ContractViolation(f"{name} must hold one SELECT and nothing else; it holds {len(statements)} statements.")
    return statements[0].query.strip().rstrip(";"), set(statements[0].named_parameters)


def _refuse_clocks(name: str, query: str) -> None:
    """Refuse SQL whose result depends on when, or how often, it is run.

    Raises:
        ContractViolation: it names a clock, or a function that DuckDB calls volatile.
    """
    tree = _parsed(query)
    names = set(_names(tree)) if not tree.get("error") else _words(query)
    found = sorted((CLOCK_WORDS | _clock_functions()) & names)
    if found:
        raise ContractViolation(
            f"{name} uses {', '.join(found)}, so that the same data give other values at another time, and training "
            "other features than serving. Use the moment that it is given ($as_of, in a label's query $snapshot)."
        )


def tables_of(file: Path, name: str = "") -> set[str]:
    """The names of all that an SQL file reads from: tables, and its own intermediate results; messages call the file by
    `name`, or its path."""
    return {part["table_name"] for part in _parts(_parsed(read_query(file, name)[0])) if "table_name" in part}


@functools.cache
def _parsed(query: str) -> Any:
    """The tree of a query. Of the few kinds that DuckDB cannot write down (PIVOT) there is nothing in it."""
    with duckdb.connect() as connection:
        return _tree(connection, query)


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    [(tree,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    return json.loads(tree)


@functools.cache
def _clock_functions() -> set[str]:
    """The functions whose value is not made of their arguments alone, by DuckDB's own catalogue: those that give
    something else each time, those that take nothing and hold for one query, and macros of such."""
    query = (
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE' "
        "OR (stability <> 'CONSISTENT' AND len(parameters) = 0)"
    )
    macros = "SELECT function_name, macro_definition FROM duckdb_functions() WHERE function_type = 'macro'"
    with duckdb.connect() as connection:
        # An error is the same each time.
        clocks = {name for (name,) in connection.execute(query).fetchall()} - {"error"}
        found_macros = connection.execute(macros).fetchall()
        bodies = [(name, set(_names(_tree(connection, f"SELECT {text}")))) for name, text in found_macros]
    while found := {name for name, used in bodies if used & (clocks | CLOCK_WORDS)} - clocks:
        clocks |= found
    # What `query` runs is a text, which nobody has read.
    clocks |= {"query", SAMPLE, *(f"{name} of one argument" for name in FROM_THE_PRESENT)}
    # They say where the session is, and the session is always the same.
    return clocks - {"current_database", "current_schema", "current_catalog", "user", "current_user", "session_user"}


def _names(tree: Any) -> Iterator[str]:
    """The functions that a parsed query calls, and the bare names in it; of those that count from the present where
    they are given few arguments, with their number."""
    for part in _parts(tree):
        if part.get("class") == "FUNCTION":
            name = part["function_name"].lower()
            # `x.age()` is `age(x)`, with x in the place of a schema.
            yield f"{name} of one argument" if len(part["arguments"]) <= FROM_THE_PRESENT.get(name, -1) else name
        if (sample := part.get("sample")) and not sample.get("repeatable"):
            yield SAMPLE
        if part.get("class") == "COLUMN_REF" and len(part["column_names"]) == 1:
            yield part["column_names"][0].lower()


def _words(query: str) -> set[str]:
    """The words of a query that DuckDB cannot write down as a tree, its texts and comments left out."""
    starts = [*duckdb.tokenize(query), (len(query), None)]
    text = " ".join(
        query[start:end]
        for (start, kind), (end, _) in pairwise(starts)
        if kind not in (duckdb.token_type.string_const, duckdb.token_type.comment)
    )
    words = set(re.findall(r"\w+", text.lower()))
    alone = {name for name in FROM_THE_PRESENT if re.search(rf"\b{name}\s*\((\([^()]*\)|[^(),])*\)", text.lower())}
    return words | {f"{name} of one argument" for name in alone}


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _parts(part)


def _moment(moment: datetime, duckdb_type: str) -> str:
    # The session's time zone is UTC, so a time without a zone is one in UTC.
    return f"{duckdb_type} '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"
