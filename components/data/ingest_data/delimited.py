"""CSV text, typed by rule: a column is a number or a time only if every one of its values is one and stays what it was.

Where the project has a schema of the table, its types hold, and a value that is of another is refused.
"""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from kfp_lifecycle.components.data.ingest_data.delimited_shape import Misshapen, Shape, shape_of, utf_8_copy
from kfp_lifecycle.components.data.ingest_data.kinds import (
    ANY,
    BOOLEAN,
    MARKS,
    NOT_AMBIGUOUS,
    NOT_PROVEN,
    NUMBER,
    TYPES,
    define_kinds,
    type_of,
)
from kfp_lifecycle.components.data.ingest_data.names import check_names_differ, in_small_letters
from kfp_lifecycle.config.data import Connection
from kfp_lifecycle.data.checks import shown_value
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.runtime.contract import ContractViolation

# DuckDB holds thousands of values of each column that is read at once: beyond so many it would take more memory than a
# step has, and its kinds are found a part of the columns at a time.
MOST_COLUMNS = 4000
COLUMNS_AT_ONCE = 500
EXAMPLES = 3
# What people write where a value is missing, in small letters and without blanks around it.
MARKERS = ("", "na", "n/a", "#n/a", "null", "none", "nil", "-", "--", "?", ".", "missing", "unknown", "not available")
# A column of so many numbers or times among its values is meant to be one of them.
MOSTLY = 0.8
# What a first column without a name is called: pandas and R write the names of rows so.
ROW_NAME = "row_name"
# Lines of names, units and remarks that exports put above a table.
MOST_HEADERS = 3


@dataclass(frozen=True)
class Expected:
    """A table by its schema."""

    kinds: dict[str, int]
    """What a column's values may be, in bits; ANY for text."""
    required: frozenset[str]
    """Columns that must be there."""
    fewest_rows: int | None
    most_rows: int | None


@dataclass(frozen=True)
class CsvTable:
    """A table in CSV files, as its configuration and its schema describe it."""

    name: str
    expected: Expected | None
    """What the project's schema says; None without one."""
    key: Sequence[str]
    """Columns whose different values have to stay different."""
    whole: bool
    """Whether every column is to be read. A query that takes some of them may do so of any number."""


def select_delimited(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], place: Connection, table: CsvTable, scratch: Path
) -> str:
    """SQL of a CSV table's rows, typed.

    Args:
        connection: May read the files.
        files: With the same columns, in the same order, each under a header.
        place: How they are read.
        table: What is to become of them.
        scratch: Folder for copies that are easier to read.

    Raises:
        ContractViolation: a file cannot be read in one way only, has no header, one that repeats a name, more columns
            than can be read, or others than the first or the schema say, or a value is of another kind than the schema
            says.
    """
    shapes = [_shape(file, place, table, scratch) for file in files]
    header, dialect = shapes[0].names, shapes[0].dialect
    for file, shape in zip(files[1:], shapes[1:], strict=True):
        if shape.names != header:
            raise ContractViolation(
                f"table {table.name}: {file.name} has other columns than {files[0].name}: "
                f"{', '.join(shape.names)[:200]}. Write all files of a table with the same columns, in the same order."
            )
        if shape.dialect != dialect:
            raise ContractViolation(
                f"table {table.name}: {file.name} is divided by {shape.dialect.delimiter!r}, and {files[0].name} by "
                f"{dialect.delimiter!r}. Write all files of a table alike."
            )
    first = files[0].name
    columns = _columns(header, first, table)
    rows = text_of(columns, [shape.file for shape in shapes], dialect.delimiter, place.missing)
    if not columns[-1].strip("_"):
        _check_empty(connection, columns[-1], rows, first, table.name)
        columns = columns[:-1]
    if table.whole and len(columns) > MOST_COLUMNS:
        raise ContractViolation(
            f"table {table.name}: {first} has {len(columns):,} columns, more than the {MOST_COLUMNS:,} that are "
            "read. If rows and columns changed places, write it the other way round; else name the columns that "
            f"features need in source.tables.{table.name}.query: SELECT … FROM source."
        )
    if table.expected is not None:
        _check_names(columns, table.expected, first, table.name)
    define_kinds(connection, place.decimal)
    kinds = _kinds(connection, columns, rows)
    _check_count(connection, rows, sum(shape.rows for shape in shapes), table.name)
    if table.expected is None:
        _check_header_is_one_line(connection, kinds, rows, first, table.name)
        texts = _meant(connection, kinds, rows)
        _check_no_markers(connection, texts, rows, first, table.name)
        if place.decimal == "." and dialect.separator != ",":
            _check_no_decimal_comma(texts, first, table.name)
    for column, found in kinds.items():
        if table.expected is not None:
            allowed = table.expected.kinds[column]
            kinds[column] = _kind_by_schema(connection, column, found, allowed, rows, first, table.name)
        elif not found & NOT_AMBIGUOUS and found & NOT_PROVEN:
            kinds[column] = found & ~NUMBER
        if column in table.key:
            kinds[column] = _key_kind(connection, column, kinds[column], rows, first, table, place.decimal)
    typed = ", ".join(_typed(column, kind, place.decimal) for column, kind in kinds.items())
    return f"SELECT {typed} FROM {rows}"


