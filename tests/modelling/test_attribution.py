"""Contributions beside the served model are those that evaluation computes with shap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.evaluation.evaluate_model.explanation import explain
from kfp_lifecycle.modelling.attribution import FILE, Explainer
from kfp_lifecycle.modelling.attribution_export import explainer_arrays, typical_rows
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator, fit
from kfp_lifecycle.runtime.contract import ContractViolation

FEATURES = [
    Feature("plan", "categorical"),
    *(Feature(name, "numeric") for name in ("age", "spent", "visits", "gap")),
    Feature("town", "categorical"),
]
ROWS, SEED = 600, 7


@pytest.fixture(scope="module")
def inputs() -> pd.DataFrame:
    random = np.random.default_rng(SEED)
    numbers = {name: random.normal(10, 3, ROWS).astype(np.float32) for name in ("age", "spent", "visits", "gap")}
    frame = pd.DataFrame(numbers)
    frame.loc[random.random(ROWS) < 0.2, "gap"] = np.nan
    frame["plan"] = random.choice(["basic", "plus", "pro"], ROWS)
    frame["town"] = random.choice(["Bern", "Genève", ""], ROWS)
    return frame


def trained(path: str, inputs: pd.DataFrame, **parameters: object) -> Pipeline:
    random = np.random.default_rng(SEED + 1)
    drive = inputs["age"] - inputs["gap"].fillna(4) + 3 * (inputs["plan"] == "pro") + random.normal(0, 2, ROWS)
    label = (drive > drive.median()).to_numpy(np.int8)
    estimator = build_estimator(path, parameters, SEED)
    encoder = build_encoder(FEATURES, inputs, estimator).fit(inputs)
    return Pipeline([("encode", encoder), ("estimate", fit(estimator, encoder.transform(inputs), label))])


ESTIMATORS = {
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 20},
    "lightgbm.LGBMClassifier": {"n_estimators": 20},
    "xgboost.XGBClassifier": {"n_estimators": 20},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 10},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 10},
    "sklearn.tree.DecisionTreeClassifier": {"max_depth": 4},
    "sklearn.linear_model.LogisticRegression": {},
}


def contributions(explainer: Explainer, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """By feature, as the server asks for them: numbers first, then texts."""
    numeric = [feature.name for feature in FEATURES if feature.type == "numeric"]
    categorical = [feature.name for feature in FEATURES if feature.type == "categorical"]
    numbers = rows[numeric].to_numpy(np.float64).T
    found = explainer.contributions(numbers, [rows[name].tolist() for name in categorical])
    return dict(zip([*numeric, *categorical], found.T, strict=True))


@pytest.mark.parametrize("path", ESTIMATORS)
def test_contributions_are_those_of_evaluation(path: str, inputs: pd.DataFrame, tmp_path: Path) -> None:
    pipeline = trained(path, inputs, **ESTIMATORS[path])
    rows = inputs.head(40).copy()
    rows.loc[0, ["plan", "town"]] = ["never seen", "elsewhere"]
    expected = explain(pipeline, FEATURES, rows, inputs, SEED)
    arrays = explainer_arrays(pipeline, FEATURES, typical_rows(inputs, SEED))
    assert arrays is not None
    np.savez_compressed(tmp_path / FILE, **arrays)
    explainer = Explainer.of(tmp_path)
    assert explainer is not None
    assert explainer.scale == expected.scale
    assert explainer.base == pytest.approx(expected.base, abs=1e-5)
    found = contributions(explainer, rows)
    for position, name in enumerate(expected.features):
        assert found[name] == pytest.approx(expected.contributions[:, position], abs=2e-5), name
    total = explainer.base + sum(found.values())
    assert total == pytest.approx(expected.output, abs=1e-4)


def test_an_estimator_that_is_neither_trees_nor_linear_has_none(inputs: pd.DataFrame, tmp_path: Path) -> None:
    pipeline = trained("sklearn.naive_bayes.GaussianNB", inputs)
    assert explainer_arrays(pipeline, FEATURES, typical_rows(inputs, SEED)) is None
    assert Explainer.of(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04pickle"])
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ContractViolation, match="is not whole"):
        Explainer.of(tmp_path)
