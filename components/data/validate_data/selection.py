"""Which rows of a table are looked at, as SQL conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from kfp_lifecycle.data.sql import literal, quoted


def sampling(key: Sequence[str], rows: int, sample_rows: int) -> str | None:
    """Condition that keeps about `sample_rows` of a table, the same each time; None where all are kept."""
    if rows <= sample_rows:
        return None
    return f"hash({', '.join(map(quoted, key))}) % {math.ceil(rows / sample_rows)} = 0"


def within(event_time: str | None, as_of: datetime, days: int) -> str:
    """Condition for the rows of the newest days.

    Args:
        event_time: The column that says when a row happened; of a table without one all rows are kept.
        as_of: The newest moment, UTC without a zone.
        days: How many days before it.
    """
    if event_time is None:
        return "true"
    first, last = (literal(moment.isoformat(sep=" ")) for moment in (as_of - timedelta(days=days), as_of))
    return f"{quoted(event_time)} > TIMESTAMP {first} AND {quoted(event_time)} <= TIMESTAMP {last}"
