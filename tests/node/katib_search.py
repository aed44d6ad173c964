"""Searches with Katib in the node: the step's pod as compiled, under an account that may do what the docs say."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.closure import ROOT
from tests.kubernetes_api import ADMIN, rights_of_the_docs
from tests.kubernetes_node.node import Node
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node import katib_installation
from tests.node.environment_images import REGISTRY, build_images, environment_folder
from tests.node.step_pods import Pipeline, pod_of_step
from tests.servers import object_store

STEP, BUCKET = "tune-with-katib", "mlpipeline"
CLAIM = "/data"
# Those of the step and of trials.
ENVIRONMENTS = ("katib", "modelling")
# Of one parameter the service suggests the same with the same seed; of several, in the order in which Go has them.
# Where a leaf needs more than half of a fold's 1,000 rows the model learns nothing, and its AUC is 0.5.
SPACE = {"min_samples_leaf": {"type": "int", "low": 1, "high": 1000}}
SEED, SUGGESTED = 0, [100, 100, 419, 326, 693]
WRITE_TRAINING_SET = """
import sys
from pathlib import Path
from tests.modelling.business import write_training_set
write_training_set(Path(sys.argv[1]))
"""
SEARCH_SECONDS = 600
# What Katib makes of an experiment.
MADE = ("experiments", "suggestions", "trials")


@dataclass(frozen=True)
class Searches:
    """A namespace for searches, and the training set that they learn from."""

    namespace: Namespace
    pipeline: Pipeline
    told: dict[str, Any]
    """The parameters that were compiled into the step."""
    folder: Path

    def start(
        self, name: str, training_set: str = f"minio://{BUCKET}/set", image: str | None = None, **tuning: Any
    ) -> str:
        """Start the step; the name of its pod.

        Args:
            name: Of the project, and of the folder for what the step writes.
            training_set: URI of the training set.
            image: Image of the trials, where it is another than was compiled.
            tuning: Settings of the search.
        """
        outputs = self.folder / name
        outputs.mkdir(exist_ok=True)
        default = Parameters(parameters={"max_iter": 20}, default_value=0.5, folds=["a fold"] * 2)
        default.write(outputs / "default")
        settings = {**self.told["settings"], "name": name, "tuning": search_of(**tuning)}
        settings["training"] = {**settings.get("training", {}), "parameters": {"max_iter": 20}, "seed": SEED}
        settings["label"] = {"horizon_days": 30}
        place = f"{CLAIM}/{name}"
        given = {
            "inputs": {
                "parameterValues": {**self.told, "settings": settings, **({"image": image} if image else {})},
                "artifacts": {
                    "training_set": artifact("training_set", training_set),
                    "default": artifact("default", f"{place}/default"),
                },
            },
            "outputs": {
                "artifacts": {
                    "parameters": artifact("parameters", f"{place}/parameters"),
                    "study": artifact("study", f"{place}/study.html", "HTML"),
                },
                "outputFile": f"{place}/executor_output.json",
            },
        }
        container = self.pipeline.containers[STEP]
        command = [*container["command"], *container["args"]]
        command[command.index("{{$}}")] = json.dumps(given)
        return self.namespace.create(pod_of_step(STEP, self.pipeline, command))

    def ended(self, pod: str) -> Any:
        """How the container of a step ended, which is waited for."""
        (status,) = self.namespace.ended(pod, SEARCH_SECONDS).status.container_statuses
        return status.state.terminated

    def parameters(self, name: str) -> dict[str, Any]:
        """What a step chose."""
        found: dict[str, Any] = json.loads((self.folder / name / "parameters").read_text("utf-8"))
        return found

    def made(self, kind: str) -> list[dict[str, Any]]:
        """What there is of one of Katib's kinds."""
        api = client.CustomObjectsApi(self.namespace.node.api.client(ADMIN))
        found = api.list_namespaced_custom_object("kubeflow.org", "v1beta1", self.namespace.name, kind)
        return list(found["items"])

    def forget(self) -> None:
        """Delete all experiments, with all that they made."""
        api = client.CustomObjectsApi(self.namespace.node.api.client(ADMIN))
        for item in self.made("experiments"):
            name = item["metadata"]["name"]
            api.delete_namespaced_custom_object("kubeflow.org", "v1beta1", self.namespace.name, "experiments", name)

    def pods(self) -> dict[str, Any]:
        """The pods there are, by their names."""
        found = self.namespace.node.core.list_namespaced_pod(self.namespace.name).items
        return {pod.metadata.name: pod for pod in found}

    def left(self) -> list[str]:
        """All that a search made and that is there still."""
        api, name = self.namespace.node.api.client(ADMIN), self.namespace.name
        found = [item for kind in MADE for item in self.made(kind)]
        apps, batch = client.AppsV1Api(api), client.BatchV1Api(api)
        objects = [*apps.list_namespaced_deployment(name).items, *batch.list_namespaced_job(name).items]
        objects += self.namespace.node.core.list_namespaced_service(name).items
        objects += [pod for pod_name, pod in self.pods().items() if not pod_name.startswith(STEP)]
        return [item["metadata"]["name"] for item in found] + [item.metadata.name for item in objects]


