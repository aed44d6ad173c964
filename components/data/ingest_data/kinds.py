"""Kinds of text values, in bits: what a text can be as a value, as the SQL macro `kinds_of`.

DuckDB's own detection reads 01-02-2025 as the first of February, 007 as 7 and 12E4 as 120000. Here only ISO 8601 is a
time, a number has no leading zeros and no more digits than are kept, and what is neither stays the text that it was.
"""

from __future__ import annotations

import duckdb

# Bits for what a value can be. A column is the first of TYPES whose bit all its values share; else VARCHAR.
INTEGER, NUMBER, BOOLEAN, DATE, TIME, ZONED_TIME = (1 << place for place in range(6))
TYPES = {
    INTEGER: "BIGINT",
    NUMBER: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    DATE: "DATE",
    TIME: "TIMESTAMP",
    ZONED_TIME: "TIMESTAMP WITH TIME ZONE",
}
ANY = sum(TYPES)
# 12E4 is a number, or the name of something. It is a number where another value of its column can be nothing else. Both
# bits are of what no value is, since bits of a column are those that all its values have.
NOT_AMBIGUOUS, NOT_PROVEN = 1 << 6, 1 << 7
MARKS = NOT_AMBIGUOUS | NOT_PROVEN
_CLOCK = r"[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_DAY = r"\d{4}-\d{2}-\d{2}"
# The digits of a number without sign, point, exponent and zeros at either end.
_DIGITS = "trim(replace(replace(split_part(lower({value}), 'e', 1), '.', ''), '-', ''), '0')"
# What is kept of any decimal number in a DOUBLE; with more digits it depends on which.
DOUBLE_DIGITS = 15
MACROS = (
    # Whether a DOUBLE gives a decimal number back: the shortest text of it has the same digits. The usual cases first.
    rf"""
    CREATE OR REPLACE TEMP MACRO stays_itself(value) AS CASE
        WHEN length(value) <= {DOUBLE_DIGITS} AND NOT contains(lower(value), 'e')
            THEN TRY_CAST(value AS DOUBLE) IS NOT NULL
        WHEN CAST(TRY_CAST(value AS DOUBLE) AS VARCHAR) = value THEN NOT isinf(TRY_CAST(value AS DOUBLE))
        WHEN TRY_CAST(value AS DOUBLE) IS NULL OR isinf(TRY_CAST(value AS DOUBLE)) THEN false
        WHEN length({_DIGITS.format(value="value")}) <= {DOUBLE_DIGITS} AND abs(TRY_CAST(value AS DOUBLE)) > 1e-300
            THEN true
        ELSE {_DIGITS.format(value="value")} = {_DIGITS.format(value="CAST(TRY_CAST(value AS DOUBLE) AS VARCHAR)")} END
    """,
    # An integer that BIGINT cannot hold is an identifier, and stays text rather than lose digits; one that DOUBLE
    # cannot hold is no number among fractions. What begins with a letter is told apart without a pattern.
    rf"""
    CREATE OR REPLACE TEMP MACRO kinds_with_point(value) AS CASE
        WHEN value IS NULL THEN NULL
        WHEN ascii(value) > {ord("9")} THEN CASE lower(value)
            WHEN 'true' THEN {BOOLEAN | MARKS}
            WHEN 'false' THEN {BOOLEAN | MARKS}
            WHEN 'nan' THEN {NUMBER | NOT_AMBIGUOUS}
            WHEN 'inf' THEN {NUMBER | NOT_AMBIGUOUS}
            WHEN 'infinity' THEN {NUMBER | NOT_AMBIGUOUS}
            ELSE {MARKS} END
        WHEN value[5] = '-' AND value[8] = '-' THEN CASE
            WHEN regexp_full_match(value, '{_DAY}') AND year(TRY_CAST(value AS DATE)) BETWEEN 1 AND 9999
                THEN {DATE | TIME | MARKS}
            WHEN regexp_full_match(value, '{_DAY}{_CLOCK}') AND year(TRY_CAST(value AS TIMESTAMP)) BETWEEN 1 AND 9999
                THEN {TIME | MARKS}
            WHEN regexp_full_match(value, '{_DAY}{_CLOCK} ?(Z|UTC|[-+]\d{{2}}(:?\d{{2}})?)')
                AND year(timezone('UTC', TRY_CAST(value AS TIMESTAMPTZ))) BETWEEN 1 AND 9999
                THEN {ZONED_TIME | MARKS}
            ELSE {MARKS} END
        WHEN regexp_full_match(value, '0|-?[1-9]\d*')
            THEN CASE WHEN TRY_CAST(value AS BIGINT) IS NULL THEN {MARKS}
                WHEN length(value) <= {DOUBLE_DIGITS} OR stays_itself(value) THEN {INTEGER | NUMBER | MARKS}
                ELSE {INTEGER | MARKS} END
        WHEN regexp_full_match(value, '-?(0|[1-9]\d*)?(\.\d+)?([eE][-+]?\d+)?') AND stays_itself(value)
            THEN CASE WHEN regexp_full_match(value, '-?\d+[eE]\d+') THEN {NUMBER | NOT_PROVEN}
                ELSE {NUMBER | NOT_AMBIGUOUS} END
        WHEN lower(value) IN ('-nan', '+nan', '-inf', '+inf', '-infinity', '+infinity') THEN {NUMBER | NOT_AMBIGUOUS}
        ELSE {MARKS} END
    """,
)
# The same where a comma divides a number: a point is then no part of one.
KINDS_OF = {
    ".": "CREATE OR REPLACE TEMP MACRO kinds_of(value) AS kinds_with_point(value)",
    ",": rf"""
    CREATE OR REPLACE TEMP MACRO kinds_of(value) AS CASE
        WHEN contains(value, ',') THEN CASE
            WHEN NOT contains(value, '.') AND kinds_with_point(replace(value, ',', '.')) & {NUMBER} <> 0
                THEN kinds_with_point(replace(value, ',', '.'))
            ELSE {MARKS} END
        WHEN contains(value, '.') AND kinds_with_point(value) & {NUMBER} <> 0 THEN {MARKS}
        ELSE kinds_with_point(value) END
    """,
}


def define_kinds(connection: duckdb.DuckDBPyConnection, decimal: str = ".") -> None:
    """Give SQL the macro `kinds_of`: the bits of what a text can be."""
    for macro in (*MACROS, KINDS_OF[decimal]):
        connection.execute(macro)


def type_of(kind: int) -> str | None:
    """SQL type of a column; None where it stays text."""
    if kind & ANY == ANY:
        return None
    return next((sql for bit, sql in TYPES.items() if kind & bit), None)
