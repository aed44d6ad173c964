"""The search never chooses something worse than the default, and says what it tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.contract import ContractViolation
from components.training.dataset import TrainingSet
from components.training.tune_hyperparameters.tuning import search, tune
from project.training import Training
from project.tuning import Tuning
from tests.modelling.business import write_project, write_training_set

pytestmark = pytest.mark.slow

TRAINING = Training(parameters={"max_iter": 15})
SPACE = {"learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True}}


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("data") / "set", rows=400))


def test_the_default_is_the_first_trial_and_nothing_worse_is_chosen(
    training_set: TrainingSet, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tune(training_set, TRAINING, Tuning(trials=4, space=SPACE))
    assert study.trials[0].parameters == {}
    assert study.best.value >= study.trials[0].value
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "trial 1 of 4" in lines[0]
    assert "the default" in lines[0]


def test_only_bad_choices_leave_the_default(training_set: TrainingSet) -> None:
    useless = {
        "max_iter": {"type": "categorical", "choices": [1]},
        "max_leaf_nodes": {"type": "int", "low": 2, "high": 3},
    }
    study = tune(training_set, TRAINING, Tuning(trials=3, space=useless))
    assert study.describe()["parameters"] == {"max_iter": 15}


def test_the_same_seed_tries_the_same(training_set: TrainingSet) -> None:
    tuning = Tuning(trials=3, space=SPACE)
    first, second = (tune(training_set, TRAINING, tuning).trials for _ in range(2))
    assert [trial.parameters for trial in first] == [trial.parameters for trial in second]
    assert [trial.value for trial in first] == [trial.value for trial in second]


def test_without_an_engine_the_defaults_pass_through(training_set: TrainingSet) -> None:
    study = tune(training_set, TRAINING, Tuning(engine="none", trials=5, space=SPACE))
    assert study.describe()["trials"] == 1
    assert study.describe()["parameters"] == {"max_iter": 15}


def test_a_misspelt_name_in_the_space_is_refused_before_anything_is_trained(
    training_set: TrainingSet, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"max_leaf_node": {"type": "int", "low": 2, "high": 9}}
    with pytest.raises(ContractViolation, match="did you mean max_leaf_nodes"):
        tune(training_set, TRAINING, Tuning(trials=3, space=space))
    assert capsys.readouterr().out == ""


def test_the_step_writes_parameters_and_a_page_that_needs_no_network(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", tmp_path / "state")
    folder = write_training_set(tmp_path / "set", rows=300)
    metadata = search(project, folder, tmp_path / "parameters", tmp_path / "study.html")
    found = json.loads((tmp_path / "parameters").read_text("utf-8"))
    assert found["best_value"] >= found["default_value"]
    assert metadata["trials"] == found["trials"] == 3
    page = (tmp_path / "study.html").read_text("utf-8")
    assert "<svg" in page
    assert "learning_rate" in page
    assert "src=" not in page
