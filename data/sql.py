"""SQL text: names and values as SQL reads them."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """A name as SQL reads it, whatever characters it has."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL reads it."""
    return "'" + text.replace("'", "''") + "'"
