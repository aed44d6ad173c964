"""Back to the version before, wherever the project's stores say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.complete import write_whole
from components.contract import ContractViolation
from project.loading import load_configuration
from project.stores import load_stores
from serving.local import release_of, rollback


def roll_back(project: Path, destination: Path) -> dict[str, Any]:
    """Roll a project's model back and write the `deployment` artifact.

    Raises:
        ContractViolation: there is no version to return to, it does not come up, or the place cannot do it.
    """
    deployment, serving = load_configuration(project).deployment, load_stores(project).serving
    kind, _, place = serving.partition(":")
    if kind != "local":
        raise ContractViolation(
            f"rollback_model returns local servers to the version before; {serving} keeps no such version. "
            "Release the version you want again: traffic moves by the same stages."
        )
    endpoint = rollback(Path(place), deployment.model)
    record: dict[str, Any] = {
        "url": endpoint.url,
        "grpc": endpoint.grpc,
        "model": endpoint.model,
        "version": endpoint.version,
        "previous_version": release_of(Path(place), deployment.model).previous_version,
        "strategy": "rollback",
        "steps": [],
    }
    write_whole(destination, json.dumps(record, indent=2))
    return {"url": endpoint.url, "version": endpoint.version, "summary": f"back to version {endpoint.version}"}
