"""Decisions of a run on Vertex AI, out of the job's own record: asked of its API by the step's account."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from kfp_lifecycle.components.operations.notify.decisions import Decision, decision_of, in_order

_JOB = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/pipelineJobs/[^/]+")
# Where Google's own libraries look for the machine's account, and where the API is, if that is not its public address.
METADATA, ENDPOINT = "GCE_METADATA_HOST", "LIFECYCLE_VERTEX_ENDPOINT"
TIMEOUT_SECONDS = 10.0


def decided_on_vertex(job: str, environment: Mapping[str, str] = os.environ) -> list[Decision]:
    """What was decided in a run on Vertex AI.

    None where this is another platform's, and where the account may not look at the job, which the log then says.

    Args:
        job: The run's resource name, as the final status tells it.
        environment: The step's variables.
    """
    named = _JOB.fullmatch(job)
    if named is None:
        return []
    host = environment.get(METADATA, "metadata.google.internal")
    account = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    api = environment.get(ENDPOINT, f"https://{named['location']}-aiplatform.googleapis.com")
    try:
        token = _get(account, {"Metadata-Flavor": "Google"})["access_token"]
        tasks = _get(f"{api}/v1/{job}", {"Authorization": f"Bearer {token}"})["jobDetail"]["taskDetails"]
        found = {
            decision.step: decision
            for task in tasks
            for output in task.get("outputs", {}).values()
            for artifact in output.get("artifacts", [])
            if (decision := decision_of(task["taskName"].replace("-", "_"), artifact.get("metadata", {})))
        }
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"Vertex AI does not tell what was decided: {type(error).__name__}: {error}", file=sys.stderr)
        return []
    return in_order(found.values())


def _get(url: str, headers: Mapping[str, str]) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)
