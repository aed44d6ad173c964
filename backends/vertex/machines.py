"""Machines on Vertex AI that a project asks for by name: whether the region has them, as Compute Engine tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from kfp_lifecycle.backends.findings import Finding, Found, looked_at
from kfp_lifecycle.backends.vertex.api import VertexApi
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.config.locations import VertexServing, serving_place
from kfp_lifecycle.config.targets import VertexTarget

# What asking Compute Engine takes, and what accelerators are that it knows of.
ROLE, GPU = "roles/compute.viewer", "NVIDIA_"


def examine_machines(api: VertexApi, target: VertexTarget, compiled: Sequence[Path]) -> Iterator[Finding]:
    """Look for the machine type of servers, and for the accelerators of steps and servers, where they would run.

    Vertex AI offers a part of what Compute Engine has: what is not in a region of the one is not in that of the other.

    Args:
        api: Vertex AI.
        target: What the project says of it.
        compiled: The compiled pipelines.
    """
    asked = {("acceleratorTypes", kind, api.location, "targets.vertex.steps") for kind in accelerators_of(compiled)}
    place, servers = serving_place(target.serving), target.servers
    if isinstance(place, VertexServing):
        setting = "targets.vertex.servers"
        asked.add(("machineTypes", servers.machine_type, place.location, f"{setting}.machine_type"))
        if servers.accelerator is not None:
            asked.add(("acceleratorTypes", servers.accelerator.type, place.location, f"{setting}.accelerator"))
    for collection, name, region, setting in sorted(asked, reverse=True):
        if collection == "acceleratorTypes" and not name.startswith(GPU):
            continue
        known = name.lower().replace("_", "-") if name.startswith(GPU) else name
        what = f"{region} has {name}"
        remedy = f"choose another for {setting}: gcloud compute {_command(collection)} list --filter=zone:{region}"
        yield from looked_at(what, partial(_look, api, what, collection, known, region, remedy), remedy)


def accelerators_of(compiled: Sequence[Path]) -> set[str]:
    """The accelerators that steps of compiled pipelines ask for, by Vertex AI's own names."""
    executors = [step for file in compiled for step in read_pipeline(file)["deploymentSpec"]["executors"].values()]
    resources = [step.get("container", {}).get("resources", {}) for step in executors]
    return {str(asked["accelerator"]["resourceType"]) for asked in resources if "accelerator" in asked}


def _command(collection: str) -> str:
    return "machine-types" if collection == "machineTypes" else "accelerator-types"


def _look(api: VertexApi, what: str, collection: str, name: str, region: str, remedy: str) -> Iterator[Finding]:
    path = f"/compute/v1/projects/{api.project}/aggregated/{collection}?filter={quote(f'name={name}')}"
    found = api.service(f"list the {_command(collection)} of {region}", "compute", path, role=ROLE)
    zones = sorted(
        zone.removeprefix("zones/")
        for zone, scope in found.get("items", {}).items()
        if zone.startswith(f"zones/{region}-") and scope.get(collection)
    )
    if zones:
        yield Finding(what, Found.good, f"in {', '.join(zones)}")
    else:
        yield Finding(what, Found.bad, "none of its zones does", remedy)
