"""Failed pods of the run, asked of Kubernetes: a Kubeflow tells its exit handler neither which step failed nor why."""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.pod_status import pod_reason

# What Kubernetes gives every pod, and Kubeflow Pipelines every step.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT, POD = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KFP_POD_NAME"
RUN_LABEL = "pipeline/runid"
# The container that runs a step, and what names the step in its command.
MAIN, STEP_OPTION = "main", "--function_to_execute"
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class FailedPod:
    """A step that failed."""

    step: str
    """Its component's name."""
    reason: str
    """Its termination message; empty where it left none."""


def failed_pods(environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> list[FailedPod]:
    """The steps of this step's run that failed, as far as their pods are there.

    None where this is no pod of a Kubeflow, and where its account may not read pods, which the log then says; the
    account of a Kubeflow's runs may.
    """
    if not environment.get(HOST) or not environment.get(POD) or not account.is_dir():
        return []
    try:
        namespace = (account / "namespace").read_text("utf-8").strip()
        path = f"/api/v1/namespaces/{namespace}/pods"
        own = _get(f"{path}/{environment[POD]}", environment, account)
        selector = urllib.parse.quote(f"{RUN_LABEL}={own['metadata']['labels'][RUN_LABEL]}", safe="")
        pods = _get(f"{path}?labelSelector={selector}", environment, account)["items"]
    except (OSError, ValueError, KeyError) as error:
        print(f"Kubernetes does not tell which step failed: {type(error).__name__}: {error}", file=sys.stderr)
        return []
    ended = [pod for pod in map(_failed, pods) if pod is not None]
    return sorted(ended, key=lambda pod: pod.step)


def _failed(pod: Mapping[str, Any]) -> FailedPod | None:
    containers = {item["name"]: item for item in pod["spec"]["containers"]}
    states = {item["name"]: item["state"] for item in pod["status"].get("containerStatuses", [])}
    ended = states.get(MAIN, {}).get("terminated") or {}
    words = [*containers.get(MAIN, {}).get("command", []), *containers.get(MAIN, {}).get("args", [])]
    if not ended.get("exitCode") or STEP_OPTION not in words[:-1]:
        return None
    step = words[words.index(STEP_OPTION) + 1]
    # Without words of its own: out of memory, say. A step's error is none.
    unsaid = "" if ended.get("reason") == "Error" else ended.get("reason", "")
    reason = ended.get("message") or pod_reason(pod, step, MAIN) or unsaid
    return FailedPod(step, reason.strip())


def _get(path: str, environment: Mapping[str, str], account: Path) -> Any:
    """One object, or a list of them, of the cluster this runs in."""
    request = urllib.request.Request(
        f"https://{environment[HOST]}:{environment.get(PORT, '443')}{path}",
        headers={"Authorization": f"Bearer {(account / 'token').read_text('utf-8').strip()}"},
    )
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)
