"""Where a project's data comes from, made readable to SQL: a DuckDB file, other files, or another database's rows."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from kfp_lifecycle.components.data.ingest_data.delimited import CsvTable, Expected, select_delimited
from kfp_lifecycle.components.data.ingest_data.delimited_shape import check_gzip
from kfp_lifecycle.components.data.ingest_data.files import COMPRESSED, fetch, format_of, nearest, table_files
from kfp_lifecycle.components.data.ingest_data.json_lines import select_json_lines
from kfp_lifecycle.components.data.ingest_data.names import in_small_letters
from kfp_lifecycle.components.data.ingest_data.parquet_files import select_parquet
from kfp_lifecycle.components.data.ingest_data.workbooks import csv_of_sheets
from kfp_lifecycle.config.data import DATABASE_SCHEMES, LOCAL_SCHEMES, Connection, SourceFormat, Table, scheme_of
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.connections.secrets import Revealed, reveal
from kfp_lifecycle.data.locate import locate
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of, database
from kfp_lifecycle.runtime.contract import ContractViolation

# Beyond this DuckDB spills to disk: with what a driver holds besides, a step stays below 1 GB, however large a table.
MEMORY = "512MB"
# A whole object of JSON in an error: it may be anybody's data.
OBJECT = re.compile(r"Object \{.*\}")

# `\x1f` as the separator is a control character that no line of text holds, so a line stays whole.
LINES = (
    "read_csv({files}, header = false, columns = {{'line': 'VARCHAR'}}, auto_detect = false, delim = '\x1f', "
    "quote = '', escape = '', encoding = 'utf-8', strict_mode = true, ignore_errors = false, "
    "hive_partitioning = false)"
)


@dataclass(frozen=True)
class OpenSource:
    """A place whose tables SQL can read."""

    place: Connection
    where: Revealed
    connection: duckdb.DuckDBPyConnection
    location: Path | None
    """The file or folder, of a place on this machine."""
    scratch: Path
    """Folder for what is fetched from elsewhere."""

    @property
    def scheme(self) -> str:
        """What the URL begins with."""
        return scheme_of(self.place.url)

    @property
    def reads_text(self) -> bool:
        """Whether what is read has no types of its own."""
        return self.scheme not in DATABASE_SCHEMES and format_of(self.place) in (SourceFormat.csv, SourceFormat.xlsx)

    def select(self, name: str, table: Table, expected: Expected | None, since: datetime | None) -> str:
        """The SQL of a table: its query, or the table of the same name, whole.

        Args:
            name: The table's name.
            table: Its configuration.
            expected: What the project's schema says of it.
            since: Of an incremental table, the oldest watermark that is wanted. A place that can leaves older rows out;
                the caller filters all the same.

        Raises:
            ContractViolation: there is no such table or file, or it cannot be read.
        """
        if self.scheme not in DATABASE_SCHEMES and table.extract:
            raise ContractViolation(
                f"source.tables.{name}.extract is SQL for a database to run, and {self.place.url} is none that runs "
                "it. Write it as the table's query, in DuckDB's dialect."
            )
        if self.scheme in DATABASE_SCHEMES:
            # Arrow takes a while to import, and files are read without it.
            from kfp_lifecycle.components.data.ingest_data.extraction import dialect_of, extract

            file = self.scratch / f"{name}.parquet"
            dialect = dialect_of(self.scheme, self.location)
            columns = extract(self.place, self.where, dialect, name, table, since, file)
            rows = f"SELECT {columns} FROM read_parquet({literal(str(file))})"
        elif format_of(self.place) is SourceFormat.duckdb:
            if table.query:
                return in_parentheses(table.query)
            with self.reading(f"table {name}"):
                return self._renamed(f"SELECT * FROM {self._database_table(name)}")
        else:
            rows = self._file_rows(name, table, expected)
        with self.reading(f"table {name}"):
            self.connection.execute(f"CREATE OR REPLACE TEMP VIEW source AS {self._renamed(rows)}")
        return in_parentheses(table.query or "SELECT * FROM source")

    def discard(self) -> None:
        """Remove what was fetched for a table that is written."""
        for file in self.scratch.rglob("*.*"):
            if file.is_file():
                file.unlink()

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn DuckDB's error over the source's content into a violation that names `what` was read."""
        try:
            yield
        except duckdb.InterruptException:
            raise
        except duckdb.OutOfMemoryException:
            raise ContractViolation(
                f"{what} of {self.place.url} takes more than {MEMORY} of memory to read, in rows too wide or a query "
                "that holds too much at once. Leave out columns, or aggregate less, with the table's query."
            ) from None
        except duckdb.Error as error:
            # Where an installed package happens to stand, or a fetched file, says nothing to whoever reads this.
            reason = _reason(error)
            if self.location is not None:
                reason = reason.replace(str(self.location), self.place.url)
            reason = self.where.hide(reason.replace(f"{self.scratch}/", ""))
            raise ContractViolation(
                f"{what} of {self.place.url} cannot be read: {reason}. Mend the source, or correct its format or the "
                "table's query in pipeline.yaml."
            ) from None

    def _file_rows(self, name: str, table: Table, expected: Expected | None) -> str:
        form = format_of(self.place)
        if self.location is not None:
            files = table_files(self.location, self.place.url, name, form)
        else:
            files = fetch(self.place, self.where, name, form, self.scratch / name)
        with self.reading(f"{files[0].name}, table {name},"):
            for file in files:
                if not file.stat().st_size:
                    raise ContractViolation(f"table {name}: {file.name} of {self.place.url} is empty. Write it again.")
            if self.reads_text:
                # A query makes of the file what the schema describes; without one the file is it.
                described = CsvTable(name, None if table.query else expected, table.key, whole=not table.query)
                copies, place = self.scratch / f"{name}-plain", self.place
                copies.mkdir(exist_ok=True)
                if form is SourceFormat.xlsx:
                    files, place = csv_of_sheets(files, place, name, table.sheet, copies)
                return select_delimited(self.connection, files, place, described, copies)
            for file in files:
                if file.suffix == COMPRESSED:
                    _check_compressed(file, name)
            if form is SourceFormat.parquet:
                return select_parquet(self.connection, files, name)
            if form is SourceFormat.jsonl:
                return select_json_lines(self.connection, files, name, has_query=table.query is not None)
            for file in files:
                if file.suffix != COMPRESSED and not self.place.last_line_may_be_open:
                    _check_ended(file, name)
            return f"SELECT * FROM {LINES.format(files=[str(file) for file in files])}"

    def _renamed(self, rows: str) -> str:
        """SQL of rows with the names of all columns in small letters where all are in capitals."""
        names = list(columns_of(self.connection, rows))
        small = in_small_letters(names)
        if small == names:
            return rows
        renamed = ", ".join(f"{quoted(old)} AS {quoted(new)}" for old, new in zip(names, small, strict=True))
        return f"SELECT {renamed} FROM ({rows})"

    def _database_table(self, table: str) -> str:
        rows = self.connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'source' AND table_schema = 'main'"
        ).fetchall()
        names = [name for (name,) in rows]
        if table not in names:
            raise ContractViolation(
                f"{self.place.url} has no table {table}; {nearest(table, names)}. Correct source.tables in "
                f"pipeline.yaml, or give {table} a query."
            )
        return f"source.main.{quoted(table)}"


