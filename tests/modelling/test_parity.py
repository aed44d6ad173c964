"""The parity matrix: what is exported computes what was trained, whatever estimator, numbers and calibration.

`python -m benchmarks.parity` tries more sizes and seeds.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_breast_cancer

from benchmarks.parity import DATA, ESTIMATORS, FEATURES, outcome, part
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.training.train_model.fitting import fit_pipeline
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.estimator import build_estimator, raw_scores
from kfp_lifecycle.modelling.export import export_onnx
from kfp_lifecycle.modelling.scoring import Scorer

pytestmark = pytest.mark.slow

# What their converters make of them is another model, or nothing that can be run: they are refused.
REFUSED = {
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": "computes something else",
    "sklearn.gaussian_process.GaussianProcessClassifier": "has no ONNX form",
}
# Of neighbours that are equally far it takes some, and its export others.
TIES = {"sklearn.neighbors.KNeighborsClassifier": {"tied"}}
# Half of what float32 can tell apart just below 1, and room for one unit in the last place of its sums.
EXACT = 1.2e-7
IN_64_BITS = [
    "sklearn.linear_model.LogisticRegression",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.tree.DecisionTreeClassifier",
]


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name not in REFUSED])
def test_an_exported_model_is_the_trained_one_on_any_numbers(estimator: str) -> None:
    for data in sorted(DATA.keys() - TIES.get(estimator, set())):
        found = outcome(estimator, ESTIMATORS[estimator], Method.none, data, 300, seed=0)
        assert not found.reason, f"{data}: {found.reason}"
        if estimator in IN_64_BITS:
            assert found.difference <= EXACT, data


@pytest.mark.parametrize(("estimator", "reason"), REFUSED.items())
def test_an_estimator_whose_converter_errs_is_refused(estimator: str, reason: str) -> None:
    assert reason in outcome(estimator, ESTIMATORS[estimator], Method.none, "plain", 300, seed=0).reason


@pytest.mark.parametrize("slope", [0.2, 1.0, 4.0])
@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.tree.DecisionTreeClassifier",
        "sklearn.ensemble.RandomForestClassifier",
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "lightgbm.LGBMClassifier",
        "xgboost.XGBClassifier",
    ],
)
def test_a_calibration_of_any_slope_does_not_enlarge_what_is_rounded(estimator: str, slope: float) -> None:
    """Scores at the margin among them: trees that know their training rows by heart give 0 and 1."""
    train = part("money", 400, seed=1)
    pipeline = fit_pipeline(FEATURES, train, build_estimator(estimator, ESTIMATORS[estimator], 0))
    calibration = Calibration(Method.sigmoid, slope=slope, intercept=0.3)
    scorer = Scorer(export_onnx(pipeline, calibration, FEATURES).SerializeToString(), FEATURES, threads=1)
    expected = calibration.apply(raw_scores(pipeline, train.features))
    assert np.abs(scorer.score(train.features) - expected).max() < 2e-6


@pytest.mark.parametrize("slope", [0.3, 1.0, 4.0])
def test_a_regression_on_numbers_alone_keeps_what_probabilities_near_1_lose(slope: float) -> None:
    """Without categories another converter is used, whose sums and coefficients have 32 bits."""
    data = load_breast_cancer(as_frame=True)
    rows = data.data.astype(np.float32)
    features = [Feature(name=name, type="numeric") for name in rows]
    train = Part(rows, rows, data.target.to_numpy(np.int8), np.arange(len(rows)))
    pipeline = fit_pipeline(features, train, build_estimator(IN_64_BITS[0], {"C": 100, "max_iter": 1000}, 0))
    calibration = Calibration(Method.sigmoid, slope=slope, intercept=0.3)
    scorer = Scorer(export_onnx(pipeline, calibration, features).SerializeToString(), features, threads=1)
    assert np.abs(pipeline.decision_function(rows)).max() > 20
    assert np.abs(scorer.score(rows) - calibration.apply(raw_scores(pipeline, rows))).max() <= EXACT


def test_trees_see_numbers_as_they_are_and_others_compute_in_64_bits() -> None:
    train = part("money", 200, seed=2)
    for estimator, scaled in (("sklearn.ensemble.RandomForestClassifier", False), (IN_64_BITS[0], True)):
        pipeline = fit_pipeline(FEATURES, train, build_estimator(estimator, {}, 0))
        matrix = pipeline[0].transform(train.features)
        assert matrix.dtype == (np.float64 if scaled else np.float32)
        assert (np.abs(matrix[:, 0]).max() > 100) is not scaled
        graph = export_onnx(pipeline, Calibration(Method.none), FEATURES).graph
        assert any(node.op_type in ("Scaler", "Sub") for node in graph.node)
        assert {item.type.tensor_type.elem_type for item in graph.input} == {
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.STRING,
        }
