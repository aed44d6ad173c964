"""A model is trained to be served: what is exported is what was trained, again and again the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import CalibrationRecord
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.train_model.importance import feature_importance
from kfp_lifecycle.components.training.train_model.parity import LARGEST_DIFFERENCE, check_parity, damage
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import Costs, ThresholdRule, Training
from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.modelling.calibration import Calibration, fit_calibration
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.decisions import best_threshold, break_even, decision_threshold, decision_values
from kfp_lifecycle.modelling.estimator import (
    BINS_OF_WIDE,
    MOST_CATEGORIES,
    MOST_CATEGORY_COLUMNS,
    WIDE_COLUMNS,
    build_encoder,
    build_estimator,
    encoded_columns,
    fit,
    row_weights,
    width_notes,
)
from kfp_lifecycle.modelling.export import export_onnx
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import FEATURES, write_project, write_training_set
from tests.modelling.trained import fit_model, train_model
from tests.projects import keep_records_at

pytestmark = pytest.mark.slow

HISTOGRAM = {"parameters": {"max_iter": 30}}


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("data") / "set"))


def parameters_file(folder: Path, **parameters: Any) -> Path:
    return Parameters(parameters=parameters).write(folder / "parameters.json")


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 30}),
        ("sklearn.linear_model.LogisticRegression", {}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 6}),
        ("sklearn.neural_network.MLPClassifier", {"max_iter": 5}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 30}),
        ("xgboost.XGBClassifier", {"n_estimators": 30}),
    ],
)
@pytest.mark.parametrize("calibration", list(Method))
def test_the_exported_model_agrees_with_scikit_learn_also_for_missing_and_unseen_values(
    training_set: TrainingSet, estimator: str, parameters: dict[str, Any], calibration: Method
) -> None:
    training = Training(estimator=estimator, calibration=calibration)
    model = fit_model(training_set, training, parameters)
    test = training_set.part("test").features
    scorer = model.scorer(training_set.features)
    for inputs in (test, damage(test, training_set.features, seed=1)):
        assert np.abs(scorer.score(inputs) - model.probabilities(inputs)).max() <= LARGEST_DIFFERENCE


def test_shares_of_many_trees_stay_probabilities_in_32_bits(training_set: TrainingSet) -> None:
    training = Training(estimator="sklearn.ensemble.ExtraTreesClassifier", calibration=Method.none)
    model = fit_model(training_set, training, {"n_estimators": 97})
    scores = model.scorer(training_set.features).score(training_set.part("train").features)
    assert scores.min() >= 0
    assert scores.max() <= 1


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"min_samples_leaf": 5}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20}),
        ("lightgbm.LGBMClassifier", {"min_child_samples": 5}),
        ("xgboost.XGBClassifier", {}),
    ],
)
def test_a_split_between_neighbouring_numbers_goes_the_same_way_in_the_exported_model(
    estimator: str, parameters: dict[str, Any]
) -> None:
    neighbours = [np.float32(4.857)]
    for _ in range(99):
        neighbours.append(np.nextafter(neighbours[-1], np.float32(np.inf)))
    frame = pd.DataFrame({"rate": np.repeat(np.array(neighbours, dtype=np.float32), 30)})
    label = np.repeat(np.random.default_rng(1).integers(0, 2, 100), 30).astype(np.int8)
    features = [Feature("rate", "numeric")]
    made = build_estimator(estimator, parameters, 1)
    encoder = build_encoder(features, frame, made)
    pipeline = Pipeline([("encode", encoder), ("classify", fit(made, encoder.fit_transform(frame), label))])
    uncalibrated = fit_calibration(Method.none, pipeline.predict_proba(frame)[:, 1], label)
    scorer = Scorer(export_onnx(pipeline, uncalibrated, features).SerializeToString(), features)
    assert np.abs(scorer.score(frame) - pipeline.predict_proba(frame)[:, 1]).max() <= LARGEST_DIFFERENCE


def test_a_test_part_has_a_category_that_training_never_saw(training_set: TrainingSet) -> None:
    assert (training_set.part("test").features.channel == "app").any()
    assert not (training_set.part("train").features.channel == "app").any()


def test_the_same_inputs_and_seed_give_the_same_bytes(training_set: TrainingSet) -> None:
    first, second = (fit_model(training_set, Training(), {"max_iter": 20}).onnx for _ in range(2))
    assert first == second
    assert fit_model(training_set, Training(seed=1), {"max_iter": 20, "max_features": 0.5}).onnx != first


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20, "max_features": 0.5}),
        ("sklearn.linear_model.LogisticRegression", {}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 20, "subsample": 0.5, "subsample_freq": 1}),
        ("xgboost.XGBClassifier", {"n_estimators": 20, "subsample": 0.5}),
    ],
)
def test_the_number_of_threads_changes_no_byte(
    training_set: TrainingSet, estimator: str, parameters: dict[str, Any]
) -> None:
    files = []
    for threads in (1, 2):
        own = {"n_jobs": threads} if estimator.startswith(("lightgbm", "xgboost")) else {}
        with threadpool_limits(threads):
            files.append(fit_model(training_set, Training(estimator=estimator), {**parameters, **own}).onnx)
    assert files[0] == files[1]


EXPORTS = """
import hashlib, sys
from pathlib import Path
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.config.training import Training
from tests.modelling.trained import fit_model
training_set = TrainingSet(Path(sys.argv[1]))
for estimator, parameters in [
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}),
    ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 6}),
    ("sklearn.linear_model.LogisticRegression", {}),
    ("lightgbm.LGBMClassifier", {"n_estimators": 20}),
    ("xgboost.XGBClassifier", {"n_estimators": 20}),
]:
    onnx = fit_model(training_set, Training(estimator=estimator), parameters).onnx
    print(estimator, hashlib.sha256(onnx).hexdigest())
