"""Models that are bad in one way each are rejected for their own reason, and a rejected one cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from mlflow.artifacts import load_dict

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.components.deployment.promote_model.promotion import promote
from kfp_lifecycle.components.deployment.register_model.registration import register
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.candidates import Candidate
from tests.modelling.slow_model import make_slow
from tests.projects import read_project

pytestmark = pytest.mark.slow

Change = Callable[[str, pd.DataFrame], pd.DataFrame]


def register_as(project: Path, *places: Path) -> dict[str, Any]:
    given = read_project(project)
    return register(given.settings, given.locations, *places)


def missed(verdict: dict[str, Any]) -> list[str]:
    return [rule["metric"] for rule in verdict["rules"] if not rule["passed"]]


def test_a_good_model_meets_every_rule_and_is_the_first_champion(good: Candidate) -> None:
    verdict = good.decide()
    assert missed(verdict) == []
    assert verdict["decision"] == "approved"
    assert verdict["champion"] is None
    assert "No version of leaving is in production yet: the rules alone decide." in verdict["sentences"]


def test_the_candidates_mlflow_run_has_the_verdict(good: Candidate) -> None:
    verdict = good.decide(asked_by="monitoring-7")
    run = connect(good.tracking_uri).get_run(verdict["run_id"])
    assert run.data.tags["decision"] == "approved"
    assert run.data.tags["asked_by"] == verdict["asked_by"] == "monitoring-7"
    assert run.data.tags["verdict"].startswith("Approved: leaving meets every rule")
    assert load_dict(f"{run.info.artifact_uri}/verdict.json") == verdict


def one_signal(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    random = np.random.default_rng(len(frame))
    logit = -1.5 + 2 * random.normal(size=len(frame))
    gone = (random.random(len(frame)) < 1 / (1 + np.exp(-logit))).astype(int)
    return frame.assign(days_away=20 + 5 * logit, gone=gone)


def leak(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    random = np.random.default_rng(len(frame))
    return frame.assign(charge=frame.gone + random.normal(0, 0.2, len(frame)))


def unfair(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    # What the model sees of a customer is the same in both groups, but for the channel, which tells the group.
    random = np.random.default_rng(len(frame))
    more = np.where(frame.group == "a", 0.35, 0.0)
    gone = (random.random(len(frame)) < np.clip(frame.best_possible + more, 0, 1)).astype(int)
    return frame.assign(gone=gone, channel=frame.group)


def terrible_for_new_customers(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    random = np.random.default_rng(len(frame))
    new = random.random(len(frame)) < 0.25
    by_chance = (random.random(len(frame)) < 0.25).astype(int)
    return frame.assign(gone=np.where(new, by_chance, frame.gone), channel=np.where(new, "new", frame.channel))


@pytest.mark.parametrize(
    ("change", "training", "reasons"),
    [
        pytest.param(
            None,
            {"parameters": {"min_samples_leaf": 100_000}},
            ["performance.roc_auc"],
            id="predicts the majority class",
        ),
        pytest.param(
            leak,
            {},
            # Whatever rests on one column falls with it.
            [
                "performance.strongest_feature_roc_auc",
                "robustness.worst_missing_feature_auc_drop",
                "leakage.roc_auc_alone.charge",
            ],
            id="leaks the label",
        ),
        pytest.param(unfair, {}, ["fairness.demographic_parity_ratio.group"], id="unfair to a group"),
        pytest.param(
            None,
            {
                "estimator": "sklearn.tree.DecisionTreeClassifier",
                "parameters": {"min_samples_leaf": 8},
                "calibration": "none",
            },
            ["calibration.slope"],
            id="over-confident",
        ),
        pytest.param(
            one_signal,
            {},
            # All that is known of a customer, by one feature alone: the data cannot tell that from a leak.
            ["robustness.worst_missing_feature_auc_drop", "leakage.roc_auc_alone.days_away"],
            id="brittle to a missing feature",
        ),
        pytest.param(
            terrible_for_new_customers,
            {},
            ["performance.roc_auc.channel=new"],
            id="good overall and terrible for new customers",
        ),
    ],
)
def test_a_model_that_is_bad_in_one_way_is_rejected_for_that(
    good: Candidate, tmp_path: Path, change: Change | None, training: dict[str, Any], reasons: list[str]
) -> None:
    verdict = Candidate(tmp_path, change, training, state=good.state).decide()
    assert verdict["decision"] == "rejected"
    assert missed(verdict) == reasons
    assert verdict["sentences"][0] == f"Rejected: it misses {len(reasons)} of {len(verdict['rules'])} rules."
    for reason, sentence in zip(reasons, verdict["sentences"][1:], strict=False):
        suspect = reason.removeprefix("leakage.roc_auc_alone.")
        assert sentence.startswith(f"{reason} is " if suspect == reason else f"{suspect} may leak the label")
        assert ("missed by" if suspect == reason else f"gate.waivers: {{{suspect}: REASON}}") in sentence


def test_a_feature_that_looks_like_a_leak_is_waived_with_a_reason_which_the_verdict_repeats(
    good: Candidate, tmp_path: Path
) -> None:
    candidate = Candidate(tmp_path, leak, state=good.state)
    reason = "The charge is announced a week before the prediction is made."
    project = candidate.with_rules([{"metric": "performance.roc_auc", "min": 0.6}])
    written = yaml.safe_load((project / "pipeline.yaml").read_text("utf-8"))
    written["gate"]["waivers"] = {"charge": reason}
    (project / "pipeline.yaml").write_text(yaml.safe_dump(written), "utf-8")
    verdict = candidate.decide(project=project)
    assert verdict["decision"] == "approved"
    assert "1 may leak the label and is waived with a reason" in verdict["sentences"][0]
    [waived] = [rule for rule in verdict["rules"] if rule["waived"]]
    assert (waived["metric"], waived["why"]) == ("leakage.roc_auc_alone.charge", reason)
    assert waived["sentence"].endswith(f"The finding is waived (gate.waivers): {reason}")


def test_a_model_that_a_logistic_regression_beats_is_told(good: Candidate) -> None:
    stump = {"parameters": {"max_iter": 1, "max_leaf_nodes": 2}}
    verdict = Candidate(good.place / "stump", None, stump, state=good.state).decide()
    [worse] = verdict["remarks"]
    assert worse.startswith("The model ranks worse than a logistic regression on the same rows, by 0.")
    assert worse in verdict["sentences"]


def test_a_slow_model_is_rejected_for_that(good: Candidate) -> None:
    shutil.copytree(good.place / "model", good.place / "slow")
    file = good.place / "slow" / "model.onnx"
    file.write_bytes(make_slow(onnx.load(file)).SerializeToString())
    good.evaluate("slow")
    assert missed(good.decide("slow")) == ["latency.p50_ms"]


def test_a_rejected_model_leaves_its_reasons_and_nothing_that_can_be_registered(good: Candidate) -> None:
    project = good.with_rules([{"metric": "performance.roc_auc", "min": 0.99}])
    verdict = good.decide(project=project)
    approved = good.place / "approved"
    assert [file.name for file in approved.iterdir()] == ["rejected.json"]
    assert json.loads((approved / "rejected.json").read_text("utf-8"))["sentences"] == verdict["sentences"]
    with pytest.raises(ContractViolation, match="rejected and cannot be registered"):
        register_as(project, approved, good.place / "verdict", good.place / "registered")
    assert not (good.place / "registered").exists()


def test_an_approved_model_is_registered_with_its_verdict_and_its_successor_is_held_to_it(good: Candidate) -> None:
    place = good.place
    verdict = good.decide()
    try:
        for _ in range(2):
            registered = register_as(good.project, place / "approved", place / "verdict", place / "registered")
            assert registered["version"] == "1", "the same run registered again is the same version"
        folder = place / "registered"
        assert json.loads((folder / "model.json").read_text("utf-8"))["version"] == "1"
        assert json.loads((folder / "verdict.json").read_text("utf-8")) == verdict
        assert (folder / "code" / "kfp_lifecycle" / "serving" / "server" / "server.py").is_file()
        assert not list(folder.rglob("*.joblib"))

        released = Deployment(
            model="leaving", version="1", previous_version=None, strategy="canary", url="http://here", grpc=""
        )
        released.write(place / "deployment")
        promote(read_project(good.project).locations, place / "deployment", place / "verdict", place / "champion")
        again = good.decide()
        assert again["decision"] == "rejected"
        assert "nothing to gain" in again["champion"]["sentence"]
        assert again["champion"]["notes"] == ["The champion was judged by the newest snapshots too."]
    finally:
        connect(good.tracking_uri).delete_registered_model("leaving")


def test_the_reference_project_names_only_metrics_that_an_evaluation_measures(good: Candidate) -> None:
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((good.place / "model-evaluation" / "evaluation.json").read_text("utf-8"))["metrics"]
    for project in (root, root / "examples" / "cdnow"):
        for rule in yaml.safe_load((project / "pipeline.yaml").read_text("utf-8"))["gate"]["rules"]:
            name = rule["metric"]
            if name.startswith("fairness."):
                name = name.rpartition(".")[0] + ".group"
            assert name in measured
