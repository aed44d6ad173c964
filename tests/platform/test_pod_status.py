"""What Kubernetes says of a step's pod, in words: those of its reasons that no small node gives at will."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kfp_lifecycle.backends.backend import Backend, RunStatus, RunSummary
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.pod_status import pod_reason
from kfp_lifecycle.runtime.states import RunState, State


def pod(status: dict[str, Any]) -> dict[str, Any]:
    main = {"name": "main", "resources": {"limits": {"memory": "2Gi"}}}
    return {"spec": {"containers": [{"name": "wait"}, main]}, "status": status}


def ended(name: str, reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "state": {"terminated": {"exitCode": 1, "reason": reason}}}]}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Its pod was evicted: Evicted: The node was low on resource: memory. Raise "
            "targets.kubeflow.steps.train_model.memory to what the step takes, so that it is put where there is room "
            "for it.",
        ),
        (
            {"phase": "Failed", "reason": "DeadlineExceeded"},
            "It was ended after targets.kubeflow.steps.train_model.timeout_seconds. Raise that, or give the step less "
            "to do.",
        ),
        (
            ended("main", "OOMKilled"),
            "It was out of memory: it took more memory than the 2Gi that it may have. Raise "
            "targets.kubeflow.steps.train_model.memory_limit.",
        ),
        # Its exit code says no more than its log.
        (ended("main", "Error"), ""),
        # Another container of the pod.
        (ended("wait", "OOMKilled"), ""),
        ({}, ""),
    ],
)
def test_the_reason_and_the_setting_are_said(status: dict[str, Any], said: str) -> None:
    assert pod_reason(pod(status), "train_model") == said


def test_whoever_watches_is_told_once_that_a_step_does_not_begin() -> None:
    waits = StepRecord("train-model", State.waiting, reason="Its image cannot be pulled (ErrImagePull).")
    now = datetime.now(UTC)

    def status(state: RunState) -> RunStatus:
        return RunStatus(
            RunSummary("7", "training-1", "training", "churn", state, now, None, ""), RunProgress({waits.name: waits})
        )

    states = iter([RunState.running, RunState.running, RunState.failed])
    backend = SimpleNamespace(status=lambda run: status(next(states)), target="kubeflow")
    said: list[str] = []
    watch(cast(Backend, backend), "7", lambda now: None, said.append, pause=0)
    assert said == ["train-model does not begin. Its image cannot be pulled (ErrImagePull)."]
