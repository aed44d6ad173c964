"""One pipeline, three targets, one result: this machine, Kubeflow and Vertex AI learn the same model.

Kubeflow and Vertex AI are stand-ins that run what they are given. The gate rejects, since there is no cluster here that
could serve: the comparison ends with the verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import SMALL, Checkout, new_checkout

from kfp_lifecycle.backends.backend import RunStatus, Submission
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.local.runs import RunState
from tests.control_planes.kubeflow import KubeflowStandIn
from tests.control_planes.vertex import VertexStandIn

pytestmark = [
    pytest.mark.slow,
    # A test learns twice: once here, and once elsewhere.
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
REJECTING = "gate.rules=[{metric: performance.roc_auc, min: 0.999}]"


@dataclass(frozen=True)
class Result:
    """What a training run came to."""

    rows: dict[str, str]
    """Digest of each part of the training set."""
    parameters: dict[str, Any]
    """What the search found."""
    model: str
    """Digest of the ONNX model."""
    state: RunState
    decision: str
    values: list[tuple[str, Any, Any, Any]]
    """What each rule of the gate was judged by."""

    @classmethod
    def below(cls, folder: Path, state: RunState) -> Result:
        """That of the one run whose artifacts are in a folder."""
        rows = {file.name: digest(file) for file in folder.glob("**/build-training-set/**/training_set/*.parquet")}
        (parameters,) = (file for file in folder.glob("**/tune-hyperparameters/**/parameters") if file.is_file())
        (model,) = folder.glob("**/train-model/**/model.onnx")
        (verdict,) = (file for file in folder.glob("**/decide-promotion/**/verdict") if file.is_file())
        said = json.loads(verdict.read_text("utf-8"))
        (page,) = (file for file in folder.glob("**/decide-promotion/**/report") if file.is_file())
        assert said["decision"] in page.read_text("utf-8").lower()
        values = [(rule["metric"], rule["value"], rule["low"], rule["high"]) for rule in said["rules"]]
        found = json.loads(parameters.read_text("utf-8"))
        return cls(rows, found, digest(model), state, said["decision"], values)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = new_checkout(tmp_path_factory.mktemp("one result") / "a checkout")
    data = checkout.state / "data" / "churn.duckdb"
    checkout.lifecycle("simulate", "--output", str(data), "--customers", "1000", "--days", "500", "--seed", "3")
    return checkout


@pytest.fixture(scope="module")
def settings(checkout: Checkout) -> list[str]:
    source = f"source.url=duckdb:///{checkout.state / 'data' / 'churn.duckdb'}"
    return [source, REJECTING, *(word for word in SMALL if word != "--set")]


@pytest.fixture(scope="module")
def here(checkout: Checkout, settings: list[str]) -> Result:
    """What this machine learns."""
    words = [word for setting in settings for word in ("--set", setting)]
    run = json.loads(checkout.lifecycle("run", "training", "--json", *words).stdout)
    folder = Path(run["report"]).parent
    return Result.below(folder / "artifacts", RunState(run["state"]))


@pytest.fixture
def server(target: Literal["kubeflow", "vertex"], tmp_path: Path) -> Iterator[KubeflowStandIn | VertexStandIn]:
    stand_in = {"kubeflow": KubeflowStandIn, "vertex": VertexStandIn}[target]
    with stand_in(tmp_path / target) as running:
        yield running


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_a_cluster_learns_the_model_of_this_machine_and_says_the_same_of_it(
    target: Literal["kubeflow", "vertex"],
    server: KubeflowStandIn | VertexStandIn,
    checkout: Checkout,
    settings: list[str],
    here: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Steps of a stand-in are processes of this machine, whose folders stay.
    monkeypatch.setattr("kfp_lifecycle.compilation.pipeline.refuse_lost", lambda target: None)
    stores = tmp_path / "stores"
    stores.mkdir()
    places = {
        "endpoint": server.url,
        "tracking_uri": f"sqlite:///{stores}/mlflow.db",
        "dataset_remote": f"{stores}/datasets",
        "online_store": f"{stores}/online.db",
        "prediction_log": f"{stores}/predictions",
    }
    overrides = [*settings, *(f"targets.{target}.{name}={place}" for name, place in places.items())]
    file = tmp_path / "training.yaml"
    compiled = compile_pipeline("training", target, checkout.folder, file, overrides=overrides)
    for upload in compiled.uploads:
        upload.write(server.object(compiled.upload_root), compiled.upload_root)
    backend = backend_of(compiled.configuration, target)
    run = backend.submit(Submission(file, "training", compiled.configuration.name, "training-1"))
    status: RunStatus = watch(backend, run, lambda now: None, lambda line: None, pause=1)
    assert (status.summary.state, status.reason) == (RunState.rejected, "")
    assert here.state is RunState.rejected
    assert Result.below(server.objects, status.summary.state) == here
