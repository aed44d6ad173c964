"""`lifecycle audit`: who promoted, released, approved and forgot what, and whether anybody changed the record since."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import (
    EXIT_FAILED,
    AsJson,
    Project,
    err,
    out,
    project_folder,
    refuse,
    write_json,
)
from kfp_lifecycle.local.environment_module import run_module
from kfp_lifecycle.local.state import STATE

audit = typer.Typer(invoke_without_command=True, help="Show who did what to which version; `verify` checks the record.")

TargetOption = Annotated[
    str | None, typer.Option("--target", help="`kubeflow` or `vertex`: its record, by its `audit_record`.")
]


@audit.callback()
def show(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Of this model alone.")] = None,
    target: TargetOption = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List promotions, releases, rollbacks, waivers, approvals and what was forgotten, the newest first.

    Example: `lifecycle audit --model churn`
    """
    if context.invoked_subcommand is not None:
        return
    from kfp_lifecycle.audit.record import entries_of, open_record

    location, _ = record_of(target, project)
    entries = [entry for entry in entries_of(open_record(location)) if model in (None, entry.model)][::-1]
    if as_json:
        write_json([asdict(entry) for entry in entries])
        return
    if not entries:
        out.say(f"nothing stands in {location} yet")
    for entry in entries:
        about = f" {entry.model}" + (f" version {entry.version}" if entry.version else "") if entry.model else ""
        out.say(f"{entry.number:4d}  {entry.at} {about}: {entry.action} by {entry.by}")
        if entry.reason:
            # Each line of it stands in from the margin: none can be taken for an entry.
            out.say(indent(entry.reason, " " * 6))


@audit.command()
def verify(target: TargetOption = None, project: Project = None, as_json: AsJson = False) -> None:
    """Check that no entry was edited, removed, moved or cut off since it was written, and name each that was.

    Each entry holds the hash of the one before; MLflow holds the newest one's hash as it was at each promotion and
    approval.

    Example: `lifecycle audit verify`

    Exit codes: 0 the record is whole, 1 it is not.
    """
    from kfp_lifecycle.audit.record import open_record
    from kfp_lifecycle.audit.verification import Anchor
    from kfp_lifecycle.audit.verification import verify as verify_chain

    location, tracking_uri = record_of(target, project)
    lines = open_record(location).lines()
    known = tracking_uri.partition("://")[0] != "sqlite" or (STATE / "mlflow.db").exists()
    told = run_module("modelling", "kfp_lifecycle.registry.anchors", tracking_uri) if known else "[]"
    anchors = [Anchor(**values) for values in json.loads(told)]
    findings = verify_chain(lines, anchors)
    if as_json:
        write_json(
            {
                "place": location,
                "lines": len(lines),
                "anchors": len(anchors),
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        for finding in findings:
            err.say(f"{finding.kind}: {finding.sentence}")
        whole = "is not what was written" if any(finding.grave for finding in findings) else "is whole"
        out.say(f"{location} {whole}: {len(lines)} lines, {len(anchors)} heads known to MLflow")
    if any(finding.grave for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def record_of(target: str | None, project: Path | None) -> tuple[str, str]:
    """Where the record is kept, and the tracking server that knows its heads."""
    from kfp_lifecycle.audit.record import file_of

    if target in (None, "local"):
        return str(file_of(STATE / "serving")), f"sqlite:///{STATE / 'mlflow.db'}"
    from kfp_lifecycle.config.loading import load_configuration

    targets = load_configuration(project_folder(project)).targets
    if target not in ("kubeflow", "vertex"):
        refuse(f"--target {target}: it is local, kubeflow or vertex")
    cluster = targets.kubeflow if target == "kubeflow" else targets.vertex
    if cluster is None:
        refuse(f"pipeline.yaml has no targets.{target}")
    if not cluster.audit_record:
        refuse(
            f"nobody keeps a record on {target}: name a folder of an object store in targets.{target}.audit_record, "
            "such as one below the pipeline root"
        )
    return cluster.audit_record, cluster.tracking_uri
