"""Process of one run of the stand-in for Kubeflow Pipelines, whose steps are pods of a node.

They are called as Argo calls them, so that what asks Kubernetes of them finds them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kfp.local import status
from kubernetes import client

from tests.control_planes.kubeflow import KubeflowStandIn, Settings, run_process
from tests.control_planes.kubeflow.order import Order
from tests.kubernetes_api import ADMIN, ApiServer
from tests.kubernetes_node.node import wait_until
from tests.kubernetes_node.pods import Namespace
from tests.node.step_pods import STEP_SECONDS, Pipeline, output_places, pod_of_step

VARIABLE = "LIFECYCLE_TEST_PODS"
# The claim on the stand-in's object store, which every pod mounts in the place of the launcher.
OBJECTS = "objects"


@dataclass(frozen=True)
class Place:
    """Where the pods of runs are, as the processes of runs are told."""

    url: str
    authority: str
    namespace: str
    account: str

    @classmethod
    def read(cls) -> Place:
        """As the stand-in's process says."""
        return cls(**json.loads(os.environ[VARIABLE]))


class KubeflowOnNode(KubeflowStandIn):
    """A Kubeflow Pipelines whose steps are real pods."""

    RUN_PROCESS = "tests.node.run_in_pods"


@contextmanager
def kubeflow_on_node(namespace: Namespace, account: str, folder: Path, settings: Settings) -> Iterator[KubeflowOnNode]:
    """Start one.

    Args:
        namespace: Where the pods are.
        account: The service account that they work as.
        folder: For its state.
        settings: How it is set up.
    """
    api = namespace.node.api
    place = Place(api.url, str(api.authority), namespace.name, account)
    previous = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, json.dumps(asdict(place)))
            with KubeflowOnNode(folder, settings=settings) as server:
                namespace.claim(OBJECTS, server.objects)
                yield server
    finally:
        os.umask(previous)


class NodeTaskHandler(run_process.PodTaskHandler):
    """Runs a container in a pod of the node."""

    place: ClassVar[Place]
    pipeline: ClassVar[Pipeline]

    def run(self) -> status.Status:
        """Run the pod to its end, or until the run is terminated."""
        conductor, order = self.conductor, self.conductor.order
        at = self.full_command.index("--executor_input") + 1
        executor_input = json.loads(self.full_command[at])
        command = list(self.full_command)
        command[at] = json.dumps(self._with_failure(executor_input))
        for file in output_places(executor_input):
            file.parent.mkdir(parents=True, exist_ok=True)
        step, name = conductor.step.label.removeprefix("exec-"), self._pod()
        sent = pod_of_step(step, self.pipeline, command, {OBJECTS: Path(order.objects)}, order.run_id)
        sent["metadata"] = {"name": name, "labels": sent["metadata"]["labels"]}
        sent["spec"]["serviceAccountName"] = self.place.account
        api = ApiServer(self.place.url, Path(self.place.authority))
        core = client.CoreV1Api(api.client(ADMIN))
        core.create_namespaced_pod(self.place.namespace, sent)
        begun = False

        def ended() -> Any:
            nonlocal begun
            pod = core.read_namespaced_pod(name, self.place.namespace)
            if pod.status.phase == "Running" and not begun:
                begun = True
                conductor.pod_runs()
            return conductor.terminating.is_set() or (pod.status.phase in ("Succeeded", "Failed") and pod)

        pod = wait_until(ended, STEP_SECONDS, lambda: name)
        if pod is True:
            core.delete_namespaced_pod(name, self.place.namespace, grace_period_seconds=0)
            return status.Status.FAILURE
        log = core.read_namespaced_pod_log(name, self.place.namespace)
        (self.session.logs / f"{name}.log").write_text(log, "utf-8")
        return status.Status.SUCCESS if pod.status.phase == "Succeeded" else status.Status.FAILURE


def main(folder: Path) -> None:
    """Run an order to its end."""
    # The user of pods is not that of tests.
    os.umask(0)
    NodeTaskHandler.place, NodeTaskHandler.pipeline = Place.read(), Pipeline.read(Path(Order.read(folder).pipeline))
    vars(run_process).update(PodTaskHandler=NodeTaskHandler)
    run_process.main(folder)