@contextlib.contextmanager
def open_source(place: Connection, scratch: Path, writable: Path) -> Iterator[OpenSource]:
    """Open a place read-only; SQL can read nothing else but `scratch`, and write only below `writable`.

    Raises:
        ContractViolation: what the URL names does not exist or cannot be opened, or a secret in it is not known.
    """
    where = reveal(place.url)
    scheme = scheme_of(place.url)
    location = locate(place.url) if scheme in LOCAL_SCHEMES else None
    if location is not None and not location.exists():
        raise ContractViolation(
            f"{place.url} does not exist: looked for {location.absolute()}. Create it, or correct source.url in "
            "pipeline.yaml."
        )
    attached = scheme not in DATABASE_SCHEMES and format_of(place) is SourceFormat.duckdb
    if location is not None and location.is_dir() and (attached or scheme == "sqlite"):
        raise ContractViolation(
            f"{place.url} is a folder, and a database is a file. Name the file with source.url in pipeline.yaml, or "
            "what the folder holds with source.format."
        )
    if attached and location is None:
        raise ContractViolation(
            f"{place.url}: a DuckDB database is read from this machine only. Export its tables as Parquet, or mount it."
        )
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(
                database(readable=[scratch], writable=writable, attach=location, memory=MEMORY)
                if attached
                else database(readable=[*([location] if location else []), scratch], writable=writable, memory=MEMORY)
            )
        except duckdb.Error as error:
            raise ContractViolation(
                f"{place.url} cannot be opened as a DuckDB database: {first_line(error)}. If another process is "
                "writing it, wait for that; if it is damaged, restore it; if it is a file of another kind, name that "
                "with source.format in pipeline.yaml."
            ) from error
        yield OpenSource(place, where, connection, location, scratch)


def _reason(error: duckdb.Error) -> str:
    """What DuckDB complains of, without its advice on options that nobody here can set."""
    about, _, rest = str(error).strip().partition("\n")
    if "CSV Error" not in about:
        return OBJECT.sub("an object", first_line(error))
    # Without the line itself: a row is somebody's data.
    details = [line.strip() for line in rest.partition("Possible fixes")[0].splitlines() if line.strip()]
    told = [line.rstrip(".") for line in details if not line.startswith("Original Line")]
    return ", ".join([about.removeprefix("Invalid Input Error: "), *told])


def _check_compressed(file: Path, table: str) -> None:
    try:
        check_gzip(file)
    except (EOFError, OSError, zlib.error) as error:
        raise ContractViolation(
            f"table {table}: {file.name} is damaged or was cut off: {error}. Write it again to its end."
        ) from error


def _check_ended(file: Path, table: str) -> None:
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        if content.read() not in (b"\n", b"\r"):
            raise ContractViolation(
                f"table {table}: {file.name} has no line end after its last line, so nobody can tell whether that is "
                "whole or was cut off. Write it to its end, with a line end, or set last_line_may_be_open for this "
                "source in pipeline.yaml."
            )


def in_parentheses(query: str) -> str:
    """A query as part of another."""
    # On lines of its own, so that a comment at the query's end does not swallow the parenthesis.
    return f"SELECT * FROM (\n{query.strip().rstrip(';')}\n)"
