"""Pods of a run, asked of Kubernetes: why a step ended without a word, or does not begin."""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.backends.kubeflow.cluster import ask
from kfp_lifecycle.runtime.pod_status import pod_reason

# What Kubeflow Pipelines gives the pods of a run; the container that runs a step, and what names the step to it.
RUN_LABEL, MAIN, STEP_OPTION = "pipeline/runid", "main", "--function_to_execute"


def reasons_of_pods(api: Any, namespace: str, run_id: str) -> dict[str, str]:
    """What Kubernetes has to say of a run's pods, by their names; only of those that it has something to say of.

    Args:
        api: Kubernetes' client (`cluster.kubernetes_api`).
        namespace: Where the run's pods are.
        run_id: The run's id, as Kubeflow Pipelines has it.

    Raises:
        BackendError: Kubernetes refuses, or does not answer.
    """
    import kubernetes

    core = kubernetes.client.CoreV1Api(api)
    pods = ask(core.list_namespaced_pod, namespace, label_selector=f"{RUN_LABEL}={run_id}").items
    found = {pod["metadata"]["name"]: pod_reason(pod, _step(pod)) for pod in map(api.sanitize_for_serialization, pods)}
    return {name: reason for name, reason in found.items() if reason}


def _step(pod: dict[str, Any]) -> str:
    """The component that a pod runs."""
    main: dict[str, Any] = next((item for item in pod["spec"]["containers"] if item["name"] == MAIN), {})
    words = [*main.get("command", []), *main.get("args", [])]
    return str(words[words.index(STEP_OPTION) + 1]) if STEP_OPTION in words[:-1] else "STEP"
