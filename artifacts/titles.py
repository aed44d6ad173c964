"""Titles of columns: what people call those whose name in the project is another one (`features.titles`).

Machines, and who writes a gate rule or a request, name a column; what people read says its title.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

Titles = Mapping[str, str]
"""Title by name; a column without one is called by its name."""
RIGHT_TO_LEFT = {"R", "AL"}


def title_of(name: str, titles: Titles) -> str:
    """What people call a column: `Größe (cm)`."""
    title = titles.get(name, name)
    if any(unicodedata.bidirectional(letter) in RIGHT_TO_LEFT for letter in title):
        # Isolated, so that it turns around nothing of the sentence it stands in (UAX 9).
        return f"\N{FIRST STRONG ISOLATE}{title}\N{POP DIRECTIONAL ISOLATE}"
    return title


def title_and_name(name: str, titles: Titles) -> str:
    """The title with the name beside it, for who may have to write the name: `Größe (cm) [groesse_cm]`."""
    return f"{title_of(name, titles)} [{name}]" if name in titles else name


def slice_title(piece: str, titles: Titles) -> str:
    """The same of a slice `column=value`, and of the pair `column+column`, as metrics name them."""
    if piece in titles:
        return title_of(piece, titles)
    columns, equals, value = piece.partition("=")
    return "+".join(title_of(name, titles) for name in columns.split("+")) + equals + value


def is_named(title: str, name: str) -> bool:
    """Whether what is said of a column, or of a slice, is its name."""
    return title in (name, title_of(name, {}), slice_title(name, {}))
