"""A training run of the churn project, each step in a pod of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.local.kfp_runner import Session, run_pipeline
from kfp_lifecycle.runtime.closure import ROOT
from tests.kubernetes_node.node import Node
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node.environment_images import BUILT, ENVIRONMENTS, REGISTRY, environment_folder
from tests.node.step_pods import Pipeline, Recorder, in_pods
from tests.servers import PASSWORD

SETTINGS = (
    "tuning.trials=2",
    "evaluation.bootstrap_replicates=50",
    "snapshots.count=8",
    # A business of 1,000 customers is too small for the thresholds of a larger one.
    "gate.rules=[{metric: performance.roc_auc, min: 0.6}]",
    "targets.kubeflow.secrets={store: {password: STORE_PASSWORD}}",
    "targets.kubeflow.steps={default: {memory_limit: 3Gi}}",
)


@dataclass(frozen=True)
class TrainingRun:
    """What came of it."""

    namespace: Namespace
    pipeline: Pipeline
    recorder: Recorder
    data: Path
    """Folder of the claim `data`, where the project keeps everything."""
    artifacts: Path

    def artifact(self, step: str, name: str) -> Path:
        """Where a step left an artifact."""
        (found,) = self.artifacts.glob(f"**/{step}/**/{name}")
        return found


@contextmanager
def training_run(node: Node, folder: Path) -> Iterator[TrainingRun]:
    """Run the pipeline; its namespace, pods and claims stay meanwhile."""
    places = data, artifacts, objects = tuple(folder / name for name in ("data", "artifacts", "objects"))
    # The user of pods is not that of tests.
    previous = os.umask(0)
    try:
        for place in places:
            place.mkdir()
        simulate = ["simulate", "--output", str(data / "churn.duckdb"), "--customers", "1000", "--days", "500"]
        command = [sys.executable, "-m", "kfp_lifecycle.cli", *simulate, "--seed", "3"]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        file = folder / "training.yaml"
        compiled = compile_pipeline(
            "training", "kubeflow", ROOT, file, overrides=overrides(data), image_registry=REGISTRY
        )
        for upload in compiled.uploads:
            upload.write(objects / compiled.upload_root.removeprefix("minio://"), compiled.upload_root)
        with new_namespace(node) as namespace, pytest.MonkeyPatch.context() as patch:
            shared = {"artifacts": artifacts, "objects": objects}
            for name, place in {**shared, "data": data}.items():
                namespace.claim(name, place)
            for environment in set(ENVIRONMENTS) - {BUILT}:
                namespace.claim(f"environment-{environment}", environment_folder(environment), read_only=True)
            namespace.secret("store", {"password": PASSWORD})
            # As the account of a Kubeflow's runs may.
            namespace.allow("runs", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
            pipeline = Pipeline.read(file)
            recorder = in_pods(namespace, pipeline, objects, shared, patch)
            session = Session(recorder, folder, folder, folder, {})
            log = folder / "runner.log"
            run_pipeline(file, {}, session=session, artifacts=artifacts, cache_root=None, kfp_log=log)
            yield TrainingRun(namespace, pipeline, recorder, data, artifacts)
    finally:
        os.umask(previous)


def overrides(data: Path) -> list[str]:
    """Settings of a small project that keeps all in one claim, which the compiled steps mount."""
    places = {
        "tracking_uri": f"sqlite:///{data}/mlflow.db",
        "dataset_remote": f"{data}/datasets",
        "online_store": f"{data}/online.db",
        "prediction_log": f"{data}/predictions",
        "volumes": f"{{data: {data}}}",
    }
    kept = [f"targets.kubeflow.{name}={place}" for name, place in places.items()]
    return [*SETTINGS, f"source.url=duckdb:///{data}/churn.duckdb", *kept]
