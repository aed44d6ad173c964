"""How the columns of another database arrive: as Arrow, marked where their text stands for something else."""

from __future__ import annotations

from kfp_lifecycle.connections.arrow import pa

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
