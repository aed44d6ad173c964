"""`lifecycle lineage`: from a prediction, model, run or version of the data back to its origin, and on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.tree import Tree

from kfp_lifecycle.cli.console import AsJson, harmless, out, write_json
from kfp_lifecycle.local.environment_module import run_module
from kfp_lifecycle.local.state import RUNS, STATE


def lineage(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="A request's id, a model or version (`churn`, `churn/3`), a version of the data, or a run.",
        ),
    ],
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow server to ask; by default this checkout's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where something comes from (run, data, features, code, environment, verdict, who approved and released it)
    and what came of it.

    Example: `lifecycle lineage churn/3`

    Example: `lifecycle lineage 5a0c1f5e-prediction --json`

    Exit codes: 0 found, 1 nothing is called so.
    """
    from kfp_lifecycle.governance.lineage import lineage_of
    from kfp_lifecycle.governance.served import Log

    known = gathered(tracking_uri)
    found = lineage_of(known, reference, Log(STATE / "predictions").find(reference))
    if as_json:
        write_json([asdict(node) for node in found])
        return
    for node in found:
        # It is wrapped: with `soft_wrap` rich would cut its lines off.
        out.print(_tree(node))


def gathered(tracking_uri: str | None) -> Any:
    """What runs, MLflow, the audit record and the prediction log know."""
    from kfp_lifecycle.artifacts.prediction_log import FINISHED, GROWING
    from kfp_lifecycle.audit.record import entries_of, file_of, open_record
    from kfp_lifecycle.environments.locks import STEP_ENVIRONMENTS, lock_digest
    from kfp_lifecycle.governance.lineage import Known, Version
    from kfp_lifecycle.governance.served import Log
    from kfp_lifecycle.local.run_records import all_runs

    runs = [run_facts(record) for record in all_runs()]
    uri = tracking_uri or f"sqlite:///{STATE / 'mlflow.db'}"
    asked = tracking_uri is not None or (STATE / "mlflow.db").is_file()
    told = json.loads(run_module("modelling", "kfp_lifecycle.registry.lineage", uri)) if asked else {}
    versions = [
        Version(**version, run_tags=told["runs"].get(version["mlflow_run"], {}).get("tags", {}))
        for version in told.get("versions", [])
    ]
    log = Log(STATE / "predictions")
    files = len(log.files(FINISHED)) + len(log.files(GROWING))
    places = [
        f"{len(runs)} runs and the data that they stored, in {RUNS}",
        f"{len(versions)} versions and {len(told.get('runs', {}))} runs that MLflow knows",
        f"the requests of {files} files of the prediction log, in {log.folder} (a cluster's own log is not looked at)",
    ]
    audit = entries_of(open_record(str(file_of(STATE / "serving"))))
    locks = {name: lock_digest(name) for name in (*STEP_ENVIRONMENTS, "platform")}
    return Known(runs, versions, audit, log.served(), locks, places)


def run_facts(record: Any) -> Any:
    """A run of this machine out of what its steps wrote."""
    from kfp_lifecycle.governance.lineage import Run

    progress = record.progress()

    def of(artifact: str) -> dict[str, Any]:
        found = progress.artifact(artifact)
        return found[1] if found is not None else {}

    dataset, verdict = of("dataset"), of("verdict")
    model, registered = of("model"), of("registered_model")
    return Run(
        record.id,
        record.pipeline,
        str(record.state),
        record.started_at,
        dataset=str(dataset.get("version", "")),
        # kfp hands numbers within a mapping on as floats.
        rows=int(sum(dataset.get("rows", {}).values())),
        remote=str(dataset.get("remote", "")),
        mlflow_run=str(model.get("run_id", "")),
        model=str(registered.get("model", "")),
        version=str(registered.get("version", "")),
        decision=str(verdict.get("decision", "")),
        sentence=str(verdict.get("summary", "")),
    )


def _tree(node: Any, tree: Tree | None = None) -> Tree:
    from rich.markup import escape

    label = escape(harmless(" ".join(node.line().split())))
    branch = Tree(label) if tree is None else tree.add(label)
    for child in node.children:
        _tree(child, branch)
    return branch
