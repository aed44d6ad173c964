"""Reference pages of the command line and of `pipeline.yaml`: `python -m kfp_lifecycle.cli.reference`.

Writes `docs/cli.md`, `docs/configuration.md` and `docs/pipeline.schema.json`; a test fails when one is stale.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.cli.explanation import Line, explanation
from kfp_lifecycle.config.loading import configuration_schema

DOCS = Path(__file__).resolve().parent.parent / "docs"
WRITTEN = "<!-- Written by `python -m kfp_lifecycle.cli.reference`: change the code, not this file. -->\n"


def command_line() -> str:
    """Markdown of every command: what it does, its arguments, options and exit codes, as `--help` says them."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="lifecycle"), name="lifecycle")
    # The list at the top cuts its sentences off; the headings below it say the same.
    text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n", "", text)
    return WRITTEN + text.replace("# `lifecycle`", "# Command line", 1).rstrip() + "\n"


def configuration() -> str:
    """Markdown of every key of `pipeline.yaml`, a table for each section."""
    lines = [
        WRITTEN + "# Configuration",
        "",
        "Every key of `pipeline.yaml`. `lifecycle config explain KEY` shows the same texts, and so does an editor that",
        "reads [the JSON Schema](pipeline.schema.json). `NAME` stands for a name of yours, `0` for a place in a list.",
    ]
    everything = explanation("")
    sections = {name.partition(".")[0] for name, *_ in everything if "." in name}

    def heading(line: Line) -> str:
        top = line[0].partition(".")[0]
        return top if top in sections else "The project"

    for section, keys in groupby(everything, key=heading):
        lines += ["", f"## {section}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for name, kind, default, text in keys:
            value = default.removeprefix(", ").removesuffix(" by default").replace("\\[", "[")
            cells = [f"`{name}`", kind, f"`{value}`" if value else "", text]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Each file's name below `docs/`, and its text."""
    schema = json.dumps(configuration_schema(), indent=1) + "\n"
    return {"cli.md": command_line(), "configuration.md": configuration(), "pipeline.schema.json": schema}


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}")
