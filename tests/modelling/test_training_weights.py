"""What a row counts: a feature says it, training, search and calibration follow it, and the model never sees it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.components.features.build_training_set.training_set import build
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.modelling.calibration import ISOTONIC_GROUPS, fit_calibration, maximum_likelihood
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.estimator import row_weights
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.cross_validation import folds_of
from tests.lending_library import PIPELINE, START, some_readers_and_loans, write_project, write_tables
from tests.modelling.business import write_training_set
from tests.modelling.trained import fit_model
from tests.projects import read_project

WEIGHTED = Training(weight="profile:worth")


def quarrel(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Whom tickets drive away in group a, they keep in group b; a row of group a is worth a hundred of b's."""
    random = np.random.default_rng(len(part))
    often = frame.tickets > 0
    likely = np.where(often == (frame.group == "a"), 0.8, 0.1)
    gone = (random.random(len(frame)) < likely).astype(int)
    return frame.assign(gone=gone, worth=np.where(frame.group == "a", 100.0, 1.0))


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("weights") / "set", rows=600, change=quarrel))


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "sklearn.linear_model.LogisticRegression",
        "lightgbm.LGBMClassifier",
        "xgboost.XGBClassifier",
    ],
)
def test_a_model_learns_from_the_rows_that_count(training_set: TrainingSet, estimator: str) -> None:
    test = training_set.part("test")

    def auc_of(groups: str, training: Training) -> float:
        score = fit_model(training_set, training, {}).probabilities(test.features)
        rows = test.frame.group.isin(list(groups)).to_numpy()
        return float(roc_auc_score(test.label[rows], score[rows]))

    # Without weights the two groups cancel, and a ranking by chance is no ground for a calibration.
    plain = Training(estimator=estimator, calibration=Method.none)
    weighted = plain.model_copy(update={"weight": "profile:worth"})
    assert auc_of("a", weighted) > 0.7
    assert auc_of("b", weighted) < 0.3
    assert auc_of("ab", plain) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_probabilities_have_the_level_of_the_rows_that_count(tmp_path: Path) -> None:
    def rarer(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        # Of the same inputs: half as many events among those that count nine tenths.
        heavy = np.arange(len(frame)) % 2 == 0
        spared = heavy & (np.random.default_rng(1).random(len(frame)) < 0.5)
        return frame.assign(gone=np.where(spared, 0, frame.gone), worth=np.where(heavy, 9.0, 1.0))

    training_set = TrainingSet(write_training_set(tmp_path / "set", change=rarer))
    test = training_set.part("test")
    level = fit_model(training_set, WEIGHTED, {"max_iter": 20}).probabilities(test.features).mean()
    assert level == pytest.approx(np.average(test.label, weights=test.frame.worth), rel=0.15)
    assert level < 0.85 * test.label.mean()


def test_calibrating_with_a_weight_of_three_is_calibrating_with_three_rows() -> None:
    score, label, times = calibrated_rows()
    logit = np.log(score / (1 - score))
    weighted = maximum_likelihood(logit, label.astype(float), times.astype(float))
    every = np.ones(times.sum())
    repeated = maximum_likelihood(np.repeat(logit, times), np.repeat(label, times).astype(float), every)
    assert weighted == pytest.approx(repeated, abs=1e-9)


@pytest.mark.parametrize("method", [Method.sigmoid, Method.isotonic])
def test_calibrated_rows_have_the_events_that_their_weights_say(method: Method) -> None:
    score, label, times = calibrated_rows()
    calibrated = fit_calibration(method, score, label, times.astype(float)).apply(score)
    assert np.average(calibrated, weights=times) == pytest.approx(np.average(label, weights=times), abs=1e-6)


def calibrated_rows() -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int64]]:
    """Scores, labels, and how often each row counts; as many as isotonic calibration has groups."""
    random = np.random.default_rng(0)
    score = np.sort(random.random(ISOTONIC_GROUPS))
    return score, (random.random(len(score)) < score).astype(np.int8), random.integers(1, 4, len(score))


def test_the_weight_multiplies_age_and_leaves_both_classes_the_same(training_set: TrainingSet) -> None:
    train = training_set.part("train")
    worth = train.frame.worth.to_numpy()
    assert row_weights(train, WEIGHTED) == pytest.approx(worth / worth.mean())
    aged = row_weights(train, Training(weight="profile:worth", half_life_days=31))
    alone = row_weights(train, Training(half_life_days=31))
    assert aged is not None
    assert alone is not None
    assert aged / alone == pytest.approx(worth * (aged / alone / worth)[0])
    balanced = row_weights(train, Training(weight="profile:worth", class_weight="balanced"))
    assert balanced is not None
    assert balanced[train.label == 1].sum() == pytest.approx(balanced[train.label == 0].sum())
    assert (training_set.part("train").frame.worth == worth).all()


def test_the_search_trains_each_fold_with_it(training_set: TrainingSet) -> None:
    (fold,) = folds_of(training_set, WEIGHTED, 1, timedelta(days=30))
    assert fold.weight is not None
    assert len(np.unique(fold.weight.round(6))) == 2
    assert fold.weight.max() / fold.weight.min() == pytest.approx(100)


@pytest.mark.parametrize(("value", "told"), [(0, "0"), (-2, "-2"), (np.nan, "nan"), (np.inf, "inf")])
def test_a_weight_that_is_not_above_zero_is_refused_by_name(training_set: TrainingSet, value: float, told: str) -> None:
    train = training_set.part("train")
    train.frame.loc[train.frame.index[:3], "worth"] = value
    with pytest.raises(ContractViolation, match=f"worth is {told} or as unusable in 3 of 1,800 rows"):
        row_weights(train, WEIGHTED)


def test_a_training_set_without_the_column_is_refused(training_set: TrainingSet) -> None:
    with pytest.raises(ContractViolation, match=r"has no column income\. Run build_training_set again"):
        row_weights(training_set.part("train"), Training(weight="profile:income"))


FEATURES, PERSON, SETTINGS = "feature_repo/features.py", "feature_repo/person.sql", "pipeline.yaml"
LIBRARY: dict[str, Any] = {
    SETTINGS: PIPELINE + "training: {weight: 'person:worth'}\n",
    FEATURES: ('view("person", town=String)', 'view("person", town=String, worth=Float64)'),
    PERSON: "SELECT reader_id, town, 1.0 + reader_id AS worth FROM readers",
}


def test_the_feature_that_weighs_joins_the_training_set_and_is_no_input(tmp_path: Path) -> None:
    given = read_project(write_project(tmp_path / "project", LIBRARY))
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(), START + timedelta(days=60))
    build(given.settings, given.locations, given.feature_repo, given.label_query, tables, tmp_path / "set")
    description = TrainingSet(tmp_path / "set")
    assert "worth" not in {item.name for item in description.features} | set(description.sensitive)
    train = pd.read_parquet(tmp_path / "set" / "train.parquet")
    assert (train.worth == 1.0 + train.reader_id).all()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("person:height", "training.weight names person:height, which is not defined"),
        ("person:town", "person:town is categorical. A weight is a number"),
        ("loans_so_far:pages", "loans_so_far:pages is in the feature service, and so an input of the model"),
    ],
)
def test_what_cannot_weigh_is_refused_before_any_work(tmp_path: Path, weight: str, message: str) -> None:
    changed = {SETTINGS: PIPELINE + f"training: {{weight: '{weight}'}}\n"}
    given = read_project(write_project(tmp_path / "project", changed))
    with pytest.raises(ContractViolation, match=message):
        load_definitions(given.feature_repo, given.settings)
