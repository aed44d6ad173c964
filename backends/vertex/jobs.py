"""Pipeline job as it is sent: a compiled pipeline, with all that the target says of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.vertex.api import VertexApi
from kfp_lifecycle.config.targets import VertexTarget

# What a run's labels say of it; keys and values are small letters, digits, `-` and `_`.
PROJECT, PIPELINE, NAME = "lifecycle_project", "lifecycle_pipeline", "lifecycle_name"
LONGEST_LABEL, LONGEST_ID = 63, 128
POLICIES = {"slow": 1, "fast": 2}
"""`PipelineFailurePolicy` of a failure policy."""
# How long, in milliseconds, a step waits for a persistent resource, before it runs on a machine of its own.
RESOURCE_PATIENCE, ON_DEMAND = 300_000, 2


def new_job(
    api: VertexApi,
    target: VertexTarget,
    text: str,
    labels: Mapping[str, str],
    parameters: Mapping[str, Any],
    *,
    use_cache: bool = True,
) -> Any:
    """A job.

    Args:
        api: The API that it is for.
        target: What the project says of Vertex AI.
        text: The compiled pipeline.
        labels: What tells its runs from others, in any characters: PROJECT, PIPELINE, NAME.
        parameters: The pipeline's.
        use_cache: Whether steps may take over what earlier runs left.

    Raises:
        BackendError: Vertex AI would not take it.
    """
    documents = [document for document in yaml.safe_load_all(text) if document]
    if len(documents) != 1:
        raise BackendError(
            f"the pipeline {labels[PIPELINE]} has {len(documents)} YAML documents, and Vertex AI takes one: compile it "
            "for vertex, without Kubernetes' settings"
        )
    specification = documents[0]
    if not use_cache:
        _forget_cache(specification)
    types = api.version
    runtime: dict[str, Any] = {
        "gcs_output_directory": target.pipeline_root or target.upload_root,
        "parameter_values": dict(parameters),
        "failure_policy": POLICIES[target.failure_policy],
    }
    if target.persistent_resource:
        runtime["default_runtime"] = {
            "persistent_resource_runtime_detail": {
                "persistent_resource_name": f"{api.parent}/persistentResources/{target.persistent_resource}",
                "task_resource_unavailable_wait_time_ms": RESOURCE_PATIENCE,
                "task_resource_unavailable_timeout_behavior": ON_DEMAND,
            }
        }
    return types.PipelineJob(
        pipeline_spec=json_format.ParseDict(specification, Struct()),
        runtime_config=types.PipelineJob.RuntimeConfig(runtime),
        labels={**target.labels, **{key: label(value) for key, value in labels.items()}},
        service_account=target.service_account,
        network=target.network,
        reserved_ip_ranges=target.reserved_ip_ranges,
        encryption_spec=types.EncryptionSpec(kms_key_name=target.encryption_key) if target.encryption_key else None,
    )


def id_of(name: str) -> str:
    """A run's id: small letters, digits and hyphens, a letter first."""
    return re.sub(r"^[^a-z]+", "run-", re.sub(r"[^a-z0-9]+", "-", name.lower()))[:LONGEST_ID].rstrip("-")


def label(value: str) -> str:
    """A label's value, of any text."""
    return re.sub(r"[^a-z0-9_-]", "-", value.lower())[:LONGEST_LABEL]


def _forget_cache(specification: Mapping[str, Any]) -> None:
    """Let no task of a pipeline take over what an earlier run left."""
    for component in (specification["root"], *specification.get("components", {}).values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}
