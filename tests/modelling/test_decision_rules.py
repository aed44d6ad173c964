"""What one rule of the gate says, and what the verdict is as a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.components.evaluation.decide_promotion.gate import judge
from kfp_lifecycle.components.evaluation.decide_promotion.promotion import tell
from kfp_lifecycle.components.evaluation.decide_promotion.remarks import SIMPLE, beside_logistic, of_default_costs
from kfp_lifecycle.config.gate import Champion, GateRule
from kfp_lifecycle.config.training import Costs, ThresholdRule

ROOT = Path(__file__).resolve().parents[2]
METRICS = {
    "performance.roc_auc": Metric(0.812, 0.79, 0.83, 1000),
    "performance.roc_auc.plan=pro": Metric(0.8, 0.7, 0.9, 100),
    "performance.recall": Metric(0.4, 0.35, 0.45, 1000),
}


@pytest.mark.parametrize(
    ("rule", "passed", "words"),
    [
        ({"min": 0.7}, True, "is 0.812 (95% 0.79 to 0.83); at least 0.7 is required: passed with 0.112 to spare."),
        ({"min": 0.842}, False, "at least 0.842 is required: missed by 0.03."),
        ({"min": 0.8, "bound": "confidence"}, False, "of the lower end of the interval: missed by 0.01."),
        ({"max": 0.82, "bound": "confidence"}, False, "of the upper end of the interval: missed by 0.01."),
        ({"min": 0.7, "max": 0.8}, False, "at most 0.8 is required: missed by 0.012."),
        ({"min": 0.812}, True, "passed with 0 to spare"),
    ],
)
def test_a_rule_says_metric_value_interval_threshold_and_margin(rule: dict[str, Any], passed: bool, words: str) -> None:
    judged = judge(GateRule(metric="performance.roc_auc", **rule), METRICS, [])
    assert judged.passed is passed
    assert judged.margin is not None
    assert (judged.margin >= 0) is passed
    assert (judged.value, judged.low, judged.high, judged.rows) == (0.812, 0.79, 0.83, 1000)
    assert judged.sentence.startswith("performance.roc_auc is ")
    assert words in judged.sentence


def test_a_rule_can_be_about_one_slice() -> None:
    judged = judge(GateRule(metric="performance.roc_auc.plan=pro", min=0.75, bound="confidence"), METRICS, [])
    assert not judged.passed
    assert judged.rows == 100


@pytest.mark.parametrize(
    ("metric", "nearest"),
    [
        ("performance.roc_auk", "The nearest that was: performance.roc_auc"),
        ("performance.roc_auc.plam=pro", "The nearest that was: performance.roc_auc.plan=pro"),
        ("performance.unheard_of", "Measured of performance: performance.roc_auc, performance.roc_auc.plan=pro"),
        ("beauty.of_it", "Measured dimensions: performance."),
    ],
)
@pytest.mark.parametrize("policy", ["fail", "waive"])
def test_a_metric_that_no_evaluation_knows_fails_by_any_policy_and_the_nearest_is_named(
    metric: str, nearest: str, policy: str
) -> None:
    judged = judge(GateRule(metric=metric, min=0, unmeasured=policy), METRICS, ["recall is 0.4."])
    assert not judged.passed
    assert judged.value is None
    assert nearest in judged.sentence


@pytest.mark.parametrize(
    ("metric", "note"),
    [
        ("performance.precision", "performance.precision is undefined: no row reaches the threshold."),
        ("fairness.equalized_odds_difference.age", "Fairness by age was not measured: its groups are too small."),
        ("performance.roc_auc.plan=free", "No slice plan=free of the test rows is large enough to judge."),
    ],
)
def test_a_metric_that_could_not_be_measured_fails_or_is_waived_by_policy_and_never_silently(
    metric: str, note: str
) -> None:
    notes = ["performance.precision is undefined: no row reaches the threshold.", "Fairness by plan is fine."]
    notes.append("Fairness by age was not measured: its groups are too small.")
    failed = judge(GateRule(metric=metric, min=0), METRICS, notes)
    assert (failed.passed, failed.waived) == (False, False)
    assert note in failed.sentence

    waived = judge(GateRule(metric=metric, min=0, unmeasured="waive"), METRICS, notes)
    assert (waived.passed, waived.waived) == (True, True)
    assert note in waived.sentence
    met = judge(GateRule(metric="performance.roc_auc", min=0.5), METRICS, notes)
    told = tell("approved", "leaving", [met, waived], None)
    assert told[0].startswith("Approved: leaving meets every rule that could be judged; 1 could not be measured")
    assert waived.sentence in told


@pytest.mark.parametrize("piece", ["plan=pro", "age=65+", "city=S\u00e3o Paulo/SP", "group+rare=a & b"])
def test_a_slice_is_named_as_the_data_name_it(piece: str) -> None:
    assert GateRule(metric=f"performance.roc_auc.{piece}", min=0).metric.endswith(piece)


@pytest.mark.parametrize("metric", ["roc_auc", "performance.", "performance.roc auc", "performance.roc_auc. "])
def test_what_is_no_name_of_a_metric_is_refused(metric: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        GateRule(metric=metric, min=0)


def test_what_no_comparison_can_measure_is_refused_when_the_project_is_read() -> None:
    with pytest.raises(ValidationError, match="roc_auc"):
        Champion(metric="roc_auk")
    with pytest.raises(ValidationError, match="greater than 0"):
        Champion(non_inferiority={"brier_score": 0})


def test_every_part_of_the_schema_is_explained() -> None:
    schema = json.loads(Verdict.schema_text())
    parts = {"Verdict": schema, **{name: part for name, part in schema["$defs"].items() if "properties" in part}}
    for name, part in parts.items():
        for field, description in part["properties"].items():
            assert description.get("description"), f"{name}.{field}"


def test_a_verdict_without_rules_or_with_a_word_that_nobody_knows_is_none() -> None:
    with pytest.raises(ValidationError):
        Verdict.model_validate({"decision": "perhaps", "rules": [], "sentences": []})


@pytest.mark.parametrize(
    ("lead", "told"),
    [
        (Metric(-0.035, -0.047, -0.023, 900), "ranks worse than a logistic regression on the same rows, by 0.035 of"),
        (Metric(0.004, -0.01, 0.018, 900), "is not shown to rank better than a logistic regression on the same rows"),
        (Metric(0.04, 0.02, 0.06, 900), None),
    ],
)
def test_how_a_logistic_regression_does_is_told_where_it_does_as_well(lead: Metric, told: str | None) -> None:
    metrics = {"performance.roc_auc_gain_over_logistic": lead}
    found = beside_logistic(metrics, "sklearn.ensemble.HistGradientBoostingClassifier")
    assert found == [] if told is None else told in found[0]
    assert beside_logistic(metrics, SIMPLE) == [], "a logistic regression is no news beside another"


def test_costs_that_nobody_set_are_told_to_be_defaults() -> None:
    assert of_default_costs(Costs(), ThresholdRule.cost)[0].startswith(
        "Costs are the library's defaults, which nobody set: 100 USD for an event prevented, 10 for an action, 30% of "
        "actions prevent it. So the threshold and all figures of worth mean nothing yet"
    )
    assert "the threshold" not in of_default_costs(Costs(), ThresholdRule.f1)[0]
    assert of_default_costs(Costs(saved=240), ThresholdRule.cost) == []
