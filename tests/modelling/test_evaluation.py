"""Every figure agrees with an independent computation, and its interval covers the truth."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from components.evaluation.bootstrap import Bootstrap, measure
from components.evaluation.evaluate_model.calibration_error import Reliability, calibration_errors
from components.evaluation.evaluate_model.evaluation import evaluate
from components.evaluation.evaluate_model.fairness import group_fairness
from components.evaluation.ranking import AreaUnderCurve, Performance
from components.training.train_model.training import train_model
from project.training import Costs
from tests.modelling.business import write_project, write_training_set

pytestmark = pytest.mark.slow

COSTS = Costs(saved=240, action=15, success_rate=0.3)


def scores(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    # Rounded, so that many scores are equal.
    score = random.beta(1, 4, rows).round(2).astype(np.float32)
    return (random.random(rows) < score).astype(np.int8), score


def test_performance_is_what_scikit_learn_says() -> None:
    label, score = scores()
    statistic = Performance(label, score, 0.25, COSTS)
    found = dict(zip(statistic.names, statistic(np.ones((1, len(label))))[0], strict=True))
    acted = score >= 0.25
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, acted))
    assert found["precision"] == pytest.approx(metrics.precision_score(label, acted))
    assert found["recall"] == pytest.approx(metrics.recall_score(label, acted))
    assert found["f1"] == pytest.approx(metrics.f1_score(label, acted))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(label, score))
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(label, score))
    assert found["brier_score"] == pytest.approx(metrics.brier_score_loss(label, score))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(label, score), rel=1e-3)
    worth = sum((72 if event else 0) - 15 for event, act in zip(label, acted, strict=True) if act)
    assert found["expected_value_per_1000"] == pytest.approx(1000 * worth / len(label))


def test_weights_mean_repeated_rows() -> None:
    label, score = scores(300)
    weights = np.random.default_rng(1).integers(0, 4, 300)
    weighted = Performance(label, score, 0.25, COSTS)(weights[None, :].astype(float))
    repeated = Performance(label.repeat(weights), score.repeat(weights), 0.25, COSTS)(np.ones((1, weights.sum())))
    assert weighted == pytest.approx(repeated)


def test_lift_is_the_event_rate_at_the_top_over_the_event_rate() -> None:
    random = np.random.default_rng(2)
    score = random.permutation(1000).astype(np.float32)
    label = (random.random(1000) < score / 1000).astype(np.int8)
    position = Performance.names.index("lift_at_10_percent")
    found = Performance(label, score / 1000, 0.5, COSTS)(np.ones((1, 1000)))[0, position]
    assert found == pytest.approx(label[np.argsort(-score)[:100]].mean() / label.mean())


def test_calibration_error_agrees_with_a_plain_loop() -> None:
    label, score = scores()
    limits = sorted(set(np.quantile(score.astype(float), np.arange(1, 10) / 10)))
    groups: dict[int, list[int]] = {}
    for row, value in enumerate(score.astype(float)):
        groups.setdefault(sum(value > limit for limit in limits), []).append(row)
    gaps = [abs(label[rows].mean() - score[rows].astype(float).mean()) for rows in groups.values()]
    expected = sum(gap * len(rows) / len(label) for gap, rows in zip(gaps, groups.values(), strict=True))
    found = calibration_errors(Reliability(label, score), Bootstrap(np.arange(len(label)), 50, 0))
    assert found["calibration.expected_calibration_error"].value == pytest.approx(expected)
    assert found["calibration.maximum_calibration_error"].value == pytest.approx(max(gaps))


def test_fairness_agrees_with_fairlearn_and_names_small_groups() -> None:
    label, score = scores()
    group = pd.Series(np.random.default_rng(3).choice(["a", "b", "c"], 2000, p=[0.6, 0.38, 0.02]))
    acted = score >= 0.25
    found = group_fairness("gender", group, label, acted, Bootstrap(np.arange(2000), 50, 0), 100)
    judged = (group != "c").to_numpy()
    for name in ("demographic_parity_ratio", "demographic_parity_difference", "equalized_odds_difference"):
        expected = getattr(fairlearn.metrics, name)(
            label[judged], acted[judged].astype(int), sensitive_features=group[judged]
        )
        assert found.metrics[f"fairness.{name}.gender"].value == pytest.approx(expected)
    assert any(note.startswith("gender=c has") for note in found.notes)


def test_intervals_cover_the_truth_and_widen_when_entities_repeat() -> None:
    random = np.random.default_rng(4)
    covered = 0
    for seed in range(60):
        label = (random.random(400) < 0.3).astype(np.int8)
        score = (label + random.normal(size=400)).astype(np.float32)
        metric = measure(AreaUnderCurve(label, score), Bootstrap(np.arange(400), 200, seed))
        covered += metric.low <= 0.7602 <= metric.high
    assert covered >= 51
    label, score = scores(500)
    single = measure(AreaUnderCurve(label, score), Bootstrap(np.arange(500), 200, 0))
    entity = np.tile(np.arange(500), 4)
    repeated = measure(AreaUnderCurve(np.tile(label, 4), np.tile(score, 4)), Bootstrap(entity, 200, 0))
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low)


def test_an_evaluation_measures_six_dimensions(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", tmp_path / "state")
    folder = write_training_set(tmp_path / "set", rows=600)
    (tmp_path / "parameters").write_text('{"parameters": {"max_iter": 20}}', "utf-8")
    train_model(project, folder, tmp_path / "parameters", tmp_path / "model")
    found = evaluate(project, folder, tmp_path / "model", tmp_path / "evaluation")
    content = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text("utf-8"))
    dimensions = {name.partition(".")[0] for name in content["metrics"]}
    assert dimensions == {"performance", "fairness", "robustness", "calibration", "explainability", "latency"}
    for metric in content["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    assert content["metrics"]["explainability.additivity_error"]["value"] < 1e-9
    assert content["metrics"]["performance.dummy_roc_auc"]["value"] == 0.5
    assert "performance.roc_auc.plan=pro" in content["metrics"]
    assert any("rare=tiny" in note for note in content["notes"])
    predictions = pd.read_parquet(tmp_path / "evaluation" / "predictions.parquet")
    assert metrics.roc_auc_score(predictions.gone, predictions.score) == pytest.approx(found.metadata["roc_auc"])
    for file in (tmp_path / "evaluation" / "plots").glob("*.svg"):
        assert ET.parse(file).getroot().tag.endswith("svg")
        assert file.stem.partition("_")[0] in dimensions
