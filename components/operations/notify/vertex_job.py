"""The run's own record on Vertex AI: what was decided in it, and whose it is; asked by the step's account."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from kfp_lifecycle.components.operations.notify.decisions import Decision, decision_of, in_order

_JOB = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/pipelineJobs/[^/]+")
# Where Google's own libraries look for the machine's account, and where the API is, if that is not its public address.
METADATA, ENDPOINT = "GCE_METADATA_HOST", "LIFECYCLE_VERTEX_ENDPOINT"
TIMEOUT_SECONDS = 10.0
FAILURES = (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class VertexJob:
    """A run on Vertex AI."""

    project: str
    """Of Google Cloud, by its id or number."""
    location: str
    token: str
    """Of the step's account."""
    record: Mapping[str, Any]
    """As the API gives it."""


def job_on_vertex(name: str | None, environment: Mapping[str, str] = os.environ) -> VertexJob | None:
    """A run's record.

    None where this is another platform's, and where the account may not look at the job, which the log then says.

    Args:
        name: The run's resource name, as the final status tells it; Kubeflow tells none.
        environment: The step's variables.
    """
    named = _JOB.fullmatch(name or "")
    if named is None:
        return None
    host = environment.get(METADATA, "metadata.google.internal")
    account = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    api = environment.get(ENDPOINT, f"https://{named['location']}-aiplatform.googleapis.com")
    try:
        token = _get(account, {"Metadata-Flavor": "Google"})["access_token"]
        record = _get(f"{api}/v1/{name}", {"Authorization": f"Bearer {token}"})
    except FAILURES as error:
        print(f"Vertex AI does not tell of the run: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    return VertexJob(named["project"], named["location"], token, record)


def decided_on_vertex(job: VertexJob | None) -> list[Decision]:
    """What was decided in a run; none where it cannot be told, which the log then says."""
    if job is None:
        return []
    try:
        found = {
            decision.step: decision
            for task in job.record["jobDetail"]["taskDetails"]
            for output in task.get("outputs", {}).values()
            for artifact in output.get("artifacts", [])
            if (decision := decision_of(task["taskName"].replace("-", "_"), artifact.get("metadata", {})))
        }
    except FAILURES as error:
        print(f"Vertex AI does not tell what was decided: {type(error).__name__}: {error}", file=sys.stderr)
        return []
    return in_order(found.values())


def _get(url: str, headers: Mapping[str, str]) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)
