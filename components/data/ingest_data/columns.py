"""Columns of another database as SQL of the table: what arrived as text becomes what it stands for."""

from __future__ import annotations

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import BECOMES, DOUBLE_DIGITS, EXACT_DOUBLE, UUID
from kfp_lifecycle.data.sql import literal, quoted


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
