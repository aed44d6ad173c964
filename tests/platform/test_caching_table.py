"""The table of what steps read beside their inputs says of each component what its declaration says."""

from __future__ import annotations

import re
from pathlib import Path

from kfp_lifecycle.compilation.pipeline import components

ROOT = Path(__file__).parents[2]


def test_the_table_names_every_step_and_whether_it_is_cached() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    [table] = re.findall(r"\| step \| what else it reads \| cached \|\n.*?\n\n", text, re.DOTALL)
    told: dict[str, bool] = {}
    for line in table.strip().splitlines()[2:]:
        steps, _, cached = (cell.strip() for cell in line.strip("|").split("|"))
        told |= dict.fromkeys(re.findall(r"`(\w+)`", steps), cached.startswith("yes"))
    assert told == {name: component.cached for name, component in components().items()}
