"""Data profiling: what each column of a table is like, and what stands against an answer about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import columns_of
from kfp_lifecycle.projects.written_numbers import WrittenNumber, written_number

# `days_as_customer` and `orders_per_user` name nobody.
IDENTIFIER = re.compile(
    r"(?<!_as)(?<!_per)(?<!_of)(^|_)(id|key|uuid|nr|no|number|nummer|code|customer|client|user|member|patient|kunde)$|^id_"
)
NUMBER = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|DECIMAL\(.*\)")
TIMES = ("TIMESTAMP", "DATE")
SHOWN, LOOKED_AT = 3, 2000
MOST_VALUES = 20
# Text with more values than this says who somebody is rather than what they are like.
MOST_CATEGORIES = 250
# From this ROC AUC on a single column knows the label.
KNOWS_LABEL = 0.99
LONGEST_NAME = 60
# Names that training sets, logs and requests have for something else.
TAKEN = ("event_timestamp", "request_time", "score", "decision")
# As German writes them where it has to do without.
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "AE", "Ö": "OE", "Ü": "UE"})
DAYS = (
    # As SQLite and JSON keep times: text.
    "%Y-%m-%d",
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", "T%H:%M:%S")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    """Its name in the source."""
    name: str
    """Its name in the project."""
    kind: str
    """DuckDB's type."""
    filled: int
    """Rows with a value."""
    different: int
    """How many values there are."""
    values: tuple[tuple[str, int], ...]
    """The most frequent ones as text, and how many rows have each; of a column with few of them all."""
    least: Any
    """The smallest value, of numbers and times."""
    most: Any
    number: WrittenNumber | None = None
    """Of text that is meant as numbers: how these are written."""

    @property
    def sql(self) -> str:
        """SQL of its value in the source's table."""
        return self.number.sql if self.number else quoted(self.title)

    @property
    def is_number(self) -> bool:
        return NUMBER.fullmatch(self.kind) is not None

    @property
    def is_integer(self) -> bool:
        return self.is_number and self.kind.endswith(("INT", "INTEGER"))

    @property
    def is_numbering(self) -> bool:
        """Whether it is a number for each row without a gap, as programs add one to a table."""
        return self.is_integer and self.filled > 1 and self.different == self.filled == self.most - self.least + 1

    @property
    def is_time(self) -> bool:
        return self.kind.startswith(TIMES)

    @property
    def is_text(self) -> bool:
        return self.kind in ("VARCHAR", "UUID")


@dataclass(frozen=True)
class Profile:
    """A table."""

    connection: duckdb.DuckDBPyConnection
    rows: int
    columns: tuple[Column, ...]

    def find(self, name: str) -> Column | None:
        """A column by its name in the source or in the project."""
        return next((each for each in self.columns if name in (each.title, each.title.strip(), each.name)), None)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask DuckDB about the table, which SQL knows as `data`."""
        return self.connection.execute(sql).fetchall()


def profile_of(file: Path) -> Profile:
    """Look at a table in a Parquet file."""
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE data AS SELECT * FROM read_parquet({literal(str(file))})")
    kinds = columns_of(connection, "SELECT * FROM data")
    names = plain_names(kinds)
    bare = Profile(connection, 0, ())
    rows = bare.ask("SELECT count(*) FROM data")[0][0]
    columns = []
    for title, kind in kinds.items():
        value = quoted(title)
        number = written_number(connection, title) if kind == "VARCHAR" else None
        if number:
            connection.execute(f"ALTER TABLE data ALTER {value} TYPE DOUBLE USING {number.sql}")
        text = f"CAST({value} AS VARCHAR)"
        is_ordered = number is not None or NUMBER.fullmatch(kind) or kind.startswith(TIMES)
        ends = f"min({value}), max({value})" if is_ordered else "NULL, NULL"
        filled, different, least, most = bare.ask(f"SELECT count({value}), count(DISTINCT {text}), {ends} FROM data")[0]
        values = bare.ask(
            f"SELECT {text}, count(*) FROM data WHERE {value} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 "
            f"LIMIT {MOST_VALUES}"
        )
        held = "DOUBLE" if number else kind
        columns.append(Column(title, names[title], held, filled, different, tuple(values), least, most, number))
    return Profile(connection, rows, tuple(columns))


def plain_names(titles: Iterable[str]) -> dict[str, str]:
    """A name that every part of a project takes for each column's own: small letters, digits, underscores.

    What is written in another script is transliterated: `年龄` becomes `nian_ling`.
    """
    names: dict[str, str] = {}
    for title in titles:
        spelled = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _in_latin(title)).lower()
        name = re.sub(r"[^a-z0-9]+", "_", spelled).strip("_")[:LONGEST_NAME].strip("_") or "column"
        name = name if name[0].isalpha() else f"c_{name}"
        name = f"{name}_value" if name in TAKEN else name
        number, free = 2, name
        while free in names.values():
            free, number = f"{name[: LONGEST_NAME - 4]}_{number}", number + 1
        names[title] = free
    return names


def _in_latin(title: str) -> str:
    """A title in the letters of ASCII, as far as there are any for it."""
    if title.isascii():
        return title
    # It is of the command line's environment; steps are told the names.
    from anyascii import anyascii

    composed = re.sub("['`’]", " ", unicodedata.normalize("NFC", title))
    latin: str = anyascii(re.sub("(?<=[A-ZÄÖÜ])ß", "SS", composed).translate(UMLAUTS))
    # What is transliterated has quotes for letters that have no sign in Latin.
    return re.sub("['`\"]", "", latin)


def time_formats(profile: Profile, column: Column, most: int | None = None) -> list[tuple[str, int]]:
    """Formats of a text column's times, and how many of its values each cannot read; the likeliest first.

    Args:
        profile: The table.
        column: One of text.
        most: How many values to look at; by default all.
    """
    formats = [f"{day}{clock}" for day in DAYS for clock in CLOCKS]
    # DuckDB reads 25 as the year 25 where a year of four digits is asked for.
    failing = ", ".join(
        f"count(*) FILTER (coalesce(year(try_strptime(value, {literal(form)})), 0) < 1000)" for form in formats
    )
    limit = f"LIMIT {most}" if most else ""
    value = quoted(column.title)
    counts = profile.ask(
        f"SELECT {failing} FROM (SELECT {value} AS value FROM data WHERE {value} IS NOT NULL {limit})"
    )[0]
    return sorted(zip(formats, counts, strict=True), key=lambda each: each[1])


def is_written_time(profile: Profile, column: Column) -> bool:
    """Whether a column's texts are times in one format, as far as was looked."""
    return is_mixed_time(profile, column) and time_formats(profile, column, LOOKED_AT)[0][1] == 0


