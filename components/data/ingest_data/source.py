"""Where a project's data comes from: a database file, or files, made readable to SQL."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import duckdb

from components.contract import ContractViolation
from components.data.tables import database, first_line, literal, quoted
from project.data import Source, SourceFormat

SCHEMES = ("duckdb", "file", "package")

# Each reads strictly: what does not fit is an error, never a guess. `sample_size = -1` looks at every row before it
# names a type; `\x1f` as the separator is a control character that no line of text holds, so a line stays whole.
READERS = {
    SourceFormat.parquet: "read_parquet({file})",
    SourceFormat.csv: (
        "read_csv({file}, header = true, delim = ',', quote = '\"', escape = '\"', skip = 0, strict_mode = true, "
        "null_padding = false, ignore_errors = false, encoding = 'utf-8', sample_size = -1)"
    ),
    SourceFormat.jsonl: "read_json({file}, format = 'newline_delimited', ignore_errors = false, sample_size = -1)",
    SourceFormat.text: (
        "read_csv({file}, header = false, columns = {{'line': 'VARCHAR'}}, auto_detect = false, delim = '\x1f', "
        "quote = '', escape = '', encoding = 'utf-8', strict_mode = true, ignore_errors = false)"
    ),
}


@dataclass(frozen=True)
class OpenSource:
    """A source that SQL can read."""

    source: Source
    connection: duckdb.DuckDBPyConnection
    location: Path

    def select(self, table: str) -> str:
        """The SQL of a table: its query, or the source's table of the same name, whole.

        Raises:
            ContractViolation: the source has no such table or file, or the file cannot be read.
        """
        query = self.source.tables[table].query
        if self.source.format is SourceFormat.duckdb:
            return _in_parentheses(query) if query else f"SELECT * FROM {self._database_table(table)}"
        file = self._file_of(table)
        with self.reading(file.name):
            reader = READERS[self.source.format].format(file=literal(str(file)))
            self.connection.execute(f"CREATE OR REPLACE TEMP VIEW source AS SELECT * FROM {reader}")
        return _in_parentheses(query or "SELECT * FROM source")

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn DuckDB's error over the source's content into a violation that names `what` was read."""
        try:
            yield
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            # The place where an installed package happens to stand says nothing to whoever reads this.
            reason = first_line(error).replace(str(self.location), self.source.url)
            raise ContractViolation(
                f"{what} of {self.source.url} cannot be read as {self.source.format.value}: {reason}. Mend the source, "
                "or correct source.format or the table's query in pipeline.yaml."
            ) from error

    def _database_table(self, table: str) -> str:
        rows = self.connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'source' AND table_schema = 'main'"
        ).fetchall()
        names = [name for (name,) in rows]
        if table not in names:
            raise ContractViolation(
                f"{self.source.url} has no table {table}; {nearest(table, names)}. Correct source.tables in "
                f"pipeline.yaml, or give {table} a query."
            )
        return f"source.main.{quoted(table)}"

    def _file_of(self, table: str) -> Path:
        if self.location.is_file():
            return self.location
        file = self.location / f"{table}.{self.source.format.value}"
        if not file.is_file():
            raise ContractViolation(
                f"{self.source.url} has no file {file.name} for the table {table}; "
                f"{nearest(file.name, [path.name for path in self.location.iterdir()])}. Add it, or correct "
                "source.tables in pipeline.yaml."
            )
        return file


@contextlib.contextmanager
def open_source(source: Source, writable: Path) -> Iterator[OpenSource]:
    """Open a source read-only; SQL can read nothing else, and write only below `writable`.

    Raises:
        ContractViolation: the URL is not understood, or what it names does not exist or cannot be opened.
    """
    location = locate(source.url)
    is_database = source.format is SourceFormat.duckdb
    if not location.exists():
        raise ContractViolation(
            f"{source.url} does not exist. Create it, or correct source.url in pipeline.yaml; a path without a leading "
            "slash is relative to the working folder."
        )
    if is_database and location.is_dir():
        raise ContractViolation(
            f"{source.url} is a folder, and a DuckDB database is a file. Name the file with source.url in "
            "pipeline.yaml, or what the folder holds with source.format."
        )
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(
                database(writable=writable, attach=location)
                if is_database
                else database(readable=[location], writable=writable)
            )
        except duckdb.Error as error:
            raise ContractViolation(
                f"{source.url} cannot be opened as a DuckDB database: {first_line(error)}. If another process is "
                "writing it, wait for that; if it is damaged, restore it; if it is a file of another kind, name that "
                "with source.format in pipeline.yaml."
            ) from error
        yield OpenSource(source, connection, location)


def locate(url: str) -> Path:
    """The file or folder that a source URL names.

    Raises:
        ContractViolation: the scheme is unknown, the path is empty or climbs out with `..`, or there is no such
            Python package.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ContractViolation(
            f"source.url {url} is not understood; it starts with {', '.join(f'{name}://' for name in SCHEMES)}."
        )
    if scheme == "package":
        package, _, name = rest.partition("/")
        folder = _package_folder(package, url)
    else:
        host, _, name = rest.partition("/")
        if host:
            raise ContractViolation(
                f"source.url {url} names the host {host}; write three slashes before a path on this machine: "
                f"{scheme}:///{rest}"
            )
        folder = Path()
    path = PurePosixPath(name)
    if not path.parts or ".." in path.parts or (scheme == "package" and path.is_absolute()):
        raise ContractViolation(
            f"source.url {url} must name a file or folder, without `..`. Write the path in full: {scheme}:///…"
        )
    return folder / path


def nearest(name: str, known: Iterable[str]) -> str:
    """What there is instead of a name that is missing: the most similar, or the whole list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did a migration rename it? It has {close[0]}"
    return f"it has {', '.join(names) or 'none at all'}"


def _package_folder(package: str, url: str) -> Path:
    # Found without importing it: a package is wanted for its file, and its code need not run for that.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ContractViolation(
            f"source.url {url} names the Python package {package!r}, which is not installed here. Add it to "
            "environments/validation.in, or correct the name."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _in_parentheses(query: str) -> str:
    # On lines of its own, so that a comment at the query's end does not swallow the parenthesis.
    return f"SELECT * FROM (\n{query.strip().rstrip(';')}\n)"
