"""`python -m kfp_lifecycle.registry.lineage URI`: what MLflow knows of where versions come from, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kfp_lifecycle.registry.tracking import connect, mlflow_errors
from kfp_lifecycle.runtime.contract import ContractViolation


def known(tracking_uri: str) -> dict[str, Any]:
    """Every registered version with its tags and aliases, and the tags of every run.

    Raises:
        ContractViolation: the server cannot be reached.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        versions = [
            {
                "model": model.name,
                "version": str(version.version),
                "mlflow_run": version.run_id or "",
                "registered_at": _moment(version.creation_timestamp),
                "aliases": sorted(
                    alias for alias, number in model.aliases.items() if str(number) == str(version.version)
                ),
                "tags": dict(version.tags),
            }
            for model in client.search_registered_models()
            for version in client.search_model_versions(f"name='{model.name}'")
        ]
        runs, token = {}, None
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        while experiments:
            page = client.search_runs(experiments, page_token=token)
            for run in page:
                told = {
                    "started_at": _moment(run.info.start_time),
                    "status": run.info.status,
                    "tags": dict(run.data.tags),
                }
                runs[run.info.run_id] = told
            token = page.token
            if not token:
                break
    return {"versions": versions, "runs": runs}


def _moment(milliseconds: int | None) -> str:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).isoformat(timespec="seconds")


def main(arguments: Sequence[str]) -> None:
    """Print what is known."""
    try:
        print(json.dumps(known(*arguments)))
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))


if __name__ == "__main__":
    main(sys.argv[1:])
