"""What is recorded of a training, where, and what is left behind when a server or a disk gives out."""

from __future__ import annotations

import ast
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.deployment.register_model.registration import register
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.comparison import compare_models
from kfp_lifecycle.modelling.comparison import main as compare_on_the_command_line
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.closure import imported_names
from kfp_lifecycle.runtime.code_version import VARIABLE, CodeVersion
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import write_project, write_training_set
from tests.modelling.evaluated import evaluate
from tests.modelling.mlflow_server import mlflow_server
from tests.modelling.trained import fit_model, train_model
from tests.modelling.verdicts import verdict
from tests.projects import keep_records_at, read_project

pytestmark = pytest.mark.slow


def parameters_file(folder: Path, **parameters: Any) -> Path:
    return Parameters(parameters=parameters).write(folder / "parameters.json")


def requests_of(state: Path) -> list[str]:
    return (state / "requests").read_text("utf-8").splitlines()


def place_of(call: str, requests: list[str]) -> int:
    """Number of the last request for something; the first is 1."""
    return 1 + max(number for number, request in enumerate(requests) if call in request)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `project`, `set`, `model` and `state`: a training as a run on this machine does it."""
    place = tmp_path_factory.mktemp("trained")
    change = "--- a/module.py\n+++ b/module.py\n"
    version = CodeVersion("0" * 40, ("components/module.py",), change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, version.variable())
        patch.setenv("LIFECYCLE_RUN_ID", "training-1")
        patch.setenv("LIFECYCLE_ENVIRONMENT", "modelling-abc")
        project = write_project(place / "project", place / "state")
        folder = write_training_set(place / "set", rows=400)
        train_model(project, folder, parameters_file(place, max_iter=10), place / "model", data_version="v1.dir")
    return place


def the_run(trained: Path) -> Any:
    description = json.loads((trained / "model" / "model.json").read_text("utf-8"))
    return connect(f"sqlite:///{trained / 'state' / 'mlflow.db'}").get_run(description["run_id"])


def test_a_run_names_data_code_environment_machine_and_pipeline_run(trained: Path) -> None:
    run = the_run(trained)
    expected = {
        "pipeline_run": "training-1",
        "data_version": "v1.dir",
        "dataset_remote": "remote",
        "feature_version": "f00d",
        "mlflow.source.git.commit": "0" * 40,
        "uncommitted_changes": "components/module.py",
        "environment": "modelling-abc",
        "training_set": TrainingSet(trained / "set").digest,
    }
    assert {name: run.data.tags[name] for name in expected} == expected
    assert int(run.data.tags["hardware.cores"]) > 0
    assert run.data.params | {"max_iter": "10", "seed": "42", "threshold_by": "cost"} == run.data.params
    assert {"seconds_fit", "seconds_parity", "validation_roc_auc_logistic", "threshold"} <= set(run.data.metrics)
    assert (trained / "model" / "code.diff").read_text("utf-8").startswith("--- a/module.py")


def test_a_run_names_its_dataset_by_digest_and_version(trained: Path) -> None:
    (used,) = the_run(trained).inputs.dataset_inputs
    assert used.dataset.digest == TrainingSet(trained / "set").digest
    assert json.loads(used.dataset.source)["dvc_version"] == "v1.dir"
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}


def test_the_learning_curve_is_drawn_over_rows(trained: Path) -> None:
    run = the_run(trained)
    client = connect(f"sqlite:///{trained / 'state' / 'mlflow.db'}")
    points = client.get_metric_history(run.info.run_id, "learning_curve_roc_auc")
    assert [point.step for point in points] == [300, 600, 1200]
    assert points[-1].value == run.data.metrics["validation_roc_auc_model"]


def test_mlflow_itself_loads_and_asks_the_recorded_model(trained: Path) -> None:
    run = the_run(trained)
    uri = f"sqlite:///{trained / 'state' / 'mlflow.db'}"
    folder = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model", tracking_uri=uri)
    model = mlflow.pyfunc.load_model(folder)
    assert model.metadata.signature.inputs.input_names()[0] == "charge"
    rows = TrainingSet(trained / "set").part("test").features.head(20)
    tensors = {name: rows[[name]].to_numpy(np.float32 if rows[name].dtype == np.float32 else np.str_) for name in rows}
    answered = model.predict(tensors)["probabilities"][:, 1]
    assert np.allclose(answered, ModelFolder(trained / "model").scorer().score(rows))
    assert model.predict(model.input_example)["probabilities"].shape == (5, 2)
    assert not list(Path(folder).rglob("*.joblib"))


def test_the_card_tells_purpose_data_limits_and_origin_and_needs_no_network(trained: Path) -> None:
    text = (trained / "model" / "model_card.md").read_text("utf-8")
    for heading in ("Purpose", "Data", "Performance", "Probabilities and decisions", "Limits", "Origin"):
        assert f"## {heading}" in text
    for plot in ("roc", "precision_recall", "calibration", "importance", "learning_curve"):
        assert (trained / "model" / "plots" / f"{plot}.svg").is_file()
    page = (trained / "model" / "model_card.html").read_text("utf-8")
    assert page.count("<svg") == 5
    assert "<script" not in page
    assert "src=" not in page


def test_another_seed_is_named_with_the_trees_that_it_changed(trained: Path, tmp_path: Path) -> None:
    parameters = parameters_file(tmp_path, max_iter=10, max_features=0.5)
    for name, seed in (("first", 42), ("other", 43)):
        project = write_project(tmp_path / f"project-{name}", trained / "state", training={"seed": seed})
        train_model(project, trained / "set", parameters, tmp_path / name)
    same = compare_models(tmp_path / "first", tmp_path / "first")
    assert (same["identical"], same["differences"]) == (True, [])
    found = compare_models(tmp_path / "first", tmp_path / "other")
    assert not found["identical"]
    differences = {item["what"]: item for item in found["differences"]}
    assert differences["seed"] == {"what": "seed", "was": "42", "now": "43"}
    assert (
        "differ" in differences["thresholds of the trees"]["now"]
        or "numbers" in differences["thresholds of the trees"]["now"]
    )
    assert "calibration.slope" in differences


def turn_the_operator_sets_round(model: onnx.ModelProto) -> None:
    model.opset_import.sort(key=lambda operators: operators.domain, reverse=True)


def say_something(model: onnx.ModelProto) -> None:
    model.doc_string = "hello"


@pytest.mark.parametrize(
    ("change", "what"),
    [(turn_the_operator_sets_round, "operator sets"), (say_something, "bytes of model.onnx, from the one at")],
)
def test_files_that_differ_never_go_without_a_reason(
    trained: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], what: str
) -> None:
    shutil.copytree(trained / "model", tmp_path / "other")
    model = onnx.load(tmp_path / "other" / "model.onnx")
    change(model)
    onnx.save(model, tmp_path / "other" / "model.onnx")
    found = compare_models(trained / "model", tmp_path / "other")
    assert not found["identical"]
    (difference,) = found["differences"]
    assert difference["what"].startswith(what)


def test_a_comparison_without_arguments_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_on_the_command_line([]) == 2
    assert "compare FOLDER FOLDER" in capsys.readouterr().err


def test_no_pickle_is_loaded_outside_training_and_evaluation() -> None:
    root = Path(__file__).resolve().parents[2]
    loaders = {"joblib", "pickle", "cloudpickle", "dill", "skops", "mlflow.sklearn"}
    loading = []
    outside = ("tests", "benchmarks", ".venv", ".lifecycle", ".git", "build", "src")
    for package in (place for place in root.iterdir() if place.is_dir() and place.name not in outside):
        for file in package.rglob("*.py"):
            names = imported_names(ast.parse(file.read_text("utf-8"))) - {"joblib.cpu_count"}
            if any(name == loader or name.startswith(f"{loader}.") for name in names for loader in loaders):
                loading.append(file.relative_to(root).as_posix())
    allowed = ("components/training/", "components/evaluation/evaluate_model/", "modelling/", "tuning/")
    assert [file for file in loading if not file.startswith(allowed)] == []
    assert "components/training/train_model/training.py" in loading


def test_a_constant_feature_is_named_and_harmless(tmp_path: Path) -> None:
    folder = write_training_set(tmp_path / "set", rows=300, change=lambda part, frame: frame.assign(noise=1.0))
    model = fit_model(TrainingSet(folder), Training(), {"max_iter": 5})
    (note,) = model.notes
    assert note.startswith("The feature noise has the same value in all 900 training rows")


@pytest.fixture(scope="module")
def requests(trained: Path) -> list[str]:
    """What a training asks of an MLflow server, in order; the server's state is in `server`."""
    project = Path(shutil.copytree(trained / "project", trained / "remote-project"))
    with mlflow_server(trained / "server") as uri:
        keep_records_at(project, uri)
        train_model(project, trained / "set", trained / "parameters.json", trained / "recorded")
    return requests_of(trained / "server")


