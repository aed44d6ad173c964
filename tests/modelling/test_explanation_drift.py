"""What scores rest on: told when it changes, beside how much it changes usually."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.explanations import explanation_drift, weights_of
from kfp_lifecycle.modelling.attribution import FILE, Explainer
from kfp_lifecycle.modelling.attribution_export import explainer_arrays, typical_rows
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator, fit

FEATURES = [Feature("plan", "categorical"), Feature("charge", "numeric"), Feature("logins", "numeric")]
ESTIMATORS = ("sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier")


def rows(seed: int, count: int = 400, spread: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "plan": random.choice(["basic", "premium"], count),
            "charge": random.normal(30, 5 * spread, count),
            "logins": random.normal(10, 3, count),
        }
    )


@pytest.fixture(params=ESTIMATORS, ids=lambda path: path.rpartition(".")[2])
def explainer(request: pytest.FixtureRequest, tmp_path: Path) -> Explainer:
    inputs = rows(0, 3_000)
    odds = 0.2 * (inputs["charge"] - 30) - 0.5 * (inputs["logins"] - 10) + (inputs["plan"] == "basic")
    label = (np.random.default_rng(1).random(len(inputs)) < 1 / (1 + np.exp(-odds))).to_numpy(np.int8)
    estimator = build_estimator(request.param, {}, 0)
    encoder = build_encoder(FEATURES, inputs, estimator).fit(inputs)
    pipeline = Pipeline([("encode", encoder), ("estimate", fit(estimator, encoder.transform(inputs), label))])
    arrays = explainer_arrays(pipeline, FEATURES, typical_rows(inputs, 0))
    assert arrays is not None
    np.savez_compressed(tmp_path / FILE, **arrays)
    found = Explainer.of(tmp_path)
    assert found is not None
    return found


def test_weights_are_shares_of_all_contributions(explainer: Explainer) -> None:
    weights = weights_of(explainer, FEATURES, rows(2))
    assert weights.sum() == pytest.approx(1)
    numbers = rows(2)[["charge", "logins"]].to_numpy(np.float64).T
    sizes = np.abs(explainer.contributions(numbers, [rows(2)["plan"].tolist()])).mean(axis=0)
    assert weights == pytest.approx(sizes[[2, 0, 1]] / sizes.sum())


def test_dates_that_are_alike_differ_by_no_more_than_chance(explainer: Explainer) -> None:
    found = explanation_drift(explainer, FEATURES, [rows(seed) for seed in range(3, 9)], rows(9), seed=0, titles={})
    assert found.usual is not None
    assert found.usual < 0.06
    assert found.distance < 0.06
    assert found.rows == 200


def test_what_scores_rest_on_by_now_is_named_with_how_much(explainer: Explainer) -> None:
    titles = {"charge": "Gebühr"}
    found = explanation_drift(explainer, FEATURES, [rows(3), rows(4)], rows(5, spread=4), seed=0, titles=titles)
    assert found.usual is not None
    assert found.distance > 3 * found.usual
    assert found.weights[0].column == "charge"
    assert found.weights[0].after > found.weights[0].before + 0.1
    assert "most of all on Gebühr: " in found.sentence


def test_a_baseline_of_one_date_knows_nothing_usual_and_missing_values_are_explained(explainer: Explainer) -> None:
    window = rows(6)
    window.loc[:100, "charge"] = np.nan
    window.loc[:50, "plan"] = None
    found = explanation_drift(explainer, FEATURES, [rows(3)], window, seed=0, titles={})
    assert found.usual is None
    assert "older dates" not in found.sentence
    assert sum(weight.after for weight in found.weights) == pytest.approx(1)
