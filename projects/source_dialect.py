"""CSV sniffing: the settings by which a file can be read in one way, found in its whole content and written down.

`lifecycle init` runs it under the environment that reads sources; `python -m … URL PART TABLE FOLDER` writes
`<TABLE>.parquet` as the project's own steps would read it, and prints what it found as JSON.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import duckdb
from pydantic import ValidationError

from kfp_lifecycle.components.data.ingest_data.delimited import MARKERS, MOSTLY, cells_of, text_of
from kfp_lifecycle.components.data.ingest_data.delimited_shape import (
    CHUNK,
    SEPARATORS,
    Misshapen,
    Shape,
    check_gzip,
    shape_of,
    utf_8_copy,
)
from kfp_lifecycle.components.data.ingest_data.files import COMPRESSED, SUFFIXES, fetch, format_of, table_files
from kfp_lifecycle.components.data.ingest_data.kinds import ANY, BOOLEAN, define_kinds
from kfp_lifecycle.components.data.ingest_data.names import check_names_differ
from kfp_lifecycle.components.data.ingest_data.source import open_source
from kfp_lifecycle.components.data.ingest_data.storable import storable_types
from kfp_lifecycle.components.data.ingest_data.workbooks import csv_of_sheets, sheets_of
from kfp_lifecycle.config.data import LOCAL_SCHEMES, Connection, SourceFormat, Table, scheme_of
from kfp_lifecycle.connections.secrets import reveal
from kfp_lifecycle.data.locate import locate
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of, database
from kfp_lifecycle.projects.place import Place
from kfp_lifecycle.runtime.contract import ContractViolation

# In the order in which they are tried: what is valid UTF-8 is hardly anything else, and Latin-1 is what is left.
ENCODINGS = ("utf-8", "cp1252", "latin-1")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SHOWN = 3
TABLES_OF_SQLITE = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
# Endings that a source's format has to be named for.
NAMED_FORMATS = {
    **dict.fromkeys((".tsv", ".tab", ".txt", ".dat", ".data"), SourceFormat.csv),
    ".json": SourceFormat.jsonl,
}
# Endings of what other programs keep tables in.
FOREIGN = {
    **{".xls": "an old Excel workbook", ".xlsb": "a binary Excel workbook", ".ods": "an OpenDocument sheet"},
    **{".dta": "a file of Stata", ".sav": "a file of SPSS", ".sas7bdat": "a file of SAS", ".pkl": "a Python pickle"},
    **{".rds": "a file of R", ".rdata": "a file of R", ".rda": "a file of R", ".zip": "an archive"},
}
NUMBER_WITH_COMMA = r"-?(0|[1-9]\d*),\d+"
NUMBER_OR_INTEGER = rf"{NUMBER_WITH_COMMA}|-?(0|[1-9]\d*)"


def read_table(where: Place, folder: Path) -> dict[str, Any]:
    """Write a table as Parquet, and say by which settings it could be read.

    Args:
        where: The table.
        folder: Where to write.

    Returns:
        `settings` of the source, and `findings` in sentences.

    Raises:
        ContractViolation: it cannot be read; the message says what to do.
    """
    table, part = where.table, where.part
    try:
        place = Connection(url=where.url)
    except ValidationError as error:
        raise ContractViolation(f"--from: {error.errors()[0]['msg']}") from None
    settings: dict[str, Any] = {}
    findings: list[str] = []
    ending = PurePosixPath(where.url.partition("?")[0].removesuffix(COMPRESSED)).suffix.lower()
    if ending in FOREIGN:
        raise ContractViolation(
            f"--from {where.url}: it is {FOREIGN[ending]}, which is not read here. Save it as CSV, .xlsx or Parquet."
        )
    known = sorted({*SUFFIXES, *NAMED_FORMATS})
    is_local = scheme_of(where.url) == "file"
    if is_local and locate(where.url).is_dir():
        raise ContractViolation(f"--from {where.url}: it is a folder. Name a file in it.")
    if is_local and locate(where.url).is_file() and ending not in known:
        raise ContractViolation(
            f"--from {where.url}: how its name ends does not say what it is. Give it one of these endings: "
            f"{', '.join(known)}."
        )
    _check_part(where)
    named = NAMED_FORMATS.get(ending)
    formatted = {"format": named.value} if named else {}
    place = place.model_copy(update={"format": named})
    with tempfile.TemporaryDirectory(prefix="init-") as work:
        scratch = Path(work)
        if not where.is_database and format_of(place) in (SourceFormat.csv, SourceFormat.xlsx):
            settings, findings = _text_settings(place, table, part, scratch)
        place = place.model_copy(update=settings)
        described = Table(
            key=["nothing"],
            sheet=(part or None) if where.is_workbook else None,
            extract=where.extract,
            query=f"SELECT * FROM {where.rows}" if where.is_duckdb else None,
        )
        reading = scratch / "reading"
        reading.mkdir()
        folder = folder.resolve()
        with open_source(place, reading, writable=folder) as source:
            rows = source.select(table, described, None, None)
            with source.reading(f"table {table}"):
                columns = columns_of(source.connection, rows)
                casts = storable_types(source.connection, table, rows, columns)
            selected = ", ".join(
                f"CAST({quoted(name)} AS {casts[name]}) AS {quoted(name)}" if name in casts else quoted(name)
                for name in columns
            )
            file = literal(str(folder / f"{table}.parquet"))
            with source.reading(f"table {table}"):
                source.connection.execute(f"COPY (SELECT {selected} FROM ({rows})) TO {file} (FORMAT parquet)")
    return {"settings": formatted | settings, "findings": findings}


def _check_part(where: Place) -> None:
    """Refuse a database or a workbook of which no table is named, or none that is there, with those that it has."""
    kind = scheme_of(where.url)
    if where.is_database and kind != "sqlite":
        if where.part:
            return
        raise ContractViolation(
            f"--from: which table of the database is meant? Name it after a #: --from {kind}://…#TABLE"
        )
    file = locate(where.url)
    if not file.is_file():
        return
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            names = [name for (name,) in opened.execute(TABLES_OF_SQLITE)]
    elif where.is_duckdb:
        try:
            with duckdb.connect(str(file), read_only=True) as opened:
                found = opened.execute("SELECT table_name FROM information_schema.tables").fetchall()
        except duckdb.Error:
            # Whoever reads it says why it cannot be.
            return
        names = [name for (name,) in found]
    elif where.is_workbook:
        names = sheets_of(file, where.table)
        if len(names) == 1 and not where.part:
            return
    else:
        return
    what = "sheet" if where.is_workbook else "table"
    # To SQL capitals are small letters; a workbook's reader says what it has.
    if where.part and where.part.casefold() not in {name.casefold() for name in names}:
        raise ContractViolation(
            f"--from: {file.name} has no {what} {where.part}; it has {', '.join(sorted(names)) or 'none'}."
        )
    if not where.part and where.table not in names:
        raise ContractViolation(
            f"--from: which {what} of {file.name} is meant? It has {', '.join(sorted(names)) or 'none'}. Name it after "
            f"a #, such as --from '{file.name}#{min(names, default=what.upper())}'."
        )


def _text_settings(place: Connection, table: str, sheet: str, scratch: Path) -> tuple[dict[str, Any], list[str]]:
    """Settings of a source of text that differ from their defaults, and what led to them."""
    files = _files(place, table, scratch)
    settings: dict[str, Any] = {}
    findings: list[str] = []
    copies = scratch / "copies"
    copies.mkdir()
    if format_of(place) is SourceFormat.xlsx:
        errors = ["#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"]
        allowing = place.model_copy(update={"missing": errors})
        sheets, _ = csv_of_sheets(files[:1], allowing, table, sheet or None, copies)
        shape = shape_of(sheets[0], ",", None, True, copies)
    else:
        encoding = _encoding(files[0])
        if encoding != "utf-8":
            settings["encoding"] = encoding
            findings.append(f"its letters are {encoding}: they are no UTF-8")
            findings += _mixed(files[0], encoding)
        file = files[0] if encoding == "utf-8" else utf_8_copy(files[0], encoding, copies)
        shape = _shape(file, table, copies)
        settings["separator"] = shape.dialect.separator
        findings.append(f"its fields are divided by {shape.dialect.separator!r}")
        if not _is_ended(files[0]):
            settings["last_line_may_be_open"] = True
            findings.append("its last line has no end: see that the file is whole")
    check_names_differ([name for name in shape.names if name], f"table {table}: {files[0].name}")
    columns = [name or f"unnamed column {number}" for number, name in enumerate(shape.names, start=1)]
    with database(readable=[shape.file]) as connection:
        rows = text_of(columns, [shape.file], shape.dialect.delimiter)
        if "separator" in settings and (example := _decimal_comma(connection, columns, rows)):
            settings["decimal"] = ","
            findings.append(f"its numbers have a decimal comma, such as {example}")
        marks = _marks(connection, columns, rows, settings.get("decimal", "."))
    if marks:
        settings["missing"] = sorted({mark for each in marks.values() for mark in each})
        findings += _told_of(marks)
    return settings, findings


def _told_of(marks: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Which columns have marks of missing values: each by itself, or many with the same marks in one sentence."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for column, found in marks.items():
        alike.setdefault(tuple(sorted(found)), []).append(column)
    for columns in alike.values():
        one_by_one = [columns] if len(columns) > SHOWN else [[column] for column in columns]
        for group in one_by_one:
            cells: Counter[str] = Counter()
            for column in group:
                cells.update(marks[column])
            told = " and ".join(f"{mark!r} in {count:,} cells" for mark, count in cells.items())
            rest = f" and {len(group) - SHOWN:,} more" if len(group) > SHOWN else ""
            are = "are" if rest else "is"
            yield (
                f"{', '.join(group[:SHOWN])}{rest} {are} numbers or times but for {told}: they are read as missing "
                "values"
            )


def _files(place: Connection, table: str, scratch: Path) -> list[Path]:
    if scheme_of(place.url) not in LOCAL_SCHEMES:
        return fetch(place, reveal(place.url), table, format_of(place), scratch / "fetched")
    location = locate(place.url)
    if not location.exists():
        raise ContractViolation(
            f"{place.url} does not exist: looked for {location.absolute()}. Correct --from; a path is meant from the "
            "folder that one works in."
        )
    return table_files(location, place.url, table, format_of(place))


def _encoding(file: Path) -> str:
    with file.open("rb") as content:
        start = content.read(4)
    if start.startswith(UTF_16):
        return "utf-16"
    for encoding in ENCODINGS[:-1]:
        try:
            _decode(file, encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return ENCODINGS[-1]


def _mixed(file: Path, encoding: str) -> Iterator[str]:
    """What is to be said of a file whose lines are not all in one encoding, as where exports were put together."""
    if encoding == "utf-16":
        return
    lines: dict[bool, list[int]] = {True: [], False: []}
    with _opened(file) as content:
        for number, line in enumerate(content, start=1):
            if not line.isascii():
                lines[_is_utf_8(line)].append(number)
    if lines[True] and lines[False]:
        yield (
            f"but {len(lines[True]):,} of its lines are UTF-8, the first is line {lines[True][0]:,}, and "
            f"{len(lines[False]):,} are not, the first is line {lines[False][0]:,}: two encodings are mixed, and the "
            "letters of the former come out wrong. Write the file again in one encoding"
        )


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _opened(file: Path) -> IO[bytes]:
    import gzip

    return cast("IO[bytes]", gzip.open(file)) if file.suffix == COMPRESSED else file.open("rb")


def _decode(file: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    if file.suffix == COMPRESSED:
        check_gzip(file)
    with _opened(file) as content:
        while part := content.read(CHUNK):
            decoder.decode(part)
        decoder.decode(b"", final=True)


def _shape(file: Path, table: str, scratch: Path) -> Shape:
    """The one way to read it; of several the one that gives the most columns."""
    found: list[Shape] = []
    first: Misshapen | None = None
    for separator in (None, *SEPARATORS):
        try:
            found.append(shape_of(file, separator, None, False, scratch))
        except Misshapen as problem:
            first = first or problem
        if found and separator is None:
            break
    if not found:
        raise ContractViolation(f"table {table}: {file.name} {first}.")
    best = max(found, key=lambda shape: len(shape.names))
    if len(best.names) == 1:
        raise ContractViolation(
            f"table {table}: {file.name} has one column only, {best.names[0][:60]!r}. A project needs what a row is "
            "about, what is predicted and what it is predicted from: is another sign between the fields?"
        )
    return best


def _is_ended(file: Path) -> bool:
    if file.suffix == COMPRESSED:
        return True
    with file.open("rb") as content:
        content.seek(-1, 2)
        return content.read() in (b"\n", b"\r", b"\0")


def _decimal_comma(connection: duckdb.DuckDBPyConnection, columns: list[str], rows: str) -> str | None:
    """A number with a decimal comma, of a column that is made of numbers with one."""
    for _, cells in cells_of(columns, rows):
        are_numbers = f"avg(CAST(regexp_full_match(value, {literal(NUMBER_OR_INTEGER)}) AS INTEGER)) >= {MOSTLY}"
        found = connection.execute(
            f"SELECT max(value) FILTER (regexp_full_match(value, {literal(NUMBER_WITH_COMMA)})) AS example "
            f"FROM {cells} GROUP BY place HAVING {are_numbers} AND example IS NOT NULL ORDER BY place LIMIT 1"
        ).fetchall()
        if found:
            return str(found[0][0])
    return None


def _marks(
    connection: duckdb.DuckDBPyConnection, columns: list[str], rows: str, decimal: str
) -> Mapping[str, Mapping[str, int]]:
    """What stands for a missing value in columns of numbers or times, and in how many cells."""
    define_kinds(connection, decimal)
    marks: dict[str, dict[str, int]] = {}
    is_value = f"kinds_of(value) & {ANY & ~BOOLEAN} <> 0"
    for part, cells in cells_of(columns, rows):
        # However many are missing: what the others are decides.
        found = connection.execute(
            f"SELECT place FROM {cells} GROUP BY place HAVING bool_or(NOT ({is_value})) AND "
            f"bool_and({is_value}) FILTER (lower(trim(value)) NOT IN ({', '.join(map(literal, MARKERS))}))"
        ).fetchall()
        places = ", ".join(str(place) for (place,) in found)
        if places:
            others = connection.execute(
                f"SELECT place, value, count(*) FROM {cells} AND place IN ({places}) AND NOT ({is_value}) "
                "GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
            ).fetchall()
            for place, value, count in others:
                marks.setdefault(part[place], {})[value] = count
    return marks


def main(url: str, part: str, table: str, folder: str) -> None:
    """Print what was found, as JSON; a refusal is the last line of the error."""
    try:
        print(json.dumps(read_table(Place(url, part, table), Path(folder))))
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
