"""Rollback: all traffic back to the version before, on this machine, KServe or Vertex AI."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.serving.release.traffic import Return


def roll_back(settings: Configuration, locations: Locations, destination: Path) -> dict[str, Any]:
    """Roll a project's model back and write the `deployment` artifact.

    Args:
        settings: `deployment.model` is what is rolled back.
        locations: `serving` says where.
        destination: JSON file to write when the traffic has moved.

    Raises:
        ContractViolation: there is no version to return to, it does not come up, or the place is none.
    """
    model, serving = settings.deployment.model, locations.serving
    kind, _, place = serving.partition(":")
    if kind == "local" and place:
        back = return_locally(Path(place), model)
    elif kind == "kserve" and place:
        from kfp_lifecycle.serving.release.kserve.inference_service import return_traffic

        back = return_traffic(place, model)
    elif kind == "vertex" and "/" in place:
        from kfp_lifecycle.serving.release.vertex.endpoint import return_traffic as return_traffic_on_vertex

        account, _, location = place.partition("/")
        back = return_traffic_on_vertex(account, location, model)
    else:
        raise ContractViolation(
            f"the store `serving` must be local:FOLDER, kserve:NAMESPACE or vertex:PROJECT/LOCATION, not {serving!r}. "
            "Correct it under targets in pipeline.yaml."
        )
    record: dict[str, Any] = {**asdict(back), "model": model, "strategy": "rollback", "steps": []}
    write_whole(destination, json.dumps(record, indent=2))
    return {"url": back.url, "version": back.version, "summary": f"back to version {back.version}"}


def return_locally(folder: Path, model: str) -> Return:
    """Give all traffic of this machine's servers to the version before.

    Raises:
        ContractViolation: as `roll_back`.
    """
    from kfp_lifecycle.serving.release.local.operations import release_of, rollback

    leaving = release_of(folder, model).version
    endpoint = rollback(folder, model)
    return Return(endpoint.url, endpoint.grpc, endpoint.version, leaving)