"""


def test_the_order_of_python_s_sets_changes_no_byte(training_set: TrainingSet) -> None:
    printed = set()
    # It is drawn anew for every process unless this says how. With 1 and 2 skl2onnx lists the operator sets otherwise.
    for seed in ("0", "1", "2"):
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", EXPORTS, str(training_set.folder)]
        printed.add(subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert len(printed) == 1


def test_a_model_that_differs_from_its_export_is_refused(training_set: TrainingSet) -> None:
    model = fit_model(training_set, Training(), {"max_iter": 5})
    scorer = model.scorer(training_set.features)
    rows = {"test": training_set.part("test").features}
    with pytest.raises(ContractViolation, match=r"1,000 of 1,000 rows of test differ"):
        check_parity(scorer, lambda inputs: model.probabilities(inputs) + 0.001, rows, training_set.features, 0)


def test_calibration_mends_an_overconfident_score() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.05, 0.6, 20_000)
    label = (random.random(20_000) < truth).astype(np.int8)
    odds = (truth / (1 - truth)) ** 3
    exaggerated = odds / (1 + odds)
    for method in (Method.sigmoid, Method.isotonic):
        calibrated = fit_calibration(method, exaggerated, label).apply(exaggerated)
        assert np.abs(calibrated - truth).mean() < 0.02 < np.abs(exaggerated - truth).mean()


@pytest.mark.parametrize("method", list(Method))
def test_a_calibration_survives_being_written(method: Method) -> None:
    score = np.linspace(0, 1, 200)
    fitted = fit_calibration(method, score, (score > 0.4).astype(np.int8))
    read = Calibration.of(CalibrationRecord.model_validate_json(fitted.describe().model_dump_json()))
    assert (read.apply(score) == fitted.apply(score)).all()


def test_the_threshold_is_where_acting_is_worth_the_most() -> None:
    random = np.random.default_rng(0)
    score = random.random(3000).astype(np.float32).round(2)
    label = (random.random(3000) < score).astype(np.int8)
    costs = Costs(saved=240, action=15, success_rate=0.3)

    def worth(threshold: float) -> float:
        return float(decision_values(label, score >= threshold, costs).sum())

    chosen = best_threshold(label, score, ThresholdRule.cost, costs)
    assert worth(chosen) == pytest.approx(max(worth(value) for value in np.linspace(0, 1, 1001)))
    assert best_threshold(label, score, ThresholdRule.cost, Costs(success_rate=0)) == 1.0


def lost(rows: int, calibration: Method, seed: int) -> float:
    """Share of the best possible worth that is lost by a threshold, where the truth is known: in mean over all there
    are, of scores that were calibrated on some rows and a threshold that was set on as many others."""
    random = np.random.default_rng(seed)
    training = Training(costs=Costs(saved=240, action=16, success_rate=0.3), calibration=calibration)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = 1 / (1 + np.exp(-random.normal(-2.5, 1.2, count)))
        odds = (truth / (1 - truth)) ** 1.5
        return truth, (random.random(count) < truth).astype(np.int8), odds / (1 + odds)

    _, label, raw = draw(rows)
    fitted = fit_calibration(Method.sigmoid, raw, label)
    _, label, raw = draw(rows)
    threshold = decision_threshold(label, fitted.apply(raw).astype(np.float32), training)
    truth, _, raw = draw(50_000)
    worth = truth * 0.3 * 240 - 16
    return float(1 - worth[fitted.apply(raw) >= threshold].sum() / worth[worth > 0].sum())


@pytest.mark.parametrize("rows", [300, 1000, 4000])
def test_costs_set_a_better_threshold_for_probabilities_than_the_best_of_a_sample(rows: int) -> None:
    by_costs, by_sample = (
        # Nothing tells the rule that these scores are calibrated, where it is not told of a calibration.
        np.mean([lost(rows, method, seed) for seed in range(40)])
        for method in (Method.sigmoid, Method.none)
    )
    assert by_costs < 0.6 * by_sample


def test_a_threshold_by_costs_is_where_acting_begins_to_pay() -> None:
    label, score = np.array([0, 1, 0, 1], np.int8), np.array([0.1, 0.2, 0.3, 0.9], np.float32)
    costs = Costs(saved=240, action=15, success_rate=0.3)
    assert break_even(costs) == pytest.approx(15 / 72)
    assert decision_threshold(label, score, Training(costs=costs)) == break_even(costs)
    for never in (Costs(saved=10, action=15, success_rate=0.3), Costs(success_rate=0)):
        assert decision_threshold(label, score, Training(costs=never)) == 1.0
    f1 = Training.model_validate({"costs": costs, "threshold": {"by": "f1"}})
    assert decision_threshold(label, score, f1) == best_threshold(label, score, ThresholdRule.f1, costs)


@pytest.mark.parametrize(
    ("rule", "metric"), [(ThresholdRule.f1, f1_score), (ThresholdRule.balanced_accuracy, balanced_accuracy_score)]
)
def test_the_threshold_can_follow_a_metric_as_scikit_learn_computes_it(rule: ThresholdRule, metric: Any) -> None:
    random = np.random.default_rng(1)
    score = random.random(2000).astype(np.float32).round(2)
    label = (random.random(2000) < score**2).astype(np.int8)
    chosen = best_threshold(label, score, rule, Costs())
    assert metric(label, score >= chosen) == pytest.approx(
        max(metric(label, score >= value) for value in np.linspace(0, 1, 201))
    )


def test_what_calibrates_is_newer_than_what_decides(tmp_path: Path) -> None:
    def older(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        before = frame.assign(event_timestamp=frame.event_timestamp - pd.Timedelta(days=30))
        return pd.concat([before, frame]) if part == "validation" else frame

    training_set = TrainingSet(write_training_set(tmp_path / "set", rows=200, change=older))
    decides, calibrates = (training_set.part(name).frame for name in ("validation", "calibration"))
    assert decides.event_timestamp.max() < calibrates.event_timestamp.min()
    assert len(decides) + len(calibrates) == 400


def test_a_single_snapshot_is_divided_by_entity(training_set: TrainingSet) -> None:
    decides, calibrates = (training_set.part(name).frame for name in ("validation", "calibration"))
    assert not set(decides.account) & set(calibrates.account)
    assert 400 < len(calibrates) < 600


def test_rows_of_either_class_can_count_the_same(training_set: TrainingSet) -> None:
    train = training_set.part("train")
    weight = row_weights(train, Training(class_weight="balanced"))
    assert weight == pytest.approx(compute_sample_weight("balanced", train.label))
    plain = fit_model(training_set, Training(), {"max_iter": 20})
    balanced = fit_model(training_set, Training(class_weight="balanced"), {"max_iter": 20})
    test = training_set.part("test")
    raw = balanced.pipeline.predict_proba(test.features)[:, 1].mean()
    # Calibration brings the level back that the weights took away.
    assert raw > 1.2 * test.label.mean()
    assert balanced.probabilities(test.features).mean() == pytest.approx(
        plain.probabilities(test.features).mean(), rel=0.15
    )


def test_a_row_counts_half_as_much_after_each_half_life(training_set: TrainingSet) -> None:
    train = training_set.part("train")
    weight = row_weights(train, Training(half_life_days=31))
    assert weight is not None
    assert weight.mean() == pytest.approx(1)
    by_date = pd.Series(weight).groupby(train.frame.event_timestamp.to_numpy()).first().to_numpy()
    assert by_date[1] / by_date[2] == pytest.approx(0.5 ** (28 / 31))
    assert row_weights(train, Training()) is None


def test_an_estimator_without_weights_says_so(training_set: TrainingSet) -> None:
    training = Training(estimator="sklearn.neighbors.KNeighborsClassifier", half_life_days=10)
    with pytest.raises(ContractViolation, match="KNeighborsClassifier takes no weights"):
        fit_model(training_set, training, {})


def test_of_many_categories_the_frequent_ones_get_a_column_and_the_rest_share_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def cities(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(channel=[f"city {number}" for number in random.zipf(1.3, len(frame)) % 5000])

    training_set = TrainingSet(write_training_set(tmp_path / "set", rows=500, change=cities))
    model = fit_model(training_set, Training(), {"max_iter": 10})
    place = encoded_columns(model.pipeline[0], training_set.features)["channel"]
    assert place.stop - place.start == MOST_CATEGORIES
    assert len(model.onnx) < 200_000


def test_of_many_features_of_text_the_most_frequent_values_of_all_are_told_apart() -> None:
    random = np.random.default_rng(0)
    even = {f"even{number}": [f"v{value}" for value in random.integers(0, 30, 900)] for number in range(30)}
    sure = ["always"] * 899 + ["once"]
    train = pd.DataFrame({**even, "sure": sure, "many": [f"k{value}" for value in random.integers(0, 400, 900)]})
    features = [Feature(name, "categorical") for name in train]
    estimator = build_estimator("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 2}, 0)
    encoder = build_encoder(features, train, estimator)
    matrix = encoder.fit_transform(train)
    widths = {name: place.stop - place.start for name, place in encoded_columns(encoder, features).items()}
    assert sum(widths.values()) == matrix.shape[1] == MOST_CATEGORY_COLUMNS
    # A feature has at least its most frequent value, and no value is preferred to one of more rows.
    assert widths["sure"] == widths["many"] == 1
    assert min(widths.values()) == 1
    [told] = width_notes(Pipeline([("encode", encoder), ("classify", estimator)]), train)
    assert "of 952 values that its 32 features of text have often enough, the 500 most frequent are told apart" in told


def test_a_wide_table_is_trained_with_fewer_bins_served_as_it_was_trained_and_that_is_told(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(WIDE_COLUMNS)]

    def wider(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        numbers = np.random.default_rng(0).normal(size=(len(frame), len(names)))
        return pd.concat([frame, pd.DataFrame(numbers, columns=names)], axis=1)

    features = [*FEATURES, *({"name": name, "type": "numeric"} for name in names)]
    training_set = TrainingSet(write_training_set(tmp_path / "set", rows=300, features=features, change=wider))
    # Its export is compared with it while it is made.
    model = fit_model(training_set, Training(), {"max_iter": 3})
    assert model.pipeline[-1].max_bins == BINS_OF_WIDE
    assert any(f"in {BINS_OF_WIDE} bins each instead of 255" in sentence for sentence in model.limited)
    assert fit_model(training_set, Training(), {"max_iter": 3, "max_bins": 90}).pipeline[-1].max_bins == 90


def test_each_feature_knows_its_columns_of_the_matrix(training_set: TrainingSet) -> None:
    train = training_set.part("train").features
    estimator = build_estimator("sklearn.ensemble.HistGradientBoostingClassifier", {}, 0)
    encoder = build_encoder(training_set.features, train, estimator).fit(train)
    names = encoder.get_feature_names_out()
    for feature, place in encoded_columns(encoder, training_set.features).items():
        assert all(name == feature or name.startswith(f"{feature}_") for name in names[place])


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 20}),
        ("xgboost.XGBClassifier", {"n_estimators": 20}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 6}),
    ],
)
def test_the_feature_that_decides_is_found_by_shuffling_and_by_gain(
    training_set: TrainingSet, estimator: str, parameters: dict[str, Any]
) -> None:
    model = fit_model(training_set, Training(estimator=estimator), parameters)
    found = feature_importance(model.pipeline, training_set.features, model.parts["test"], seed=0)
    assert found[0].feature == "days_away"
    assert max(found, key=lambda item: item.gain or 0).feature == "days_away"
    assert sum(item.gain or 0 for item in found) == pytest.approx(1)


def test_the_loss_by_shuffling_is_scikit_learns(training_set: TrainingSet) -> None:
    model = fit_model(training_set, Training(), {"max_iter": 20})
    part = training_set.part("test")
    ours = {
        item.feature: item.value for item in feature_importance(model.pipeline, training_set.features, part, seed=0)
    }
    theirs = permutation_importance(
        model.pipeline, part.features, part.label, scoring="roc_auc", n_repeats=5, random_state=0
    )
    assert [ours[name] for name in part.features] == pytest.approx(theirs.importances_mean, abs=0.02)


def test_a_model_folder_holds_all_that_serving_and_monitoring_need(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", tmp_path / "state")
    folder = write_training_set(tmp_path / "set", rows=600)
    metadata = train_model(project, folder, parameters_file(tmp_path, max_iter=20), tmp_path / "model")
    model = ModelFolder(tmp_path / "model")
    assert [item.name for item in model.features] == [item["name"] for item in FEATURES]
    assert model.description.key_type == "BIGINT"
    assert set(model.description.baseline_auc) == {"dummy", "logistic"}
    assert model.description.importance[0].feature == "days_away"
    reference = pd.read_parquet(tmp_path / "model" / "baseline" / "reference.parquet")
    assert np.allclose(model.scorer().score(reference), reference.score)
    assert (tmp_path / "model" / "feature_repo" / "features.py").is_file()
    assert Explainer.of(tmp_path / "model") is not None
    assert model.settings.entity.key == "account"
    assert model.settings.training.weight is None
    assert not (tmp_path / "model" / "pipeline.yaml").exists()

    from kfp_lifecycle.registry.tracking import connect

    run = connect(f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}").get_run(metadata["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["max_iter"] == "20"
    assert run.data.metrics["validation_roc_auc_model"] == metadata["validation_roc_auc"]
    assert run.inputs.dataset_inputs[0].dataset.digest == TrainingSet(folder).digest
    assert run.info.artifact_uri.startswith((tmp_path / "state" / "mlflow").as_uri())


def damaged(tmp_path: Path, change: Any) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path / "set", rows=300, change=change))


def only(part_changed: str, **columns: Any) -> Any:
    return lambda part, frame: frame.assign(**columns) if part == part_changed else frame


def test_a_column_that_is_there_twice_is_refused_by_name(tmp_path: Path) -> None:
    training_set = damaged(tmp_path, None)
    file = training_set.folder / "train.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("charge", table["charge"]), file)
    with pytest.raises(ContractViolation, match=r"train.parquet has the column charge more than once"):
        fit_model(training_set, Training(), {"max_iter": 5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (only("train", gone=0), r"train part: 0 of 900 rows have gone = 1; training.min_class_rows asks for 10"),
        (only("validation", gone=1), r"validation part: 0 of 1\d\d rows have gone = 0"),
        (only("train", gone=lambda frame: frame.gone.where(frame.index > 2)), r"label gone is missing in 3 of 900"),
        (only("train", gone="yes"), r"label gone holds 'yes'"),
        (only("train", gone=2), r"label gone holds 2.*binary.*more classes than two are not supported"),
        (only("train", gone=lambda frame: frame.gone.astype(str)), r"label gone holds '[01]'"),
        (only("train", charge=np.nan), r"the feature charge has no value in any of 900 rows"),
        (only("train", plan=None), r"the feature plan has no value"),
        (only("train", charge=np.inf), r"the feature charge holds inf"),
        (only("train", charge=1e308), r"the feature charge holds 1e\+308.*too large"),
        (only("train", charge="cheap"), r"the feature charge is numeric, but holds something else"),
        (lambda part, frame: frame.drop(columns="tickets"), r"has no column tickets"),
        (lambda part, frame: frame.head(20), r"train part: \d+ of 20 rows have gone = 1"),
        (
            lambda part, frame: frame.assign(gone=(frame.index < 5).astype(int)),
            r"train part: \d+ of 900 .*; validation part: \d+ of \d+ .*; calibration part: \d+ of .*asks for 10. Use",
        ),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ContractViolation, match=f"(?s){message}"):
        fit_model(damaged(tmp_path, change), Training(min_class_rows=10), {"max_iter": 5})


@pytest.mark.parametrize(
    ("training", "parameters", "message"),
    [
        (Training(), {"learning_rat": 0.1}, "no parameter learning_rat; did you mean learning_rate"),
        (Training(), {"learning_rate": -1}, "cannot be trained: The 'learning_rate' parameter"),
        (Training(estimator="sklearn.ensemble.Forest"), {}, "sklearn has no sklearn.ensemble.Forest"),
        (Training(estimator="lightgbm.LGBMClassifier"), {"num_leafs": 3}, "did you mean num_leaves"),
        (Training(estimator="lightgbm.LGBMClassifier"), {"num_leaves": 1}, "LGBMClassifier cannot be trained: "),
        (Training(estimator="xgboost.XGBClassifier"), {"booster": "gblinear"}, "XGBClassifier .* has no ONNX form"),
        (Training(estimator="xgboost.XGBClassifier"), {"max_depth": -3}, "XGBClassifier cannot be trained: "),
        (Training.model_construct(estimator="os.path.join"), {}, "os.path.join is not from sklearn, lightgbm, xgboost"),
        (Training(estimator="sklearn.linear_model.Ridge"), {}, "gives no probabilities"),
        (Training(estimator="sklearn.ensemble.VotingClassifier"), {}, "cannot be made from training.parameters alone"),
        (Training(estimator="sklearn.metrics.roc_auc_score"), {}, "is not an estimator"),
    ],
)
def test_an_estimator_that_cannot_be_used_is_refused_by_name(
    training_set: TrainingSet, training: Training, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractViolation, match=message):
        fit_model(training_set, training, parameters)


def test_a_tracking_server_that_is_down_is_named_at_once_and_leaves_no_model(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", tmp_path / "state")
    keep_records_at(project, "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ContractViolation, match=r"127.0.0.1:9 cannot be reached"):
        train_model(project, tmp_path / "set", parameters_file(tmp_path), tmp_path / "model")
    assert time.monotonic() - started < 10
    assert not (tmp_path / "model").exists()


def test_baselines_are_what_scikit_learn_gives(training_set: TrainingSet) -> None:
    model = fit_model(training_set, Training(), {"max_iter": 5})
    part = training_set.part("validation")
    encoder, classifier = model.baselines["logistic"]
    train = training_set.part("train")
    again = LogisticRegression(max_iter=1000).fit(encoder.transform(train.features), train.label)
    ours = roc_auc_score(part.label, model.baselines["logistic"].predict_proba(part.features)[:, 1])
    assert ours == roc_auc_score(part.label, again.predict_proba(encoder.transform(part.features))[:, 1])
    assert classifier.classes_.tolist() == [0, 1]
