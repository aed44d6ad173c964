"""The templates of pages that need nothing else: no script, no network, all text escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kfp_lifecycle.reports.formatting import FILTERS, printable


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
