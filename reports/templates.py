"""Page templates: each page extends `base.html.j2` and is one file; all text is escaped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kfp_lifecycle.reports.formatting import FILTERS, printable


@dataclass(frozen=True)
class KeyFigure:
    """One of the few numbers that a reader wants first."""

    label: str
    value: float | str | None
    note: str = ""


@cache
def templates(*folders: Path) -> Environment:
    """The templates of other folders beside those of this one, which they may include and import."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment
