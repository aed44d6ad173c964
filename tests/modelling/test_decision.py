"""Models that are bad in one way each are rejected for their own reason, and a rejected one cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.contract import ContractViolation
from components.deployment.promote_model.promotion import promote
from components.deployment.register_model.registration import register
from components.deployment.registry import set_champion
from components.evaluation.bootstrap import Metric
from components.evaluation.decide_promotion.gate import judge
from components.evaluation.decide_promotion.promotion import decide
from components.evaluation.evaluate_model.evaluation import evaluate
from components.training.train_model.training import train_model
from project.gate import GateRule
from tests.modelling.business import write_project, write_training_set

pytestmark = pytest.mark.slow

RULES = [
    {"metric": "performance.roc_auc", "at_least": 0.65},
    {"metric": "fairness.demographic_parity_ratio.group", "at_least": 0.8},
    {"metric": "calibration.expected_calibration_error", "at_most": 0.08},
    {"metric": "robustness.worst_missing_feature_auc_drop", "at_most": 0.2},
]


class Candidate:
    """A model on the way from training to the verdict."""

    def __init__(self, place: Path, change: Any = None, training: dict[str, Any] | None = None) -> None:
        settings = {"parameters": {"max_iter": 25}, **(training or {})}
        self.place = place
        self.state = place / "state"
        self.project = write_project(place / "project", self.state, gate={"rules": RULES}, training=settings)
        self.training_set = write_training_set(place / "set", rows=700, change=change)
        self.train("model", settings["parameters"])

    def train(self, name: str, parameters: dict[str, Any]) -> None:
        (self.place / "parameters").write_text(json.dumps({"parameters": parameters}), "utf-8")
        train_model(self.project, self.training_set, self.place / "parameters", self.place / name)
        evaluate(self.project, self.training_set, self.place / name, self.place / f"{name}-evaluation")

    def decide(self, name: str = "model") -> dict[str, Any]:
        evaluation = self.place / f"{name}-evaluation"
        decide(
            *(self.project, self.training_set, self.place / name, evaluation),
            *(self.place / "verdict", self.place / "approved"),
        )
        verdict: dict[str, Any] = json.loads((self.place / "verdict").read_text("utf-8"))
        return verdict

    def register(self) -> dict[str, Any]:
        return register(self.project, self.place / "approved", self.place / "verdict", self.place / "registered")


def missed(verdict: dict[str, Any]) -> list[str]:
    return [rule["metric"] for rule in verdict["rules"] if not rule["passed"]]


def one_signal(part: str, frame: Any) -> Any:
    random = np.random.default_rng(len(frame))
    frame["days_away"] = frame.gone * 60 + random.normal(0, 20, len(frame))
    return frame


def unfair(part: str, frame: Any) -> Any:
    random = np.random.default_rng(len(frame))
    frame["gone"] = (random.random(len(frame)) < np.where(frame.group == "a", 0.8, 0.05)).astype(int)
    return frame.assign(channel=frame.group)


def chance(part: str, frame: Any) -> Any:
    return frame.assign(gone=(np.random.default_rng(len(frame)).random(len(frame)) < 0.2).astype(int))


@pytest.mark.parametrize(
    ("change", "training", "reasons"),
    [
        pytest.param(
            None,
            {"parameters": {"min_samples_leaf": 100_000}},
            ["performance.roc_auc"],
            id="predicts the majority class",
        ),
        pytest.param(chance, None, ["performance.roc_auc"], id="knows nothing"),
        pytest.param(
            None,
            {
                "estimator": "sklearn.tree.DecisionTreeClassifier",
                "parameters": {"min_samples_leaf": 8},
                "calibration": "none",
            },
            ["calibration.expected_calibration_error"],
            id="over-confident",
        ),
        pytest.param(one_signal, None, ["robustness.worst_missing_feature_auc_drop"], id="brittle"),
        pytest.param(unfair, None, ["fairness.demographic_parity_ratio.group"], id="unfair"),
    ],
)
def test_a_bad_model_is_rejected_for_its_own_reason(
    tmp_path: Path, change: Any, training: dict[str, Any] | None, reasons: list[str]
) -> None:
    candidate = Candidate(tmp_path, change, training)
    verdict = candidate.decide()
    assert verdict["decision"] == "rejected"
    assert set(reasons) <= set(missed(verdict))
    assert "missed by" in verdict["sentences"][1]
    assert [file.name for file in (tmp_path / "approved").iterdir()] == ["rejected.json"]
    with pytest.raises(ContractViolation, match="rejected and cannot be registered"):
        candidate.register()
    assert not (tmp_path / "registered").exists()


def test_the_life_of_a_champion(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path)
    verdict = candidate.decide()
    assert verdict["decision"] == "promoted"
    assert verdict["champion"] is None

    registered = candidate.register()
    assert registered["version"] == "1"
    assert candidate.register()["version"] == "1", "the same run registered again is the same version"
    description = json.loads((tmp_path / "registered" / "model.json").read_text("utf-8"))
    assert description["version"] == "1"
    assert (tmp_path / "registered" / "code" / "serving" / "server.py").is_file()
    assert not list((tmp_path / "registered").rglob("*.joblib"))

    (tmp_path / "deployment").write_text('{"model": "leaving", "version": "1"}', "utf-8")
    promote(candidate.project, tmp_path / "deployment", tmp_path / "champion")

    again = candidate.decide()
    assert again["decision"] == "rejected", "an identical model is no improvement"
    assert "nothing to gain" in again["champion"]["sentence"]

    candidate.train("worse", {"max_iter": 1, "max_leaf_nodes": 2})
    worse = candidate.decide("worse")
    assert worse["champion"]["difference"] < 0
    assert not worse["champion"]["passed"]


def test_a_clearly_better_model_beats_the_champion_and_one_that_cannot_be_asked_stays(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path)
    candidate.train("weak", {"max_iter": 2, "max_leaf_nodes": 2})
    uri = f"sqlite:///{candidate.state / 'mlflow.db'}"
    candidate.decide()
    weak = json.loads((tmp_path / "weak" / "model.json").read_text("utf-8"))

    from components.deployment.registry import create_version

    set_champion(uri, "leaving", create_version(uri, "leaving", weak["run_id"], {}))
    verdict = candidate.decide()
    assert verdict["champion"]["low"] > 0
    assert verdict["decision"] == "promoted"

    for file in (candidate.state / "mlflow").rglob("model.onnx"):
        file.unlink()
    refused = candidate.decide()
    assert refused["decision"] == "rejected"
    assert "could not be compared with version 1" in refused["champion"]["sentence"]


def test_the_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path)
    evaluation = tmp_path / "model-evaluation" / "evaluation.json"
    content = json.loads(evaluation.read_text("utf-8"))
    evaluation.write_text(json.dumps({**content, "run_id": "another"}), "utf-8")
    with pytest.raises(ContractViolation, match="is of the model of run another"):
        candidate.decide()
    assert not (tmp_path / "approved").exists()


@pytest.mark.parametrize(
    ("rule", "passed", "words"),
    [
        ({"at_least": 0.7}, True, "is 0.812 (95% 0.79 to 0.83); at least 0.7 is required: passed with 0.112 to spare."),
        ({"at_least": 0.842}, False, "at least 0.842 is required: missed by 0.03."),
        ({"at_least": 0.8, "bound": "confidence"}, False, "of the lower end of the interval: missed by 0.01."),
        ({"at_most": 0.82, "bound": "confidence"}, False, "of the upper end of the interval: missed by 0.01."),
        ({"at_least": 0.7, "at_most": 0.8}, False, "at most 0.8 is required: missed by 0.012."),
        ({"at_least": 0.812}, True, "passed with 0 to spare"),
    ],
)
def test_a_rule_says_by_how_much(rule: dict[str, Any], passed: bool, words: str) -> None:
    metrics = {"performance.roc_auc": Metric(0.812, 0.79, 0.83, 1000)}
    judged = judge(GateRule(metric="performance.roc_auc", **rule), metrics, [])
    assert judged.passed is passed
    assert words in judged.sentence


def test_an_unmeasured_metric_fails_with_its_reason_or_the_nearest_name() -> None:
    metrics = {"performance.roc_auc": Metric(0.8, 0.79, 0.83, 1000)}
    judged = judge(GateRule(metric="performance.roc_auk", at_least=0), metrics, [])
    assert not judged.passed
    assert "Measured was performance.roc_auc" in judged.sentence
    undefined = "performance.precision is undefined: no row reaches the threshold."
    assert undefined in judge(GateRule(metric="performance.precision", at_least=0), metrics, [undefined]).sentence


def test_the_reference_project_names_only_metrics_that_an_evaluation_measures(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    rules = yaml.safe_load((root / "pipeline.yaml").read_text("utf-8"))["gate"]["rules"]
    candidate = Candidate(tmp_path)
    content = json.loads((candidate.place / "model-evaluation" / "evaluation.json").read_text("utf-8"))
    for rule in rules:
        name = rule["metric"]
        if name.startswith("fairness."):
            name = name.rpartition(".")[0] + ".group"
        assert name in content["metrics"]