def text_of(columns: Sequence[str], files: Sequence[Path], delimiter: str = ",", missing: Sequence[str] = ()) -> str:
    """SQL of CSV files with every cell as its text; an empty one, and one of those that are `missing`, is NULL."""
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
    names = ", ".join(literal(str(file)) for file in files)
    nothing = ", ".join(literal(each) for each in ("", *missing))
    return (
        f"read_csv([{names}], columns = {{{types}}}, auto_detect = false, header = true, delim = {literal(delimiter)}, "
        f"nullstr = [{nothing}], quote = '\"', escape = '\"', skip = 0, strict_mode = true, null_padding = false, "
        "ignore_errors = false, encoding = 'utf-8', max_line_size = 16777216, hive_partitioning = false)"
    )


def cells_of(columns: Sequence[str], rows: str) -> Iterator[tuple[Sequence[str], str]]:
    """Some columns at a time, and SQL of their filled cells: `value`, and `place`, which of these columns it is of.

    Cells under each other rather than an expression for each column: planning a thousand of those takes seconds. And
    not a query for each column, which would parse the whole file.
    """
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        part = columns[start : start + COLUMNS_AT_ONCE]
        yield (
            part,
            f"(SELECT unnest([{', '.join(map(quoted, part))}]) AS value, unnest(range({len(part)})) AS place "
            f"FROM {rows}) WHERE value IS NOT NULL",
        )


def _shape(file: Path, place: Connection, table: CsvTable, scratch: Path) -> Shape:
    wanted = list(table.expected.kinds) if table.expected else None
    try:
        if codecs.lookup(place.encoding) != codecs.lookup("utf-8"):
            file = utf_8_copy(file, place.encoding, scratch)
        return shape_of(file, place.separator, wanted, not place.last_line_may_be_open, scratch)
    except Misshapen as problem:
        raise ContractViolation(f"table {table.name}: {file.name} {problem}.") from None
    except UnicodeError as error:
        raise ContractViolation(
            f"table {table.name}: {file.name} is no text in {place.encoding}, as source.encoding says: {error}. "
            "Correct the setting, or write the file again as UTF-8."
        ) from None
    except (EOFError, OSError, zlib.error) as error:
        raise ContractViolation(
            f"table {table.name}: {file.name} is damaged or was cut off: {error}. Write it again to its end."
        ) from error


def _columns(header: Sequence[str], file: str, table: CsvTable) -> list[str]:
    """Names for the columns of a header; `ROW_NAME` where the first has none, and of underscores where the last has."""
    names = list(header)
    if len(names) > 1 and not names[0]:
        names[0] = ROW_NAME
    unnamed = next((place for place, name in enumerate(names) if not name), None)
    if (unnamed is not None and unnamed < len(names) - 1) or names == [""]:
        raise ContractViolation(
            f"table {table.name}: {file} has a column without a name in its header, {', '.join(header)[:60]!r}. Give "
            "each column a name of its own; where that is a title, delete what stands above the header."
        )
    if table.expected is None or not set(names) <= set(table.expected.kinds):
        names = in_small_letters(names)
    check_names_differ(names, f"table {table.name}: {file}")
    numbers = [name for name in names if name and name.replace(".", "").replace("-", "").isdigit()]
    if numbers and table.expected is None:
        raise ContractViolation(
            f"table {table.name}: {file} has {numbers[0]!r} for the name of a column: is its first line a row? Write a "
            "header with a name for each column."
        )
    if not names[-1]:
        names[-1] = "_" * (1 + max(len(name) for name in names))
    return names


