"""Pages of a model card: JSON to read on, Markdown to keep, HTML to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup, escape

from kfp_lifecycle.artifacts.model_card import ModelCard
from kfp_lifecycle.reports.templates import templates

CODE = re.compile("`([^`]+)`")


def write_card(folder: Path, card: ModelCard) -> None:
    """Write `model_card.json`, `.md` and `.html` into a model folder, with the pictures of its `plots/`."""
    names = {name for section in card.sections for name in section.plots}
    pictures = {name: (folder / "plots" / f"{name}.svg").read_text("utf-8") for name in sorted(names)}
    card.write(folder)
    (folder / "model_card.md").write_text(as_markdown(card), "utf-8")
    (folder / "model_card.html").write_text(as_html(card, pictures), "utf-8")


def as_markdown(card: ModelCard) -> str:
    """The card as Markdown; pictures are linked from `plots/`."""
    lines = [f"# Model card: {card.title}"]
    for section in card.sections:
        lines += ["", f"## {section.heading}", "", "\n\n".join(section.sentences)]
        if section.table:
            head, *rows = ["|".join(("", *(cell.replace("|", "\\|") for cell in row), "")) for row in section.table]
            lines += ["", head, "|" + "---|" * len(section.table[0]), *rows]
        lines += [f"\n![{name.replace('_', ' ')}](plots/{name}.svg)" for name in section.plots]
    return "\n".join(lines) + "\n"


def as_html(card: ModelCard, pictures: Mapping[str, str]) -> str:
    """The card as one page that needs nothing else."""
    return (
        templates()
        .get_template("model_card.html.j2")
        .render(
            title=card.title,
            sections=card.sections,
            contents=[(f"part-{number}", section.heading) for number, section in enumerate(card.sections, start=1)],
            marked=_marked,
            pictures={name: Markup(picture) for name, picture in pictures.items()},
        )
    )


def _marked(sentence: str) -> Markup:
    """What is typed stands between backticks, as in Markdown."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(sentence))))
