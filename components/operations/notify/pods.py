"""Pods of the run, asked of Kubernetes: a Kubeflow tells its exit handler neither which step failed and why, nor what
was decided."""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp_lifecycle.components.operations.notify.decisions import Decision, decision_in, in_order
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


@dataclass(frozen=True)
class Told:
    """What the pods of a run tell."""

    failed: list[FailedPod] = field(default_factory=list)
    decided: list[Decision] = field(default_factory=list)


def told_by_pods(environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> Told:
    """Which steps of this step's run failed, and what was decided, as far as their pods are there.

    None where this is no pod of a Kubeflow, and where its account may not read pods, which the log then says; the
    account of a Kubeflow's runs may.
    """
    if not environment.get(HOST) or not environment.get(POD) or not account.is_dir():
        return Told()
    try:
        namespace = (account / "namespace").read_text("utf-8").strip()
        path = f"/api/v1/namespaces/{namespace}/pods"
        own = _get(f"{path}/{environment[POD]}", environment, account)
        selector = urllib.parse.quote(f"{RUN_LABEL}={own['metadata']['labels'][RUN_LABEL]}", safe="")
        pods = _get(f"{path}?labelSelector={selector}", environment, account)["items"]
    except (OSError, ValueError, KeyError) as error:
        print(f"Kubernetes does not tell what became of the steps: {type(error).__name__}: {error}", file=sys.stderr)
        return Told()
    ended = [(step, end, pod) for pod in pods for step, end in _ended(pod)]
    failed = [_failed(step, end, pod) for step, end, pod in ended if end.get("exitCode")]
    decided = [decision_in(step, end.get("message", "")) for step, end, _ in ended if not end.get("exitCode")]
    return Told(sorted(failed, key=lambda pod: pod.step), in_order(filter(None, decided)))


def _ended(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The step that a pod ran to its end, if it ran one, and how it ended."""
    containers = {item["name"]: item for item in pod["spec"]["containers"]}
    states = {item["name"]: item["state"] for item in pod["status"].get("containerStatuses", [])}
    ended = states.get(MAIN, {}).get("terminated")
    words = [*containers.get(MAIN, {}).get("command", []), *containers.get(MAIN, {}).get("args", [])]
    if ended and STEP_OPTION in words[:-1]:
        yield words[words.index(STEP_OPTION) + 1], ended


def _failed(step: str, ended: Mapping[str, Any], pod: Mapping[str, Any]) -> FailedPod:
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
