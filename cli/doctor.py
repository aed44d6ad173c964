"""`lifecycle doctor`: what a run on a target would need, before anything is started."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, AsJson, Project, out, project_folder, refuse, say, write_json
from kfp_lifecycle.cli.targets import OnTarget, plain_refusals

SIGNS = {"good": "[green]✓[/]", "bad": "[bold red]✗[/]", "unknown": "[yellow]?[/]"}


def doctor(
    target: OnTarget = None,
    project: Project = None,
    from_a_pod: Annotated[
        bool, typer.Option("--from-a-pod", help="On a Kubeflow: run one small step that asks the stores from there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what a run would need: addresses, rights, stores, secrets. Nothing is started, and nothing left behind.

    Example: `lifecycle doctor --target kubeflow`

    Example: `lifecycle doctor --target kubeflow --from-a-pod`

    Exit codes: 0 nothing is in the way, 1 something is, and how to mend it is said, 2 the project cannot be read.
    """
    from kfp_lifecycle.backends.doctor import examine
    from kfp_lifecycle.backends.findings import Found
    from kfp_lifecycle.config.loading import load_configuration

    folder, found = project_folder(project), []
    with plain_refusals():
        configuration = load_configuration(folder)
    chosen = configuration.targets.default if target is None else target.value
    if from_a_pod and chosen != "kubeflow":
        refuse("--from-a-pod asks from a pod of a Kubeflow: name it, --target kubeflow")
    with tempfile.TemporaryDirectory(prefix="doctor-") as compiled:
        for finding in examine(configuration, chosen, folder, Path(compiled), from_a_pod=from_a_pod, say=say):
            found.append(finding)
            if as_json:
                continue
            detail = f": {finding.detail}" if finding.detail else ""
            out.print(f"{SIGNS[finding.found]} {finding.what}", end="", highlight=False)
            out.print(detail, markup=False, soft_wrap=True, highlight=False)
            for line in finding.remedy.splitlines():
                out.print(f"    {line}", markup=False, soft_wrap=True, highlight=False)
    if as_json:
        write_json([asdict(finding) for finding in found])
    if any(finding.found is Found.bad for finding in found):
        raise typer.Exit(EXIT_FAILED)
