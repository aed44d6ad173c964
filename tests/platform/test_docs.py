"""What the documentation names exists."""

from __future__ import annotations

import ast
import re
import runpy
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import PAGES, ROOT, commands_of
from typer.main import get_command

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.config.loading import ConfigurationError, configuration_schema, parse_configuration, parse_yaml
from kfp_lifecycle.environments.lock import GROUPS

LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
FENCED = re.compile(r"```.*?```", re.DOTALL)
YAML = re.compile(r"^[ ]*```yaml\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^[ ]*```python\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
MAKE = re.compile(r"(?:^|`|\$ )make ([a-z][a-z-]*)", re.MULTILINE)
LIFECYCLE = re.compile(r"(?:^|`|\$ |/bin/)lifecycle ([a-z][a-z-]*)", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    missing = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(MAKE.findall(text)) <= targets
    assert set(LIFECYCLE.findall(text)) <= commands


def test_the_readme_names_every_command_and_shows_its_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(LIFECYCLE.findall(text)) == set(get_command(app).commands)  # type: ignore[attr-defined]
    assert "](docs/images/report.png)" in text


SECTIONS = set(configuration_schema()["properties"])


def sections(page: Path) -> list[tuple[int, str]]:
    """The blocks of a page that show sections of `pipeline.yaml`, each with its line."""
    text = page.read_text(encoding="utf-8")
    blocks = [(text.count("\n", 0, block.start()) + 1, textwrap.dedent(block[1])) for block in YAML.finditer(text)]
    return [(line, block) for line, block in blocks if set(re.findall(r"^(\w+):", block, re.MULTILINE)) & SECTIONS]


OF_ANY = ("name", "title", "entity", "gate", "deployment")
CONFIGURING = [page for page in PAGES if sections(page)]


@pytest.mark.parametrize("page", CONFIGURING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_configuration_shown_is_one(page: Path) -> None:
    whole = parse_yaml((ROOT / "pipeline.yaml").read_text(encoding="utf-8"), "pipeline.yaml")
    refused = []
    for line, block in sections(page):
        shown = parse_yaml(block, f"{page.name}:{line}")
        # What shows a project's data and label is another project.
        rest = {key: whole[key] for key in OF_ANY} if {"source", "label"} <= set(shown) else whole
        try:
            parse_configuration(yaml.safe_dump({**rest, **shown}), where=f"{page.name}:{line}")
        except ConfigurationError as error:
            # A page shows a part of a section; what of it is shown must be right.
            head, *reasons = str(error).splitlines()
            wrong = [reason for reason in reasons if "this key is required" not in reason and "…" not in reason]
            refused += [head, *wrong] if wrong else []
    assert refused == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if PYTHON.search(page.read_text("utf-8"))], ids=lambda page: page.stem
)
def test_the_python_shown_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of its own, beside the page's: components and pipelines are read from their source."""
    monkeypatch.syspath_prepend(page.parent)
    for number, block in enumerate(PYTHON.findall(page.read_text("utf-8"))):
        file = tmp_path / f"shown_{number}.py"
        file.write_text(textwrap.dedent(block), "utf-8")
        runpy.run_path(str(file))


def test_the_lines_of_the_second_project_are_counted_and_its_sql_is_shown() -> None:
    page = ROOT / "docs" / "bring-your-own-project.md"
    text = page.read_text("utf-8")
    rows = re.findall(r"^\| (\[.*\)) \| (\d+) \|", text, re.MULTILINE)
    named = {links: [page.parent / link for link in LINK.findall(links)] for links, _ in rows}
    counted = {
        links: sum(len(file.read_text("utf-8").splitlines()) for file in files) for links, files in named.items()
    }
    assert {links: int(lines) for links, lines in rows} == counted
    assert f"CDNOW: {sum(counted.values())} lines" in (ROOT / "README.md").read_text("utf-8")
    files = [file.read_text("utf-8") for paths in named.values() for file in paths if file.suffix == ".sql"]
    assert all(
        any(shown in file for file in files)
        for shown in re.findall(r"^```sql\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    )


def test_every_test_that_is_said_to_hold_a_silent_fault_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "silent-faults.md").read_text("utf-8"))
    there = {
        (file.relative_to(ROOT / "tests").as_posix(), node.name)
        for file in sorted({ROOT / "tests" / name for name, _ in named})
        if file.is_file()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert [f"{file}::{name}" for file, name in named if (file, name) not in there] == []


def test_each_silent_fault_is_held_by_a_test() -> None:
    text = (ROOT / "docs" / "silent-faults.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]
    assert len(rows) > 40
    assert [row for row in rows if not re.search(r"\| `[\w/]+\.py::\w+`[^|]*\|$", row)] == []


def test_every_environment_is_told_of() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?`) \|", page[page.index("## Environments") : page.index("## Contracts")], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(GROUPS)


def test_the_runbook_has_a_row_for_each_step_of_the_pipelines() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    shapes = [file.read_text("utf-8") for file in sorted((ROOT / "tests" / "platform" / "shapes").glob("*.txt"))]
    steps = {step for shape in shapes for step in re.findall(r"^ +([a-z]+(?:-[a-z]+)+)$", shape, re.MULTILINE)}
    assert len(steps) > 20
    assert sorted(step for step in steps if step not in runbook) == []


def test_every_command_shown_is_one_of_the_command_line_with_its_options() -> None:
    wrong, of_all = [], get_command(app)
    for command in (command for page in PAGES for command in commands_of(page) if command.line.startswith("lifecycle")):
        found: Any = of_all
        words = re.split(r" (?:[|&>]|&&) ?", command.line)[0].split()[1:]
        while words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words.pop(0)]
        options = {option for parameter in found.params for option in parameter.opts} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        if not used <= options or (words and hasattr(found, "commands") and not used):
            wrong.append(command.name)
    assert wrong == []
