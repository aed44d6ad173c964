"""`lifecycle setup`: the environments that steps run in, built into the state folder."""

from __future__ import annotations

from typing import Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, err, out, refuse
from kfp_lifecycle.environments.locks import STEP_ENVIRONMENTS


def setup(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"Only these of {', '.join(STEP_ENVIRONMENTS)}; by default all."),
    ] = None,
) -> None:
    """Build the environments that steps run in on this machine: uv, Python 3.11, every package checked by its hash.

    What is there already is kept. They take 5 GB in `.lifecycle/environments`.

    Example: `lifecycle setup`

    Exit codes: 0 all are built, 1 one could not be built, 2 the command is wrong.
    """
    from kfp_lifecycle.environments.build import KNOWN, BuildFailed, step_tasks, work_off

    unknown = sorted(set(names or []) - set(KNOWN))
    if unknown:
        refuse(f"there is no environment {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    try:
        tasks = step_tasks(names or STEP_ENVIRONMENTS)
        work_off(tasks, out.say)
    except BuildFailed as failure:
        err.say(f"error: {failure}")
        raise typer.Exit(EXIT_FAILED) from None
    if not tasks:
        out.print("all environments are built")
