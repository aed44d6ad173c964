"""`lifecycle approve` and `lifecycle reject`: a person lets an approved candidate be released, or does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kfp_lifecycle.cli.audit import TargetOption, record_of
from kfp_lifecycle.cli.console import Project, out, project_folder
from kfp_lifecycle.local.environment_module import run_module

VERSION = typer.Argument(metavar="VERSION", help="The registered version: `3`.")
MODEL = typer.Option("--model", help="The model; by default the project's.")
REASON = typer.Option("--reason", help="Why, for the audit record.")


def approve(
    version: Annotated[str, VERSION],
    model: Annotated[str | None, MODEL] = None,
    reason: Annotated[str, REASON] = "",
    target: TargetOption = None,
    project: Project = None,
) -> None:
    """Let a version be released that waits for it (`gate.approval: required`); who did, and why, is recorded.

    Example: `lifecycle approve 3 --reason "reviewed with the campaign team"`
    """
    name = _decide("approved", version, model, reason, target, project)
    if target in (None, "local"):
        out.say(f"release it: lifecycle release {version} --model {name}")
    else:
        out.say(
            f"release it: lifecycle run training --target {target}; what has not changed comes from the cache, and "
            f"its last steps release version {version}"
        )


def reject(
    version: Annotated[str, VERSION],
    model: Annotated[str | None, MODEL] = None,
    reason: Annotated[str, REASON] = "",
    target: TargetOption = None,
    project: Project = None,
) -> None:
    """Keep a version from being released; who did, and why, is recorded.

    Example: `lifecycle reject 3 --reason "wait for the new price list"`
    """
    _decide("rejected", version, model, reason, target, project)


def _decide(
    decision: Literal["approved", "rejected"],
    version: str,
    model: str | None,
    reason: str,
    target: str | None,
    project: Path | None,
) -> str:
    from kfp_lifecycle.config.loading import load_configuration

    name = model or load_configuration(project_folder(project)).deployment.model
    location, tracking_uri = record_of(target, project)
    told = run_module(
        "modelling", "kfp_lifecycle.registry.approval", tracking_uri, location, decision, name, version, reason
    )
    out.say(f"version {version} of {name}: {told.strip()}")
    return name
