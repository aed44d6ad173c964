"""A compiled pipeline stays far below what a stock Kubeflow takes, with images or archives, secrets and volumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline
from kfp_lifecycle.compilation.target import VEHICLES, Vehicle
from kfp_lifecycle.compilation.workflow_size import (
    LIMIT_BYTES,
    copied_bytes,
    finished_bytes,
    read_pipeline,
    read_pods,
    stored_bytes,
    submitted_bytes,
)
from kfp_lifecycle.runtime.closure import ROOT

KIB = 1024
MOST_SUBMITTED, MOST_COPIED, MOST_STORED, MOST_IN_FILE = 200 * KIB, 600 * KIB, 800 * KIB, 300 * KIB
# Vertex AI's quotas: a pipeline job's input parameters and a single parameter's constant value
# (cloud.google.com/vertex-ai/docs/quotas, "Pipelines"); Kubeflow keeps 10,000 characters of a run's parameters
# (kubeflow/pipelines#12510). Constants inside the pipeline are bound by neither.
MOST_IN_PARAMETERS = 10_000

EXTRAS = [
    "targets.kubeflow.secrets={mlflow: {username: MLFLOW_TRACKING_USERNAME, password: MLFLOW_TRACKING_PASSWORD}, "
    "store: {key: AWS_ACCESS_KEY_ID, secret: AWS_SECRET_ACCESS_KEY}, hook: {url: LIFECYCLE_NOTIFY_URLS}}",
    "targets.kubeflow.volumes={predictions: /var/log/predictions, studies: /var/studies}",
]


@pytest.mark.parametrize("project", [".", pytest.param("examples/cdnow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("vehicle", VEHICLES)
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_fits_a_stock_kubeflow(name: str, vehicle: Vehicle, project: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    registry = "registry.example/team" if vehicle == "image" else ""
    compile_pipeline(name, "kubeflow", ROOT / project, file, overrides=EXTRAS, vehicle=vehicle, image_registry=registry)
    pipeline, pods = read_pipeline(file), read_pods(file)
    assert submitted_bytes(pipeline, pods) < MOST_SUBMITTED
    assert copied_bytes(pipeline) < MOST_COPIED
    assert stored_bytes(pipeline, pods) < MOST_STORED < LIMIT_BYTES
    assert file.stat().st_size < MOST_IN_FILE
    parameters = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    assert (
        sum(len(name) + len(str(item.get("defaultValue", ""))) for name, item in parameters.items())
        < MOST_IN_PARAMETERS
    )


def test_the_count_is_that_of_kubeflows_own_compiler() -> None:
    """What Kubeflow Pipelines 2.17.0 made of a small pipeline, and of the largest one that there ever was here."""
    container = {
        "image": "python:3.11-slim",
        "command": ["sh", "-c", "x" * 40_000],
        "args": ["--executor_input", "{{$}}"],
    }
    component = {"executorLabel": "exec-a", "inputDefinitions": {"parameters": {"text": {"parameterType": "STRING"}}}}
    task = {"componentRef": {"name": "comp-a"}, "taskInfo": {"name": "a"}, "cachingOptions": {"enableCache": True}}
    pipeline = {
        "components": {"comp-a": component},
        "deploymentSpec": {"executors": {"exec-a": {"container": container}}},
        "root": {"dag": {"tasks": {"a": task}}},
    }
    # Each copy of a container adds its bytes once when it is submitted, and eight times in the status.
    assert 40_000 < submitted_bytes(pipeline) < 40_000 + 12_000
    assert 9 * 40_000 < finished_bytes(pipeline) < 9 * 40_000 + 40_000


@pytest.mark.slow
def test_the_count_at_the_end_is_near_what_was_seen(tmp_path: Path) -> None:
    """Whole runs on Kubeflow Pipelines 2.17.0 with Argo 4.0.5: what each Workflow came to, unpacked."""
    extras = [
        "targets.kubeflow.secrets={s3: {id: AWS_ACCESS_KEY_ID, key: AWS_SECRET_ACCESS_KEY, "
        "endpoint: AWS_ENDPOINT_URL_S3, region: AWS_REGION}}",
        "targets.kubeflow.volumes={data: /data}",
    ]
    seen: dict[tuple[str, Vehicle], int] = {
        ("materialization", "artifact"): 720_619,
        ("training", "artifact"): 1_621_485,
        ("training", "image"): 1_316_120,
    }
    for (name, vehicle), size in seen.items():
        file = tmp_path / f"{name}.yaml"
        registry = "registry.example/ml" if vehicle == "image" else ""
        compile_pipeline(name, "kubeflow", ROOT, file, overrides=extras, vehicle=vehicle, image_registry=registry)
        pipeline, pods = read_pipeline(file), read_pods(file)
        # Those pods had secrets and a volume, and neither labels nor requests.
        pods = {name: {key: pod[key] for key in ("secretAsEnv", "pvcMount")} for name, pod in pods.items()}
        for executor in pipeline["deploymentSpec"]["executors"].values():
            executor.get("container", {}).pop("resources", None)
        if vehicle == "artifact":
            # What rides in the exit handler was longer then.
            command = pipeline["deploymentSpec"]["executors"]["exec-notify"]["container"]["command"]
            command[3] = command[3].ljust(26_440, "x")
        assert finished_bytes(pipeline, pods) == pytest.approx(size, rel=0.1)


def test_what_pods_are_given_is_counted() -> None:
    """Six pods as these are 4,148 bytes of what Kubeflow Pipelines 2.17.0's own compiler makes."""
    pod = {
        "podMetadata": {"labels": {"lifecycle.pipeline": "training", "lifecycle.project": "churn"}},
        "securityContext": {"runAsNonRoot": True, "runAsUser": "1000"},
    }
    pods = {f"exec-{number}": pod for number in range(6)}
    empty = {"components": {}, "deploymentSpec": {"executors": {}}, "root": {"dag": {"tasks": {}}}}
    assert submitted_bytes(empty, pods) - submitted_bytes(empty) == pytest.approx(4_148, rel=0.2)