def is_mixed_time(profile: Profile, column: Column) -> bool:
    """Whether a column's texts are times, each in one of the formats, as far as was looked."""
    # Each format takes its time, and few columns are of texts with digits, or go on as they begin.
    if not (column.is_text and column.filled and all(re.search(r"\d", value) for value, _ in column.values)):
        return False
    # The first that reads a value counts, and one of four digits reads 25 as the year 25.
    days = sorted(DAYS, key=lambda day: "%y" not in day)
    formats = ", ".join(literal(f"{day}{clock}") for day in days for clock in CLOCKS)
    value = quoted(column.title)
    return all(
        profile.ask(
            f"SELECT bool_and(coalesce(year(try_strptime(value, [{formats}])), 0) >= 1000) "
            f"FROM (SELECT {value} AS value FROM data WHERE {value} IS NOT NULL LIMIT {most})"
        )[0][0]
        for most in (MOST_VALUES, LOOKED_AT)
    )


def unreadable(profile: Profile, column: Column, form: str) -> list[tuple[int, str]]:
    """Some values of a text column that are no times of a format, and their rows."""
    value = quoted(column.title)
    return [
        (number, text)
        for number, text in profile.ask(
            f"SELECT number, {value} FROM (SELECT row_number() OVER () AS number, {value} FROM data) "
            f"WHERE {value} IS NOT NULL AND try_strptime({value}, {literal(form)}) IS NULL ORDER BY 1 LIMIT {SHOWN}"
        )
    ]


def repeated(profile: Profile, column: Column) -> tuple[int, list[str]]:
    """How many values of a column are in more than one row, and some of them."""
    value = quoted(column.title)
    found = profile.ask(
        f"SELECT CAST({value} AS VARCHAR), count(*) OVER () FROM data WHERE {value} IS NOT NULL GROUP BY {value} "
        f"HAVING count(*) > 1 ORDER BY count(*) DESC, 1 LIMIT {SHOWN}"
    )
    return (found[0][1] if found else 0), [value for value, _ in found]


def knows_label(profile: Profile, column: Column, event: str) -> float:
    """The ROC AUC with which a column alone ranks the event, 0.5 to 1; that of its missing values, if that is more.

    Numbers rank as they are, and text by the share of events with each value, where every value has many rows.

    Args:
        event: SQL that is true where the event came.
    """
    if column.is_number or column.is_time or column.kind == "BOOLEAN":
        rank = "CAST(value AS DOUBLE)" if not column.is_time else "epoch(CAST(value AS TIMESTAMP))"
    elif column.different * 20 <= profile.rows:
        rank = "events / (events + others)"
    else:
        rank = "NULL"
    best = 0.5
    for score in (rank, *(["CAST(value IS NULL AS INTEGER)"] if column.filled < profile.rows else [])):
        # Of each event, the rows without one that rank below it, and half of those that rank the same.
        found = profile.ask(
            f"WITH cells AS (SELECT {quoted(column.title)} AS value, count(*) FILTER ({event}) AS events, "
            f"count(*) FILTER (NOT ({event})) AS others FROM data GROUP BY 1), "
            f"scores AS (SELECT CAST({score} AS DOUBLE) AS score, sum(events) AS n, sum(others) AS m FROM cells "
            "GROUP BY 1 HAVING score IS NOT NULL AND NOT isnan(score)), "
            "ranked AS (SELECT n, m, coalesce(sum(m) OVER (ORDER BY score ROWS BETWEEN UNBOUNDED PRECEDING AND 1 "
            "PRECEDING), 0) AS below FROM scores) "
            "SELECT sum(n * (below + m / 2)) / nullif(sum(n) * sum(m), 0), sum(n) + sum(m) FROM ranked"
        )
        # A ranking of a few rows says nothing of the others.
        if found and found[0][0] is not None and found[0][1] * 2 >= profile.rows:
            best = max(best, found[0][0], 1 - found[0][0])
    return float(best)
