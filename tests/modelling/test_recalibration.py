"""A recalibration keeps the model in production and fits its calibration, or its threshold alone, anew."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.calibration_graph import RawScorer, with_calibration
from kfp_lifecycle.modelling.comparison import graph_differences
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.estimator import raw_scores
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import write_training_set
from tests.modelling.trained import fit_model

pytestmark = pytest.mark.slow

CALIBRATIONS = [
    Calibration(Method.sigmoid, slope=1.3, intercept=0.7),
    Calibration(Method.isotonic, knots=[(0.01, 0.02), (0.2, 0.3), (0.6, 0.9)]),
    Calibration(Method.none),
]


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("data") / "set", rows=400))


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}),
        ("sklearn.linear_model.LogisticRegression", {}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 6}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 20}),
        ("xgboost.XGBClassifier", {"n_estimators": 20}),
    ],
)
def test_an_exported_model_takes_another_calibration_and_all_before_it_stays(
    training_set: TrainingSet, estimator: str, parameters: dict[str, Any]
) -> None:
    model = fit_model(training_set, Training(estimator=estimator), parameters)
    exported = onnx.load_model_from_string(model.onnx)
    inputs = training_set.part("test").features
    raw = RawScorer(exported, training_set.features)(inputs)
    assert raw == pytest.approx(raw_scores(model.pipeline, inputs), abs=1e-6)
    changed = exported
    for calibration in CALIBRATIONS:
        # From each method to the next.
        changed = with_calibration(changed, calibration)
        served = Scorer(changed.SerializeToString(), training_set.features).score(inputs)
        assert served == pytest.approx(calibration.apply(raw), abs=1e-6)
        assert all("calibration/" in item["what"] for item in graph_differences(exported, changed))
        assert RawScorer(changed, training_set.features)(inputs) == pytest.approx(raw, abs=0)
    # The same calibration again gives the same file.
    assert with_calibration(changed, model.calibration).SerializeToString() == model.onnx


def test_a_graph_without_a_calibration_of_this_library_is_refused(training_set: TrainingSet) -> None:
    model = onnx.load_model_from_string(fit_model(training_set, Training(), {"max_iter": 5}).onnx)
    for node in model.graph.node:
        node.output[:] = [name.replace("calibration/", "tail/") for name in node.output]
    with pytest.raises(ContractViolation, match="does not say where its calibration begins"):
        with_calibration(model, CALIBRATIONS[0])
