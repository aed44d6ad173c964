"""One setting chooses who searches, when the pipeline is compiled; what cannot run is refused then, in plain words."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.compilation.builder import build
from kfp_lifecycle.compilation.code import code_of, keep_code
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.components.training.tune_with_katib.component import tune_with_katib
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.environments.locks import interpreter, lock_digest
from tests.katib.cluster import Cluster, serve, write_trainer

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry.example/ml"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The training pipeline for Kubeflow with either engine."""
    found = {}
    for engine in ("katib", "optuna"):
        file = tmp_path_factory.mktemp("compiled") / "training.yaml"
        overrides = [f"tuning.engine={engine}"]
        compile_pipeline("training", "kubeflow", ROOT, file, overrides=overrides, image_registry=REGISTRY)
        found[engine] = read_pipeline(file)
    return found


def tasks(specification: dict[str, Any]) -> dict[str, Any]:
    """The steps inside the exit handler."""
    found: dict[str, Any] = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return found


@pytest.mark.slow
def test_katib_searches_from_the_default_that_the_usual_step_tried(compiled: dict[str, dict[str, Any]]) -> None:
    steps = tasks(compiled["katib"])
    inputs = steps["tune-with-katib"]["inputs"]
    assert inputs["artifacts"]["default"]["taskOutputArtifact"]["producerTask"] == "tune-hyperparameters"
    image = inputs["parameters"]["image"]["runtimeValue"]["constant"]
    assert image.startswith(f"{REGISTRY}/kfp-lifecycle-modelling:{lock_digest('modelling')}-")
    trained_with = steps["train-model"]["inputs"]["artifacts"]["parameters"]["taskOutputArtifact"]
    assert trained_with == {"outputArtifactKey": "parameters", "producerTask": "tune-with-katib"}
    executor = compiled["katib"]["deploymentSpec"]["executors"]["exec-tune-with-katib"]["container"]
    assert executor["image"].startswith(f"{REGISTRY}/kfp-lifecycle-katib:{lock_digest('katib')}-")


@pytest.mark.slow
def test_nothing_else_changes(compiled: dict[str, dict[str, Any]]) -> None:
    katib, optuna = (tasks(compiled[engine]) for engine in ("katib", "optuna"))
    assert set(katib) - set(optuna) == {"tune-with-katib"}
    assert set(optuna) <= set(katib)
    assert '"producerTask": "tune-with-katib"' not in json.dumps(optuna)


@pytest.mark.slow
def test_the_step_as_compiled_searches_on_the_cluster_that_its_environment_names(tmp_path: Path) -> None:
    """kfp's executor, the code that the YAML names, Katib's SDK and a stand-in for the cluster."""
    write_trainer(tmp_path / "bin")
    cluster = Cluster(tmp_path / "containers", tmp_path / "bin")
    server = serve(cluster)
    space = {"quality": {"type": "float", "low": 0, "high": 1}}
    settings = {"name": "churn", "label": {"horizon_days": 30}, "tuning": {"trials": 4, "space": space}}
    Parameters(parameters={}, default_value=0.01, folds=["a fold"]).write(tmp_path / "default")
    kubeconfig = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "me", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), "utf-8")

    def artifacts(*names: str) -> dict[str, Any]:
        kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
        return {name: {"artifacts": [{"name": name, "type": kind, "uri": str(tmp_path / name)}]} for name in names}

    executor_input = {
        "inputs": {
            "artifacts": artifacts("training_set", "default"),
            "parameterValues": {"image": "image:1", "settings": settings},
        },
        "outputs": {"artifacts": artifacts("parameters", "study"), "outputFile": str(tmp_path / "output.json")},
    }
    container = build(tune_with_katib, Target("local", state=tmp_path)).component_spec.implementation.container
    command = [json.dumps(executor_input) if part == "{{$}}" else str(part) for part in container.args]
    variables = {
        **os.environ,
        "PATH": f"{interpreter('katib').parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
    variables["PYTHONPATH"] = str(tmp_path / "code" / keep_code(code_of(tune_with_katib), tmp_path))
    done = subprocess.run(
        [*container.command, *command], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    cluster.close()
    server.shutdown()
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "parameters").read_text("utf-8"))
    assert found["parameters"]["quality"] == pytest.approx(found["best_value"])
    written = json.loads((tmp_path / "output.json").read_text("utf-8"))
    assert written["artifacts"]["parameters"]["artifacts"][0]["metadata"]["trials"] == 4
    assert [event.split()[0] for event in cluster.history] == ["created", "deleted"]


@pytest.mark.parametrize("target", ["local", "vertex"])
def test_a_target_without_kubernetes_is_refused_with_the_remedy(tmp_path: Path, target: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"target {target} has none. Set tuning.engine to optuna"):
        compile_pipeline("training", target, ROOT, tmp_path / "x.yaml", overrides=["tuning.engine=katib"])


def test_trials_without_an_image_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name its registry with --image-registry"):
        compile_pipeline("training", "kubeflow", ROOT, tmp_path / "x.yaml", overrides=["tuning.engine=katib"])


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        ("{type: float, low: 2, high: 1}", "low (2.0) must be below high (1.0)"),
        ("{type: int, low: 0, high: 3, log: true}", "a logarithmic scale needs low above 0"),
        ("{type: categorical, choices: []}", "at least 1 item"),
        ("{type: int, low: 1, high: 3, when: {nobody: 1}}", "x.when names nobody, which is not searched; there are"),
        ("{type: int, low: 1, high: 3, when: {x: 2}}", "the conditions of x go round in a circle"),
        ("{type: int, low: 1, high: 3, when: {learning_rate: 7}}", "waits for learning_rate = 7, which it never is"),
        ("{type: gaussian, low: 1, high: 3}", "does not match any of the expected tags"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_by_name(dimension: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(ROOT, [f"tuning.space.x={dimension}"])
    assert problem in str(refusal.value)
    assert "tuning" in str(refusal.value)
