"""Server's pods, made of the InferenceService's own template: probes, two replicas, a change under load, a kill.

A Deployment and a Service stand for what Knative makes of the template. Two things are not the template's: the model's
folder, which a claim brings in the place of KServe's storage initializer, and the pause before a pod is ended, in which
Knative's proxy lets requests come to their end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.serving import ServingTrial
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.client import Client, v2_request
from kfp_lifecycle.serving.container import Container
from kfp_lifecycle.serving.payload_logger import LoggedModel
from kfp_lifecycle.serving.release.kserve.inference_service import inference_service
from kfp_lifecycle.serving.release.kserve.predictor import MODEL_FOLDER
from tests.kubernetes_api import ADMIN
from tests.kubernetes_node.node import wait_until
from tests.node.environment_images import image_of
from tests.node.training_run import TrainingRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MODEL, PORT, REPLICAS = "churn", 80, 2
READY_SECONDS = 120.0
# Rows of each writer's files, hour by hour: an Arrow stream while it is written, or where its server was killed, and
# Parquet later. `<hour>-<version>-<host>-…` is what they are called.
COUNT = """
import collections, json, pathlib, sys
import pyarrow, pyarrow.parquet
rows = collections.Counter()
for file in pathlib.Path(sys.argv[1]).glob("*/*"):
    writer = file.stem.partition("-")[2]
    if file.suffix == ".parquet":
        rows[writer] += pyarrow.parquet.read_metadata(file).num_rows
    elif file.suffix == ".arrows" and not file.with_suffix(".parquet").exists():
        try:
            for batch in pyarrow.ipc.open_stream(file):
                rows[writer] += batch.num_rows
        except (OSError, pyarrow.ArrowInvalid):
            pass
