"""What the documentation names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from kfp_lifecycle.cli.cli import app

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
FENCED = re.compile(r"```.*?```", re.DOTALL)
MAKE = re.compile(r"(?:^|`|\$ )make ([a-z][a-z-]*)", re.MULTILINE)
LIFECYCLE = re.compile(r"(?:^|`|\$ |/bin/)lifecycle ([a-z][a-z-]*)", re.MULTILINE)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
PAGES += [ROOT / "simulation" / "README.md"]


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
