"""Hooks of the documentation's site: what pages link to outside `docs/` becomes part of it.

Pages are read in the repository as well, where a link such as `../examples/cdnow/pipeline.yaml` leads to the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Where files of the repository stand in the site.
SOURCE = "source"
OUTSIDE = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")

EMPTY_HEAD = re.compile(r"<thead>\s*<tr>(?:\s*<th[^>]*>\s*</th>)+\s*</tr>\s*</thead>")
EMPTY_HEADER = re.compile(r"<th([^>]*)>\s*</th>")


def on_page_content(html: str, **_: Any) -> str:
    """Take out headers of tables without words, which Markdown has no other way to leave out."""
    return EMPTY_HEADER.sub(r"<td\1></td>", EMPTY_HEAD.sub("", html))


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Lead links that leave `docs/` to a copy in the site, or, for a folder, to where its name is explained."""

    def led(link: re.Match[str]) -> str:
        target = (ROOT / "docs" / page.file.src_uri).parent / f"{link['up']}{link['path']}"
        inside = target.resolve().relative_to(ROOT)
        depth = "../" * page.file.src_uri.count("/")
        if inside.parts[0] == "docs":
            return link[0]
        if target.is_dir():
            return f"]({depth}architecture.md#rooms)"
        # As text: a page of the site would have links of its own that lead elsewhere.
        uri = f"{SOURCE}/{inside.as_posix()}".removesuffix(".md") + ".txt" * (inside.suffix == ".md")
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, content=target.read_bytes()))
        return f"]({depth}{uri}{link['anchor'] or ''})"

    return OUTSIDE.sub(led, markdown)
