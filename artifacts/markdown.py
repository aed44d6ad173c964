"""Text in Markdown, as it is read by people and by pages that take HTML in it for their own."""

from __future__ import annotations


def markdown(text: str) -> str:
    """A text in which no HTML, link or picture begins, whatever a column was named; code stays between backticks."""
    return text.replace("<", "&lt;").replace("](", "]\\(")


def markdown_cell(text: str) -> str:
    """The same for a cell of a table."""
    return markdown(text).replace("|", "\\|")
