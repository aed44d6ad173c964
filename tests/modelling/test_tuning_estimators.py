"""A search chooses the estimator too: each with its own parameters, encoded as it needs them, and trained as found."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from pydantic import ValidationError

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_hyperparameters.judging import Outcome, Setting
from kfp_lifecycle.components.training.tune_hyperparameters.tuning import tune
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Workers
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning, estimators_of, space_of
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.cross_validation import Fold, folds_of, score_folds
from kfp_lifecycle.tuning.study import Study, chosen, show_all
from tests.modelling.business import write_project, write_training_set
from tests.modelling.trained import train_model

BOOSTED, LINEAR = "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"
TRAINING = Training(parameters={"max_iter": 3, "max_leaf_nodes": 2})
SPACE: dict[str, Any] = {
    "estimator": {"type": "categorical", "choices": [BOOSTED, LINEAR]},
    "learning_rate": {"type": "float", "low": 0.01, "high": 0.1, "when": {"estimator": BOOSTED}},
    "C": {"type": "float", "low": 0.1, "high": 10, "log": True, "when": {"estimator": LINEAR}},
}
TUNING = Tuning.model_validate(
    {"space": SPACE, "trials": 3, "parallel_trials": 1, "pruning": False, "timeout_seconds": 3600}
)


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("data") / "set", rows=400)


@pytest.fixture(scope="module")
def folds(training_set: Path) -> list[Fold]:
    return folds_of(TrainingSet(training_set), TRAINING, 2, timedelta(days=28), estimators_of(TUNING.space))


def test_each_estimator_has_its_own_parameters_and_the_defaults_are_those_of_one() -> None:
    assert space_of(LINEAR, TUNING.space) == ["C"]
    assert space_of(BOOSTED, TUNING.space) == ["learning_rate"]
    defaults = {"max_iter": 8}
    assert chosen(BOOSTED, defaults, {"learning_rate": 0.1}) == (BOOSTED, {"max_iter": 8, "learning_rate": 0.1})
    assert chosen(BOOSTED, defaults, {"estimator": LINEAR, "C": 2.0}) == (LINEAR, {"C": 2.0})
    assert show_all({"estimator": LINEAR, "C": 2.0}) == "estimator LogisticRegression, C 2"


@pytest.mark.parametrize(
    "dimension", [{"type": "float", "low": 1, "high": 2}, {"type": "categorical", "choices": ["os.system"]}]
)
def test_what_is_no_estimator_is_refused(dimension: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tuning.model_validate({"space": {"estimator": dimension}})


def test_each_is_judged_on_rows_encoded_for_it(folds: list[Fold]) -> None:
    trees, (linear, _) = folds[0].train, folds[0].others[LINEAR]
    assert (trees.dtype, linear.dtype) == (np.float32, np.float64)
    # Numbers are scaled for the one and left as they are for the other.
    assert np.abs(linear.mean(axis=0)).max() < 1 < np.abs(np.nanmean(trees, axis=0)).max()
    by_trees, by_line = (list(score_folds(folds, TRAINING, setting)) for setting in ({}, {"estimator": LINEAR}))
    assert np.mean(by_line) > np.mean(by_trees)


@pytest.mark.slow
def test_the_better_one_is_found_and_trained(training_set: Path, folds: list[Fold], tmp_path: Path) -> None:
    workers: Workers[Setting, Outcome] = Workers(2, 1)
    with workers:
        trials = tune(optuna.create_study(direction="maximize"), folds, TRAINING, TUNING, workers)
    # After the default each other estimator has its turn.
    assert [trial.parameters.get("estimator") for trial in trials[:2]] == [None, LINEAR]
    found = Study(trials, BOOSTED, TRAINING.parameters, []).describe()
    assert (found.estimator, list(found.parameters)) == (LINEAR, ["C"])

    found.write(tmp_path / "parameters")
    assert Parameters.read(tmp_path / "parameters") == found
    project = write_project(tmp_path / "project", tmp_path / "state", training={"parameters": TRAINING.parameters})
    told = train_model(project, training_set, tmp_path / "parameters", tmp_path / "model")
    assert told["estimator"] == LINEAR
    described = Model.read(tmp_path / "model")
    assert (described.estimator, described.parameters) == (LINEAR, found.parameters)


@pytest.mark.slow
def test_a_parameter_that_an_estimator_does_not_have_is_refused_by_its_name(folds: list[Fold]) -> None:
    tuning = Tuning.model_validate({"space": {**SPACE, "depth": {"type": "int", "low": 1, "high": 3}}})
    workers: Workers[Setting, Outcome] = Workers(1, 1)
    with workers, pytest.raises(ContractViolation, match="HistGradientBoostingClassifier has no parameter depth"):
        tune(optuna.create_study(direction="maximize"), folds, TRAINING, tuning, workers)