print(json.dumps(rows))
"""


@dataclass
class Served:
    """The pods, and how they are reached."""

    run: TrainingRun
    address: str
    predictions: Path
    request: dict[str, Any]

    @property
    def apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.run.namespace.node.api.client(ADMIN))

    def pods(self) -> list[Any]:
        """Pods that are not about to go."""
        found = self.run.namespace.node.core.list_namespaced_pod(self.run.namespace.name, label_selector="app=server")
        return [pod for pod in found.items if pod.metadata.deletion_timestamp is None]

    def wait(self, version: str) -> None:
        """Until as many pods as wanted are ready, and all of them are of a version."""

        def ready() -> bool:
            pods = self.pods()
            states = [
                (f"--version={version}" in pod.spec.containers[0].args, status.ready)
                for pod in pods
                for status in pod.status.container_statuses or []
            ]
            return states == [(True, True)] * REPLICAS

        wait_until(ready, READY_SECONDS, lambda: str([pod.status for pod in self.pods()]))

    def ask(self, connection: Client) -> tuple[int, str]:
        """Status and version of an answer."""
        answer = connection.post(f"/v2/models/{MODEL}/infer", self.request)
        return answer.status, answer.json()["model_version"] if answer.status == 200 else answer.body[:300]

    def logs(self) -> dict[str, int]:
        """Rows of each writer of the prediction log."""
        command = [interpreter("modelling"), "-c", COUNT, str(self.predictions / MODEL)]
        counted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return dict(json.loads(counted))


@pytest.fixture(scope="module")
def served(training: TrainingRun) -> Iterator[Served]:
    namespace, data = training.namespace, training.data
    model = training.artifact("validate-serving", "servable_model")
    namespace.claim("model", model, read_only=True)
    locations = Locations(
        tracking_uri="http://mlflow",
        dataset_remote="s3://datasets",
        online_store=f"{data}/online.db",
        prediction_log=f"{data}/served",
        serving=f"kserve:{namespace.name}",
    )
    service = inference_service(
        namespace.name,
        Deployment(model=MODEL, min_replicas=REPLICAS),
        locations,
        version="1",
        before=None,
        uri="s3://models/churn",
        logged=LoggedModel(entity_key="customer_id", threshold=0.5),
        container=Container(image_of("serving"), volumes={"data": str(data)}),
        shadow_token="token",
    )
    predictor = client.ApiClient().sanitize_for_serialization(service)["spec"]["predictor"]
    (container,) = predictor["containers"]
    container["volumeMounts"].append({"name": "model", "mountPath": MODEL_FOLDER, "readOnly": True})
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 4}}}
    claim = {"name": "model", "persistentVolumeClaim": {"claimName": "model", "readOnly": True}}
    labels = {"app": "server"}
    metadata = {"name": "server", "namespace": namespace.name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": [*predictor["volumes"], claim]},
    }
    # A change adds a pod before it takes one away.
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    namespace.node.api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": predictor["minReplicas"],
                "selector": {"matchLabels": labels},
                "strategy": strategy,
                "template": template,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": 8080}]},
        },
    )
    address = namespace.node.core.read_namespaced_service("server", namespace.name).spec.cluster_ip
    example = ServingTrial.read(model).examples[0]
    request = v2_request(Model.read(model).inputs, [example.features])
    made = Served(training, address, data / "served", request)
    made.wait("1")
    yield made
    made.apps.delete_namespaced_deployment("server", namespace.name)


@dataclass
class Load:
    """What came of requests that were sent all the time, each over a connection of its own or all over one."""

    answers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]


@contextmanager
def load(served: Served, *, clients: int = 4) -> Iterator[Load]:
    """Ask all the time meanwhile."""
    seen, end = Load(), threading.Event()

    def ask() -> None:
        while not end.is_set():
            with Client(PORT, served.address) as connection:
                seen.answers.append(served.ask(connection))
            time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_two_replicas_are_ready_by_the_templates_probe_and_each_writes_a_log_of_its_own(served: Served) -> None:
    assert {pod.status.container_statuses[0].restart_count for pod in served.pods()} == {0}
    with load(served) as seen:
        # A pod that is ready is not at once among those that the service's address leads to.
        wait_until(
            lambda: len(seen.answers) >= 200 and len(served.logs()) == REPLICAS,
            120,
            lambda: f"{len(seen.answers)} answers, logs {served.logs()}",
        )
    assert seen.failed == []
    wait_until(lambda: sum(served.logs().values()) >= len(seen.answers), 60, lambda: str(served.logs()))
    # A dash parts what a file's name says.
    names = {pod.metadata.name.replace("-", "_") for pod in served.pods()}
    assert all(any(name in writer for writer in served.logs()) for name in names)


def test_a_change_of_version_under_load_fails_no_request_and_loses_no_line_of_the_log(served: Served) -> None:
    before = sum(served.logs().values())
    deployment = served.apps.read_namespaced_deployment("server", served.run.namespace.name)
    (container,) = deployment.spec.template.spec.containers
    container.args = [argument.replace("--version=1", "--version=2") for argument in container.args]
    with load(served) as seen:
        served.apps.replace_namespaced_deployment("server", served.run.namespace.name, deployment)
        served.wait("2")
        # Those of version 1 end only after their pause.
        wait_until(lambda: len(all_pods(served)) == REPLICAS, 60, lambda: str(len(all_pods(served))))
    assert seen.failed == []
    assert {version for _, version in seen.answers} == {"1", "2"}
    expected = before + len(seen.answers)
    wait_until(lambda: sum(served.logs().values()) == expected, 30, lambda: f"{served.logs()}, not {expected}")


def all_pods(served: Served) -> list[Any]:
    namespace = served.run.namespace
    return list(namespace.node.core.list_namespaced_pod(namespace.name, label_selector="app=server").items)


def test_a_server_that_is_killed_comes_back_while_the_other_answers(served: Served) -> None:
    killed = min(served.pods(), key=lambda pod: pod.metadata.name)
    name = killed.metadata.name
    os.kill(process_of(killed.status.container_statuses[0].container_id), signal.SIGKILL)

    def restarted() -> bool:
        (status,) = served.run.namespace.pod(name).status.container_statuses
        return status.restart_count == 1 and bool(status.ready)

    wait_until(restarted, READY_SECONDS, lambda: str(served.run.namespace.pod(name).status))
    (status,) = served.run.namespace.pod(name).status.container_statuses
    assert status.last_state.terminated.exit_code == 128 + signal.SIGKILL
    with load(served) as seen:
        wait_until(lambda: len(seen.answers) >= 50, 60, lambda: f"{len(seen.answers)} answers")
    assert seen.failed == []


def process_of(container_id: str) -> int:
    """The server in a container, by its control group."""
    wanted = container_id.rpartition("/")[2]
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            inside = wanted in file.read_text("utf-8")
        except OSError:
            continue
        if inside:
            return int(file.parent.name)
    raise AssertionError(f"there is no process of {container_id}")
