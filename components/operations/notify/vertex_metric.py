"""Metric of a run's end in Cloud Monitoring, which counts no runs by pipeline: an alert tells by it of one that is
missing."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kfp_lifecycle.components.operations.notify.vertex_job import FAILURES, TIMEOUT_SECONDS, VertexJob
from kfp_lifecycle.runtime.states import RUN_FINISHED

# Where the API is, if that is not its public address.
ENDPOINT = "LIFECYCLE_CLOUD_MONITORING_ENDPOINT"
# The label of a run that names its project.
PROJECT = "lifecycle_project"


def tell_cloud_monitoring(
    job: VertexJob | None,
    pipeline: str,
    state: str,
    environment: Mapping[str, str] = os.environ,
    now: datetime | None = None,
) -> None:
    """Write when and how a run ended. An account that may not is said in the log, and changes nothing.

    Args:
        job: The run; None on another platform: nothing is written.
        pipeline: Its name.
        state: How it ended.
        environment: The step's variables.
        now: When; by default now.
    """
    if job is None:
        return
    api = environment.get(ENDPOINT, "https://monitoring.googleapis.com")
    series = time_series(job, pipeline, state, now or datetime.now(UTC))
    request = urllib.request.Request(
        f"{api}/v3/projects/{job.project}/timeSeries",
        json.dumps({"timeSeries": [series]}).encode(),
        {"Authorization": f"Bearer {job.token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return
    except FAILURES as error:
        why = f"{type(error).__name__}: {error}"
        print(f"Cloud Monitoring is not told of the run's end, which takes monitoring.timeSeries.create: {why}",
              file=sys.stderr)  # fmt: skip


def time_series(job: VertexJob, pipeline: str, state: str, now: datetime) -> dict[str, Any]:
    """One point, as `projects.timeSeries.create` takes it: the time (Unix), labelled as Prometheus has it."""
    project = job.record.get("labels", {}).get(PROJECT, "")
    return {
        "metric": {
            "type": f"custom.googleapis.com/{RUN_FINISHED}",
            "labels": {"project": project, "pipeline": pipeline, "state": state},
        },
        "resource": {
            "type": "generic_task",
            "labels": {"location": job.location, "namespace": project, "job": pipeline, "task_id": "newest"},
        },
        "metricKind": "GAUGE",
        "valueType": "INT64",
        "points": [
            {
                "interval": {"endTime": now.astimezone(UTC).isoformat(timespec="seconds")},
                "value": {"int64Value": str(int(now.timestamp()))},
            }
        ],
    }
