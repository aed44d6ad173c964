"""Steps of the training pipeline in real, Restricted pods with limits, as Kubeflow Pipelines would start them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kfp_lifecycle.artifacts.serving import ServingTrial
from kfp_lifecycle.backends.kubeflow.pods import reasons_of_pods
from tests.kubernetes_api import ADMIN
from tests.kubernetes_node.node import wait_until
from tests.kubernetes_node.pods import RESTRICTED
from tests.node.step_pods import RUN, terminated
from tests.node.training_run import TrainingRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# What its account may not do; what waits for that, and what belongs to the branch that was not taken.
REFUSED, NEVER_CAME_TO = "release-model", {"promote-model", "write-report", "write-report-2"}
BEGIN_SECONDS = 60


def test_every_step_does_its_work_in_a_restricted_pod_with_its_limit(training: TrainingRun) -> None:
    node, name = training.namespace.node, training.namespace.name
    assert node.core.read_namespace(name).metadata.labels.items() >= RESTRICTED.items()
    pods = training.recorder.pods
    assert set(training.pipeline.containers) - set(pods) == NEVER_CAME_TO
    codes = {step: terminated(pod).exit_code for step, pod in pods.items()}
    assert codes == {**dict.fromkeys(pods, 0), REFUSED: 1}
    for step, pod in pods.items():
        (container,) = pod.spec.containers
        assert container.resources.limits == {"memory": "3Gi"}, step
        assert container.security_context.run_as_non_root, step
        assert any(mount.name == "data" for mount in container.volume_mounts), step
        assert any(variable.name == "STORE_PASSWORD" for variable in container.env), step


def test_what_it_learned_is_a_model_that_a_real_server_answers_for(training: TrainingRun) -> None:
    verdict = json.loads(training.artifact("decide-promotion", "verdict").read_text("utf-8"))
    assert verdict["decision"] == "approved"
    trial = ServingTrial.read(training.artifact("validate-serving", "servable_model"))
    assert trial.server.peak_memory_mb > 0
    assert len(trial.examples) > 0


def test_a_step_that_fails_leaves_its_reason_as_its_pods_termination_message(training: TrainingRun) -> None:
    ended = terminated(training.recorder.pods[REFUSED])
    assert ended.reason == "Error"
    assert "cannot get resource" in ended.message
    assert ended.message.endswith(
        "The pipeline's service account needs get, create, patch and delete on inferenceservices.serving.kserve.io "
        "there, and the rest of the role in docs/cluster-releases.md."
    )


def test_the_exit_handler_finds_step_and_reason_among_the_pods(training: TrainingRun) -> None:
    said = training.artifact("notify", "message").read_text("utf-8")
    assert said.startswith("**training: failed at release model.**")
    assert "The pipeline's service account needs get, create, patch and delete" in said


@pytest.fixture
def pods(training: TrainingRun) -> Iterator[list[str]]:
    """Names of pods that a test makes."""
    made: list[str] = []
    yield made
    for name in made:
        training.namespace.node.core.delete_namespaced_pod(name, training.namespace.name, grace_period_seconds=0)


def reason(training: TrainingRun, pods: list[str], change: Mapping[str, Any]) -> str:
    """What is said of the pod of `train_model` where its container is another."""
    namespace = training.namespace
    sent = copy.deepcopy(training.recorder.sent["train-model"])
    sent["spec"]["containers"][0] |= change
    name = namespace.create(sent)
    pods.append(name)
    api = namespace.node.api.client(ADMIN)

    def said() -> str:
        return reasons_of_pods(api, namespace.name, RUN).get(name, "")

    return str(wait_until(said, BEGIN_SECONDS, lambda: str(namespace.pod(name).status)))


def test_a_step_out_of_memory_says_so_and_which_setting_to_raise(training: TrainingRun, pods: list[str]) -> None:
    small = {"resources": {"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}}}
    assert reason(training, pods, small) == (
        "It was out of memory: it took more memory than the 100Mi that it may have. Raise "
        "targets.kubeflow.steps.train_model.memory_limit."
    )


def test_an_image_that_cannot_be_pulled_is_said_within_a_minute_in_the_pods_own_words(
    training: TrainingRun, pods: list[str]
) -> None:
    image = "registry.example/ml/kfp-lifecycle-modelling:was-not-pushed"
    said = reason(training, pods, {"image": image})
    assert said.startswith("Its image cannot be pulled (")
    assert image in said
    assert said.endswith(
        "Build and push it (make images), or name the secret of its registry in targets.kubeflow.pull_secrets."
    )


def test_a_secret_that_is_not_there_is_said(training: TrainingRun, pods: list[str]) -> None:
    absent = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "a"}}}
    said = reason(training, pods, {"env": [absent]})
    assert said.startswith('Its container cannot be made (CreateContainerConfigError: secret "absent" not found).')


def test_a_step_that_no_node_has_room_for_says_so(training: TrainingRun, pods: list[str]) -> None:
    large = {"resources": {"requests": {"cpu": "64"}}}
    said = reason(training, pods, large)
    assert "Insufficient cpu" in said
    assert "Lower targets.kubeflow.steps.train_model.cpu or memory" in said
