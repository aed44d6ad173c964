"""Feature screening: columns that nothing can be learned from, or too much, and numbers that are kept as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.projects.profile import (
    IDENTIFIER,
    KNOWS_LABEL,
    MOST_CATEGORIES,
    SHOWN,
    Column,
    Profile,
    is_mixed_time,
    is_written_time,
    knows_label,
)

# Of a column with fewer values the smallest part of a split at random, a tenth of the rows, may have none (0.9 ** 60 is
# 0.2%), and a feature without any value in a part is refused.
FEWEST_FILLED = 60
# What a spreadsheet calls the row that sums up the others.
TOTALS = ("total", "totals", "grand total", "sum", "summe", "gesamt", "gesamtsumme", "insgesamt", "somme", "totale")
# Names of columns that hold times.
TIME_NAME = re.compile(r"(^|_)(at|on|date|time|datetime|timestamp|ts|epoch|day|datum|zeit|since|created|updated)($|_)")
# The years 1990 to 2040 as programs count them, in what, and the SQL that makes times of them.
COUNTED_TIMES = (
    (32_874, 51_502, "days of a spreadsheet", "DATE '1899-12-30' + CAST({} AS INTEGER)"),
    (631_152_000, 2_208_988_800, "seconds since 1970", "to_timestamp({})"),
    (631_152_000_000, 2_208_988_800_000, "milliseconds since 1970", "epoch_ms({})"),
)


def texts_of_numbers(profile: Profile, apart: Sequence[Column | None]) -> tuple[str, ...]:
    """What is to be said of numbers that are kept as text, and of the columns that are no features."""
    notes = []
    for column in profile.columns:
        if column.number:
            notes.append(
                f"{column.title} is text because of {column.number.because}: its query makes numbers of it, and leaves "
                "empty what is none"
            )
        if not column.is_text or column in apart or not column.filled:
            continue
        value = quoted(column.title)
        odd = profile.ask(
            f"SELECT {value}, count(*) FROM data WHERE {value} IS NOT NULL AND TRY_CAST({value} AS DOUBLE) IS NULL "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        cells = sum(count for _, count in odd)
        if odd and cells * 5 <= column.filled:
            shown = ", ".join(f"{text!r:.40} ({count:,})" for text, count in odd[:SHOWN])
            notes.append(
                f"{column.title} is text because of {cells:,} of {column.filled:,} values: {shown}. The others are "
                f"numbers. Where these mean a missing value, write TRY_CAST({value} AS DOUBLE) in the table's query"
            )
    return tuple(notes)


def like_spellings(profile: Profile, apart: Sequence[Column | None]) -> Iterator[str]:
    """What is to be said of texts that differ in nothing but capitals and spaces."""
    for column in profile.columns:
        if not column.is_text or column in apart or not 1 < column.different <= MOST_CATEGORIES:
            continue
        value = quoted(column.title)
        alike = profile.ask(
            f"SELECT list(DISTINCT {value} ORDER BY {value}) FROM data WHERE {value} IS NOT NULL "
            f"GROUP BY lower(trim({value})) HAVING count(DISTINCT {value}) > 1 ORDER BY 1"
        )
        if alike:
            shown = "; ".join(" and ".join(map(repr, values)) for (values,) in alike[:SHOWN])
            yield (
                f"{column.title} has {shown}, which a model takes for different values. Where they mean the same, "
                f"write lower(trim({value})) in the table's query"
            )


def totals(profile: Profile, entity: Column) -> Iterator[str]:
    """What is to be said of rows that sum up others, as spreadsheets end with one."""
    names = ", ".join(literal(name) for name in TOTALS)
    value = quoted(entity.title)
    if not entity.is_text:
        return
    for (name,) in profile.ask(f"SELECT {value} FROM data WHERE lower(trim({value}, ' :')) IN ({names}) LIMIT {SHOWN}"):
        yield (
            f"a row has {name!r} for its {entity.title}: where it sums up the others it is nobody. Delete it in the "
            f"source, or leave it out in the table's query with WHERE {value} <> {literal(name)}"
        )


def copies(profile: Profile) -> Iterator[str]:
    """What is to be said of rows that are the same as another in every column."""
    same = profile.rows - profile.ask("SELECT count(*) FROM (SELECT DISTINCT * FROM data)")[0][0]
    if same:
        yield (
            f"{same:,} of {profile.rows:,} rows are the same as another in every column. Where they are copies, begin "
            "the table's query with SELECT DISTINCT: a model would be tested by rows that it was trained on"
        )


def useless(
    profile: Profile, columns: Sequence[Column], event: tuple[Column, str] | None
) -> Iterator[tuple[Column, str]]:
    """Columns that nothing can be learned from, or too much, and why.

    Args:
        profile: The table.
        columns: Those that would be features.
        event: The label, and SQL that is true where it means the event; None where rows are events.
    """
    for column in columns:
        why = _why_useless(profile, column) or counted_time(column)
        if why is None and event is not None:
            label, is_event = event
            filled = round(column.filled * label.filled / profile.rows)
            if filled < min(FEWEST_FILLED, label.filled / 2):
                why = f"only some {filled:,} of {label.filled:,} rows have a value: a part of the split could have none"
        if why is None and event is not None:
            area = knows_label(profile, column, is_event)
            if area >= KNOWS_LABEL:
                why = (
                    f"it knows {label.title} (ROC AUC {area:.3f} alone): is it written after the event? A leak makes a "
                    "model look good and be useless; take it out of here only if it is known before"
                )
        if why:
            yield column, why


def counted_time(column: Column) -> str | None:
    """Why a number is left out that says when: a model that splits on it learns nothing of later times."""
    if not (column.is_number and column.filled and TIME_NAME.search(column.name)):
        return None
    for least, most, what, sql in COUNTED_TIMES:
        if least <= column.least and column.most <= most:
            return (
                f"it is a date, in {what}, and a model learns nothing of later ones from it. Where it says when a row "
                f"happened, write {sql.format(quoted(column.title))} in the table's query"
            )
    return None


def _why_useless(profile: Profile, column: Column) -> str | None:
    rows = profile.rows
    reasons = (
        (not column.filled, "it is empty"),
        (column.different == 1 and column.filled == rows, "it is the same in every row"),
        (
            column.is_time or is_written_time(profile, column),
            "it is a date, and a model learns nothing of later ones from it",
        ),
        (
            column.is_integer and column.different == rows and IDENTIFIER.search(column.name) is not None,
            "it is another in every row, and its name is that of a key",
        ),
        (
            not (column.is_number or column.is_text or column.kind == "BOOLEAN"),
            f"it is {column.kind}, which is neither a number nor text",
        ),
        (column.is_numbering and column.filled == rows, "it numbers the rows"),
        (
            column.is_text and column.different > SHOWN and is_mixed_time(profile, column),
            "it is a date, written in several forms",
        ),
        (column.is_text and column.different == column.filled > SHOWN, "its values all differ"),
        (
            column.is_text and column.different > MOST_CATEGORIES,
            f"it is text with {column.different:,} different values",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)