def _check_empty(connection: duckdb.DuckDBPyConnection, column: str, rows: str, file: str, table: str) -> None:
    """Refuse a last column without a name that holds something: where all rows end with a separator it is empty."""
    filled = connection.execute(f"SELECT count({quoted(column)}) FROM {rows}").fetchall()[0][0]
    if filled:
        raise ContractViolation(
            f"table {table}: {file} has a column without a name in its header, with values in {filled:,} rows. Give "
            "each column a name of its own."
        )


def _check_header_is_one_line(
    connection: duckdb.DuckDBPyConnection, kinds: dict[str, int], rows: str, file: str, table: str
) -> None:
    """Refuse a second line of names or units: words in every cell, above a column of nothing but numbers or times."""
    texts = [column for column, found in kinds.items() if not found & ANY]
    if not texts:
        return
    names = ", ".join(map(quoted, kinds))
    leading = connection.execute(f"SELECT {names} FROM {rows} LIMIT {MOST_HEADERS}").fetchall()
    for count, row in enumerate(leading, start=1):
        [(has_values,)] = connection.execute(
            f"SELECT bool_or(kinds_of(value) & {ANY} <> 0) FROM (SELECT unnest(CAST(? AS VARCHAR[])) AS value)",
            [list(row)],
        ).fetchall()
        if has_values:
            return
        asked = ", ".join(
            f"bit_and(kinds_of({quoted(column)})) & {ANY & ~BOOLEAN}, count({quoted(column)})" for column in texts
        )
        answer = connection.execute(
            f"SELECT {asked} FROM (SELECT *, row_number() OVER () AS {quoted('row number')} FROM {rows}) "
            f"WHERE {quoted('row number')} > {count}"
        ).fetchall()[0]
        for column, bits, values in zip(texts, answer[::2], answer[1::2], strict=True):
            if bits and values > 1:
                where = "its first row" if count == 1 else f"its first {count} rows"
                raise ContractViolation(
                    f"table {table}: {file} has words in every cell of {where}, and below them nothing but numbers or "
                    f"times in the column {column}: is the header more than one line? Write one, or describe the table "
                    f"in {table}.pbtxt."
                )


@dataclass(frozen=True)
class _Meant:
    """What the values of a text column look like."""

    column: str
    values: float
    """0 to 1: the share of numbers and times, marks of missing values apart."""
    with_comma: float
    """0 to 1: the share of numbers, where a comma may divide them."""
    example: str | None
    """One with a comma."""


def _meant(connection: duckdb.DuckDBPyConnection, kinds: dict[str, int], rows: str) -> list[_Meant]:
    """The text columns that have values."""
    texts = [column for column, kind in kinds.items() if not kind & ANY]
    found = []
    for part, cells in cells_of(texts, rows):
        answers = connection.execute(
            f"SELECT place, coalesce(avg(CAST(kinds_of(value) & {ANY & ~BOOLEAN} <> 0 AS INTEGER)) "
            f"FILTER (lower(trim(value)) NOT IN ({', '.join(map(literal, MARKERS))})), 0), "
            r"avg(CAST(regexp_full_match(value, '-?(0|[1-9]\d*)(,\d+)?') AS INTEGER)), "
            f"max(value) FILTER (WHERE contains(value, ',')) FROM {cells} GROUP BY place ORDER BY place"
        ).fetchall()
        found += [_Meant(part[place], *answer) for place, *answer in answers]
    return found


def _check_no_markers(
    connection: duckdb.DuckDBPyConnection, texts: Sequence[_Meant], rows: str, file: str, table: str
) -> None:
    """Refuse a column of numbers or times that a few marks of missing values would make a text of."""
    for column in [each.column for each in texts if each.values >= MOSTLY]:
        value = quoted(column)
        others = connection.execute(
            f"SELECT {value}, count(*) FROM {rows} WHERE kinds_of({value}) & {ANY} = 0 GROUP BY 1 "
            f"ORDER BY 2 DESC, 1 LIMIT {len(MARKERS) + 1}"
        ).fetchall()
        if others and all(text.strip().lower() in MARKERS for text, _ in others):
            cells = sum(count for _, count in others)
            marks = [text for text, _ in others]
            raise ContractViolation(
                f"table {table}: {file} has {' or '.join(map(repr, marks))} in {cells:,} cells of the column {column}, "
                "whose other values are numbers or times: it would be read as text. Where that means a missing value, "
                f"say so with source.missing: {json.dumps(marks, ensure_ascii=False)} in pipeline.yaml, or leave the "
                f"cells empty; where the column is text, describe the table in {table}.pbtxt."
            )


