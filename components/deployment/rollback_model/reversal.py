"""Rollback: all traffic back to the version before, on this machine, KServe or Vertex AI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.audit.record import open_record
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import KServeServing, LocalServing, Locations, serving_place
from kfp_lifecycle.serving.release.traffic import Return


def roll_back(settings: Configuration, locations: Locations, destination: Path) -> dict[str, Any]:
    """Roll a project's model back and write the `deployment` artifact.

    Args:
        settings: `deployment.model` is what is rolled back.
        locations: `serving` says where.
        destination: JSON file to write when the traffic has moved.

    Raises:
        ContractViolation: there is no version to return to, or it does not come up.
    """
    model, place = settings.deployment.model, serving_place(locations.serving)
    if isinstance(place, LocalServing):
        back = return_locally(place.folder, model)
    elif isinstance(place, KServeServing):
        from kfp_lifecycle.serving.release.kserve.rollback import return_traffic

        back = return_traffic(place.namespace, model)
    else:
        from kfp_lifecycle.serving.release.vertex.endpoint import return_traffic as return_traffic_on_vertex

        back = return_traffic_on_vertex(place.project, place.location, model)
    if not isinstance(place, LocalServing) and locations.audit_record:
        open_record(locations.audit_record).append(
            "traffic returned", model, back.version, "", {"champion": back.previous_version}
        )
    record = Deployment(model=model, strategy="rollback", **asdict(back))
    record.write(destination)
    return {"url": back.url, "version": back.version, "summary": f"back to version {back.version}"}


def return_locally(folder: Path, model: str) -> Return:
    """Give all traffic of this machine's servers to the version before, or to the champion of an unfinished release.

    Raises:
        ContractViolation: as `roll_back`.
    """
    from kfp_lifecycle.serving.release.local.operations import release_of, rollback

    before = release_of(folder, model)
    leaving = before.change.candidate if before.change is not None else before.version
    endpoint = rollback(folder, model)
    return Return(endpoint.url, endpoint.grpc, endpoint.version, leaving)
