"""How the columns of another database arrive: as Arrow, marked where their text stands for something else."""

from __future__ import annotations

import pyarrow as pa

from kfp_lifecycle.data.tables import literal, quoted

# Metadata of an Arrow field: the DuckDB type that the column's text is to become.
BECOMES = b"lifecycle:becomes"
# Of a decimal number of unknown precision: DOUBLE, where that keeps every digit.
EXACT_DOUBLE = "exact DOUBLE"
# Of 16 bytes.
UUID = "UUID"
# Digits that a DOUBLE keeps of any decimal number.
DOUBLE_DIGITS = 15


class Refused(Exception):
    """A column, or a whole statement, cannot be brought over as what it is."""

    def __init__(self, what: str, reason: str, remedy: str):
        super().__init__(f"{what} {reason}")
        self.remedy = remedy


def becoming(field: pa.Field, kind: str) -> pa.Field:
    """The field, marked with the DuckDB type that it is to become."""
    return field.with_metadata({BECOMES: kind.encode()})


def selected(field: pa.Field) -> str:
    """SQL of a column as it is to be, cast where it is marked: an error names it where a value does not fit."""
    column = quoted(field.name)
    kind = (field.metadata or {}).get(BECOMES, b"").decode()
    if not kind:
        return column
    if kind == UUID:
        return f"CAST(CAST(hex({column}) AS UUID) AS VARCHAR) AS {column}"
    if kind == EXACT_DOUBLE:
        digits = f"trim(regexp_replace(regexp_replace({column}, '[eE].*', ''), '[^0-9]', '', 'g'), '0')"
        complaint = f"column {field.name} holds more than {DOUBLE_DIGITS} digits, which DOUBLE would round, as in "
        return (
            f"CASE WHEN length({digits}) > {DOUBLE_DIGITS} THEN error({literal(complaint)} || {column}) "
            f"ELSE CAST({column} AS DOUBLE) END AS {column}"
        )
    complaint = f"column {field.name} holds a value that is no {kind}: "
    return (
        f"CASE WHEN {column} IS NOT NULL AND TRY_CAST({column} AS {kind}) IS NULL "
        f"THEN error({literal(complaint)} || {column}) ELSE TRY_CAST({column} AS {kind}) END AS {column}"
    )