def _check_no_decimal_comma(texts: Sequence[_Meant], file: str, table: str) -> None:
    """Refuse a column of numbers whose decimal commas would make a text of it."""
    for each in texts:
        if each.example is not None and each.with_comma >= MOSTLY:
            raise ContractViolation(
                f"table {table}: {file} has numbers with a decimal comma, such as {each.example!r}, in the column "
                f'{each.column}: it would be read as text. Say so with source.decimal: "," in pipeline.yaml; where the '
                f"column is text, describe the table in {table}.pbtxt."
            )


def _check_count(connection: duckdb.DuckDBPyConnection, rows: str, expected: int, table: str) -> None:
    found = connection.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0]
    if found != expected:
        raise ContractViolation(
            f"table {table}: {expected:,} rows by their line ends, and {found:,} by the parser, which disagree on what "
            "its quotes are. Write plain CSV, with quotes around fields that hold one."
        )


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


def _kinds(connection: duckdb.DuckDBPyConnection, header: Sequence[str], rows: str) -> dict[str, int]:
    # A column without any value may be anything.
    kinds = dict.fromkeys(header, ANY | MARKS)
    for part, cells in cells_of(header, rows):
        found = connection.execute(f"SELECT place, bit_and(kinds_of(value)) FROM {cells} GROUP BY place").fetchall()
        kinds |= {part[place]: bits for place, bits in found}
    return kinds


def _kind_by_schema(
    connection: duckdb.DuckDBPyConnection, column: str, kinds: int, allowed: int, rows: str, file: str, table: str
) -> int:
    if allowed == ANY:
        return 0
    fits = kinds & allowed
    if not fits:
        name = quoted(column)
        others = connection.execute(
            f"SELECT number, value FROM (SELECT row_number() OVER () AS number, {name} AS value FROM {rows}) "
            f"WHERE value IS NOT NULL AND (kinds_of(value) & {allowed}) = 0 ORDER BY number LIMIT {EXAMPLES}"
        ).fetchall()
        wanted = " or ".join(kind for bit, kind in TYPES.items() if bit & allowed)
        examples = ", ".join(shown_value(value) for _, value in others)
        at = f" (row {', '.join(f'{number:,}' for number, _ in others)})" if others else ""
        raise ContractViolation(
            f"table {table}: {file} holds {examples or 'times with a zone and times without'} in the column {column}, "
            f"which is {wanted} by the schema {table}.pbtxt{at}. Write plain numbers that its type keeps and ISO 8601 "
            "times, or correct the schema."
        )
    return fits


def _key_kind(
    connection: duckdb.DuckDBPyConnection, column: str, kind: int, rows: str, file: str, table: CsvTable, decimal: str
) -> int:
    """The kind of a key, whose different texts have to stay different: 1.10 and 1.1 are one number."""
    sql = type_of(kind)
    if sql in (None, "BIGINT"):
        return kind
    name = quoted(column)
    same = connection.execute(
        f"SELECT list(DISTINCT {name} ORDER BY {name}) FROM {rows} WHERE {name} IS NOT NULL "
        f"GROUP BY {_cast(name, sql, decimal)} HAVING count(DISTINCT {name}) > 1 LIMIT 1"
    ).fetchall()
    if not same:
        return kind
    if table.expected is None:
        return 0
    raise ContractViolation(
        f"table {table.name}: {file} has {' and '.join(map(repr, same[0][0][:2]))} in its key {column}, which are the "
        f"same {sql}. Write each in one way, or make the column text in the schema {table.name}.pbtxt."
    )


def _typed(column: str, kind: int, decimal: str) -> str:
    name, sql = quoted(column), type_of(kind)
    return f"{_cast(name, sql, decimal)} AS {name}" if sql else name


def _cast(value: str, sql: str, decimal: str) -> str:
    """SQL of a text as a value of its type."""
    text = f"replace({value}, ',', '.')" if sql == "DOUBLE" and decimal == "," else value
    return f"CAST({text} AS {sql})"
