"""Pages of a model card: JSON to read on, Markdown to keep, HTML to read. A data sheet is written by the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from kfp_lifecycle.artifacts.markdown import markdown, markdown_cell
from kfp_lifecycle.artifacts.model_card import CardSection, ModelCard
from kfp_lifecycle.reports.templates import templates

KIND = "Model card"
CODE = re.compile("`([^`]+)`")


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model_card.json`, `.md` and `.html` into a model folder, with the pictures of its `plots/`."""
    names = {name for section in card.sections for name in section.plots}
    pictures = {name: (folder / "plots" / f"{name}.svg").read_text("utf-8") for name in sorted(names)}
    card.write(folder)
    (folder / "model_card.md").write_text(sections_as_markdown(KIND, card.title, card.sections), "utf-8")
    (folder / "model_card.html").write_text(sections_as_html(KIND, card.title, card.sections, pictures), "utf-8")


def sections_as_markdown(kind: str, title: str, sections: Sequence[CardSection]) -> str:
    """Sections as Markdown; pictures are linked from `plots/`."""
    lines = [f"# {kind}: {markdown(title)}"]
    for section in sections:
        lines += ["", f"## {markdown(section.heading)}", "", "\n\n".join(map(markdown, section.sentences))]
        if section.table:
            head, *rows = ["|".join(("", *map(markdown_cell, row), "")) for row in section.table]
            lines += ["", head, "|" + "---|" * len(section.table[0]), *rows]
        lines += [f"\n![{name.replace('_', ' ')}](plots/{name}.svg)" for name in section.plots]
    return "\n".join(lines) + "\n"


def sections_as_html(
    kind: str, title: str, sections: Sequence[CardSection], pictures: Mapping[str, str] | None = None
) -> str:
    """Sections as one page that needs nothing else."""
    return (
        templates()
        .get_template("model_card.html.j2")
        .render(
            kind=kind,
            title=title,
            sections=sections,
            contents=[(f"part-{number}", section.heading) for number, section in enumerate(sections, start=1)],
            marked=_marked,
            pictures={name: Markup(picture) for name, picture in (pictures or {}).items()},
        )
    )


def _marked(sentence: str) -> Markup:
    """What is typed stands between backticks, as in Markdown."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(sentence))))
