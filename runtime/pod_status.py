"""Words for what Kubernetes says of a step's pod: why it ended without its own words, or cannot begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTING = "targets.kubeflow.steps"
# Reasons of a container that waits for its image.
WITHOUT_IMAGE = frozenset(
    {"ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName"}
)
# Reasons of a container that cannot be made of what its pod says: a secret or one of its keys that is not there.
WITHOUT_CONTENT = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def pod_reason(pod: Mapping[str, Any], step: str, container: str = "main") -> str:
    """Why a step's pod failed, or does not begin; empty where Kubernetes has no reason beside an exit code.

    Args:
        pod: The pod as the API has it, in JSON.
        step: The component's name, as `targets.kubeflow.steps` has it.
        container: The name of the container that runs the step.
    """
    status = pod.get("status", {})
    states = {item["name"]: item.get("state", {}) for item in status.get("containerStatuses") or []}
    return _why_it_ended(pod, states.get(container, {}), step, container) or _why_it_waits(
        status, states.get(container, {}), step
    )


def _why_it_ended(pod: Mapping[str, Any], state: Mapping[str, Any], step: str, container: str) -> str:
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return (
            f"Its pod was evicted: {_said(status)}. Raise {SETTING}.{step}.memory to what the step takes, so that it "
            "is put where there is room for it."
        )
    if status.get("reason") == "DeadlineExceeded":
        return f"It was ended after {SETTING}.{step}.timeout_seconds. Raise that, or give the step less to do."
    if (state.get("terminated") or {}).get("reason") == "OOMKilled":
        limit = _memory_limit(pod, container)
        given = f"more memory than the {limit} that it may have" if limit else "more memory than its node had"
        return f"It was out of memory: it took {given}. Raise {SETTING}.{step}.{'memory_limit' if limit else 'memory'}."
    return ""


def _why_it_waits(status: Mapping[str, Any], state: Mapping[str, Any], step: str) -> str:
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in WITHOUT_IMAGE:
        return (
            f"Its image cannot be pulled ({_said(waiting)}). Build and push it (make images), or name the secret of "
            "its registry in targets.kubeflow.pull_secrets."
        )
    if waiting.get("reason") in WITHOUT_CONTENT:
        return (
            f"Its container cannot be made ({_said(waiting)}). See that the secrets, config maps and claims that "
            "targets.kubeflow names are in the namespace."
        )
    unplaced = next((item for item in status.get("conditions") or [] if item.get("reason") == "Unschedulable"), None)
    if unplaced is not None and status.get("phase") == "Pending":
        return (
            f"No node has room for it ({unplaced.get('message', '')}). Lower {SETTING}.{step}.cpu or memory, or let it "
            "on other nodes (node_selector, tolerations)."
        )
    return ""


def _memory_limit(pod: Mapping[str, Any], container: str) -> str:
    (found,) = (item for item in pod["spec"]["containers"] if item["name"] == container)
    return str(found.get("resources", {}).get("limits", {}).get("memory", ""))


def _said(state: Mapping[str, Any]) -> str:
    return ": ".join(str(state[key]) for key in ("reason", "message") if state.get(key)).rstrip(".")