def train_with(uri: str, trained: Path, destination: Path) -> None:
    keep_records_at(trained / "remote-project", uri)
    train_model(trained / "remote-project", trained / "set", trained / "parameters.json", destination)


@pytest.mark.parametrize("last", ["runs/create", "runs/log-batch", "plots/roc.svg"])
def test_a_server_that_dies_while_a_training_is_recorded_is_named_and_leaves_no_model(
    trained: Path, requests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    named = pytest.raises(ContractViolation, match=r"127.0.0.1:\d+ (failed|cannot be reached)")
    with mlflow_server(trained / "server", dies_at=place_of(last, requests)) as uri, named:
        train_with(uri, trained, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_server_that_dies_while_an_evaluation_is_recorded_is_named_and_leaves_no_evaluation(
    trained: Path, requests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    inputs = trained / "remote-project", trained / "set", trained / "recorded"

    def attempt(destination: Path, dies_at: int = 0) -> list[str]:
        with mlflow_server(trained / "server", dies_at) as uri:
            keep_records_at(inputs[0], uri)
            evaluate(*inputs, destination)
        return requests_of(trained / "server")

    calls = attempt(tmp_path / "rehearsed")
    with pytest.raises(ContractViolation, match=r"127.0.0.1:\d+ failed"):
        attempt(tmp_path / "evaluation", dies_at=place_of("log-batch", calls))
    assert [file.name for file in tmp_path.iterdir()] == ["rehearsed"]


def test_a_full_disk_is_named_and_leaves_no_model(trained: Path, requests: list[str], tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with mlflow_server(trained / "server") as uri:
        try:
            # As large as a file may become here; the server is another process.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            with pytest.raises(
                ContractViolation, match=r"could not be written .*File too large. Nothing of it was kept"
            ):
                train_with(uri, trained, tmp_path / "model")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        client = connect(uri)
        (newest,) = client.search_runs(
            [client.get_experiment_by_name("leaving").experiment_id], order_by=["start_time DESC"], max_results=1
        )
    assert not list(tmp_path.iterdir())
    assert newest.info.status == "FAILED"


def test_a_full_disk_under_the_tracking_database_is_named(trained: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(ContractViolation, match=r"MLflow tracking server sqlite.* failed: .*its disk is not full"):
            train_model(trained / "project", trained / "set", trained / "parameters.json", tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_registration_cut_off_anywhere_names_nothing_and_can_be_done_again(
    trained: Path, requests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    project, server = trained / "remote-project", trained / "server"
    run_id = ModelFolder(trained / "recorded").description.run_id
    approval = verdict(run_id=run_id).write(tmp_path / "verdict.json")

    def attempt(state: Path, dies_at: int = 0) -> None:
        with mlflow_server(state, dies_at) as uri:
            keep_records_at(project, uri)
            given = read_project(project)
            register(given.settings, given.locations, trained / "recorded", approval, tmp_path / "registered")

    # Of the same port, as no two serve at once.
    rehearsal = Path(shutil.copytree(server, tmp_path / "rehearsal"))
    attempt(rehearsal)
    calls = requests_of(rehearsal)
    shutil.rmtree(tmp_path / "registered")
    for call in ("model.onnx", "registered-models/create", "model-versions/create", "registered-models/alias"):
        with pytest.raises(ContractViolation, match=r"127.0.0.1:\d+ (failed|cannot be reached)"):
            attempt(server, dies_at=place_of(call, calls))
        assert not (tmp_path / "registered").exists()
        with mlflow_server(server) as uri:
            assert not [model for model in connect(uri).search_registered_models() if model.aliases]
    attempt(server)
    with mlflow_server(server) as uri:
        (version,) = connect(uri).search_model_versions("name='leaving'")
        assert connect(uri).get_model_version_by_alias("leaving", "candidate").version == version.version
    assert ModelFolder(tmp_path / "registered").description.version == str(version.version)
