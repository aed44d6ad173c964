"""The documentation's pictures, from the newest training run on this machine: `make pictures`.

`images/terminal.svg` is what `lifecycle watch` prints of it, `images/report.png` the beginning of its report.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
LIFECYCLE = Path(sys.executable).parent / "lifecycle"
COLUMNS = 122


def lifecycle(*arguments: str) -> str:
    """What a command prints on a terminal of that width."""
    terminal = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    return subprocess.run([LIFECYCLE, *arguments], env=terminal, capture_output=True, text=True, check=True).stdout


def draw_terminal(run: str) -> None:
    """Draw the run's lines as a terminal shows them; where things lie on this machine is nobody's concern."""
    lines = [line for line in lifecycle("watch", run).splitlines() if not re.search(r"\s/\w|sqlite:", line)]
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    console.print(Text("$ lifecycle run training", style="bold"))
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    drawn = console.export_svg(title="lifecycle run training", font_aspect_ratio=0.61)
    # Fonts of the reader's machine, none of another site's.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    (IMAGES / "terminal.svg").write_text(re.sub(r"[ \t]+\n", "\n", drawn), encoding="utf-8")


def photograph_report(run: str) -> None:
    """Photograph the beginning of the run's report, by the browser of this machine."""
    report = lifecycle("report", run).strip()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1200, "height": 1150})
        page.goto(Path(report).as_uri())
        page.screenshot(path=IMAGES / "report.png")
        chromium.close()


if __name__ == "__main__":
    runs = json.loads(lifecycle("runs", "--json"))
    newest = next(run["id"] for run in runs if run["pipeline"] == "training" and run["state"] == "done")
    draw_terminal(newest)
    photograph_report(newest)
    print(f"{IMAGES}: terminal.svg and report.png, of {newest}")
