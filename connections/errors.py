"""A driver's error in one line."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What an error says, without the excerpt of the query that follows it."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