def search_of(**tuning: Any) -> dict[str, Any]:
    """The section `tuning` of a search of the tests."""
    katib = {"service_account": "default", "cpu": "700m", "memory": "1Gi", **tuning.pop("katib", {})}
    common = {"engine": "katib", "parallel_trials": 2, "timeout_seconds": 600, "space": SPACE}
    return {**common, **tuning, "katib": katib}


def artifact(name: str, uri: str, kind: str = "Artifact") -> dict[str, Any]:
    """An artifact, as Kubeflow tells a step of it."""
    kinds = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": kinds, "uri": uri, "metadata": {}}]}


@contextmanager
def searches(node: Node, folder: Path) -> Iterator[Searches]:
    """Install Katib, and have a namespace for searches, with an object store where Kubeflow has its own."""
    previous = os.umask(0)
    try:
        (folder / "steps").mkdir()
        file = folder / "training.yaml"
        settings = ["tuning.engine=katib", f"targets.kubeflow.volumes={{data: {CLAIM}}}"]
        compile_pipeline("training", "kubeflow", ROOT, file, overrides=settings, image_registry=REGISTRY)
        for image in build_images(ENVIRONMENTS):
            node.load(image)
        katib_installation.install(node)
        katib_installation.give_packages(node)
        with (
            addressed_by_path(),
            object_store("s3", node.address_of_the_machine) as url,
            new_namespace(node) as namespace,
        ):
            provide_objects(node, url, folder)
            node.core.patch_namespace(namespace.name, {"metadata": {"labels": katib_installation.LABELS}})
            namespace.secret("mlpipeline-minio-artifact", {"accesskey": "key", "secretkey": "secret"})
            namespace.claim("data", folder / "steps")
            for environment in ENVIRONMENTS:
                namespace.claim(f"environment-{environment}", environment_folder(environment), read_only=True)
            role, _ = rights_of_the_docs(ROOT / "docs" / "tuning.md", namespace.name)
            namespace.allow("tuning", role["rules"])
            yield Searches(namespace, Pipeline.read(file), compiled_parameters(file), folder / "steps")
    finally:
        os.umask(previous)


@contextmanager
def addressed_by_path() -> Iterator[None]:
    """Keep moto from taking the first part of its host's name, which is a Service's here, for a bucket's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")
        yield


def provide_objects(node: Node, url: str, folder: Path) -> None:
    """Fill an object store of the machine with a training set, and name it as Kubeflow's own in the cluster."""
    variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [str(interpreter("modelling")), "-c", WRITE_TRAINING_SET, str(folder / "set")]
    subprocess.run(command, check=True, env=variables)
    with httpx.Client(base_url=url, trust_env=False) as store:
        store.put(f"/{BUCKET}").raise_for_status()
        for name in ("training_set.json", "train.parquet"):
            store.put(f"/{BUCKET}/set/{name}", content=(folder / "set" / name).read_bytes()).raise_for_status()
    host, _, port = url.removeprefix("http://").partition(":")
    metadata = {"name": "minio-service", "namespace": katib_installation.NAMESPACE}
    ports = [{"port": 9000, "targetPort": int(port)}]
    addresses = {"addresses": [{"ip": host}], "ports": [{"port": int(port)}]}
    node.api.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [addresses]},
    )


def compiled_parameters(file: Path) -> dict[str, Any]:
    """The constants that a compiled pipeline gives the step."""
    pipeline, _ = yaml.safe_load_all(file.read_text("utf-8"))
    dags = [part["dag"] for part in (pipeline["root"], *pipeline["components"].values()) if "dag" in part]
    (task,) = [dag["tasks"][STEP] for dag in dags if STEP in dag["tasks"]]
    inputs = task["inputs"]["parameters"]
    return {name: value["runtimeValue"]["constant"] for name, value in inputs.items() if "runtimeValue" in value}
