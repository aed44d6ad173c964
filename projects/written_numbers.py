"""Numbers that are kept as text: how a column writes them, and the SQL that makes numbers of them again.

A currency or a percent sign, a unit, commas between thousands, more digits than a number keeps, or a few marks of
missing values make a text of a whole column, which a model would take for names. What begins with a zero, and a letter
beside a digit, are signs of codes: they stay text.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from kfp_lifecycle.components.data.ingest_data.delimited import MARKERS
from kfp_lifecycle.data.sql import literal, quoted

CURRENCY = "[$€£¥₹]"
BEFORE = f"{CURRENCY}? ?"
# A unit stands apart: 10A and 5th are no amounts.
AFTER = " ?[%$€£¥₹]| [A-Za-z]{1,10}|"
WHOLE = r"(?:0|[1-9]\d*)"
PLAIN = rf"-?(?:{WHOLE}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
SPACES = " \u00a0\u202f'"
# What divides thousands, and what a fraction begins with, in the order in which they are tried.
NOTATIONS = ((",", "."), (".", ","), *((space, point) for space in SPACES for point in ",."))
# Fewer numbers than this beside marks of missing values say nothing of a column.
FEWEST_NUMBERS = 10


@dataclass(frozen=True)
class WrittenNumber:
    """How a text column writes numbers."""

    sql: str
    """SQL of the number in the source's table."""
    because: str
    """What made a text of it."""


def written_number(connection: duckdb.DuckDBPyConnection, title: str) -> WrittenNumber | None:
    """How a text column of the table `data` writes numbers; None where it is text."""
    value = quoted(title)
    is_mark = f"lower(trim({value})) IN ({', '.join(map(literal, MARKERS))})"
    # Spaces around a number are how a column was laid out.
    meant = f"(SELECT trim({value}) AS value FROM data WHERE NOT {is_mark})"
    marks, filled, example = connection.execute(
        f"SELECT count(*) FILTER ({is_mark}), count({value}), max({value}) FILTER (NOT {is_mark}) FROM data"
    ).fetchall()[0]
    if example is None or filled - marks < FEWEST_NUMBERS:
        return None
    because = f"{marks:,} cells with a mark of a missing value" if marks else f"how it is written, such as {example!r}"
    whole, fractions = connection.execute(
        f"SELECT bool_and(regexp_full_match(value, {literal(PLAIN)})), bool_or(contains(value, '.')) FROM {meant}"
    ).fetchall()[0]
    if whole:
        # Text of whole numbers alone is a code, or longer than a number.
        return WrittenNumber(f"TRY_CAST({value} AS DOUBLE)", because) if marks or fractions else None
    some = literal(f"{BEFORE}-?[0-9][0-9.,{SPACES}]*(?:{AFTER})")
    if not connection.execute(f"SELECT bool_and(regexp_full_match(value, {some})) FROM {meant}").fetchall()[0][0]:
        return None
    for thousands, point in NOTATIONS:
        number = rf"-?(?:[1-9]\d{{0,2}}(?:[{thousands}]\d{{3}})+|{WHOLE})(?:[{point}]\d+)?"
        pattern = literal(f"({BEFORE}){number}({AFTER})")
        around = f"regexp_extract(value, {pattern}, ['before', 'after'])"
        fits, several, sides = connection.execute(
            f"SELECT bool_and(regexp_full_match(value, {pattern})), count(DISTINCT {around}) > 1, any_value({around}) "
            f"FROM {meant}"
        ).fetchall()[0]
        if fits and not several:
            signs = "".join(dict.fromkeys(f" {sides['before']}{sides['after']}"))
            bare = f"replace(trim({value}, {literal(signs)}), {literal(thousands)}, '')"
            bare = bare if point == "." else f"replace({bare}, {literal(point)}, '.')"
            return WrittenNumber(f"TRY_CAST({bare} AS DOUBLE)", because)
    return None
