"""`lifecycle report`: where a run's report is."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import refuse


def report(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="The run; by default the newest.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print the path of a run's report.

    Example: `lifecycle report --open`
    """
    from kfp_lifecycle.local.run_records import all_runs

    runs = [record for record in all_runs() if run_id in (None, record.id) and record.report]
    if not runs:
        refuse(
            f"run {run_id} has no report" if run_id else "no run has a report yet: start with `lifecycle run training`"
        )
    if open_it:
        webbrowser.open(Path(runs[0].report or "").as_uri())
    sys.stdout.write(f"{runs[0].report}\n")
