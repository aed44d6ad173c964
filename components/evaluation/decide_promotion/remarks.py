"""What an evaluation found that decides nothing and that nobody should miss: told with the verdict."""

from __future__ import annotations

from collections.abc import Mapping

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.components.evaluation.decide_promotion.gate import number
from kfp_lifecycle.config.training import Costs, ThresholdRule

SIMPLE = "sklearn.linear_model.LogisticRegression"


def beside_logistic(metrics: Mapping[str, Metric], estimator: str) -> list[str]:
    """A sentence where a logistic regression does as well as the model, or better."""
    lead = metrics.get("performance.roc_auc_gain_over_logistic")
    if lead is None or estimator == SIMPLE or lead.low > 0:
        return []
    if lead.high < 0:
        return [
            f"The model ranks worse than a logistic regression on the same rows, by {number(-lead.value)} of ROC AUC "
            f"(95% {number(-lead.high)} to {number(-lead.low)}): train that (training.estimator: {SIMPLE}), or search "
            "further (tuning)."
        ]
    way = "ahead" if lead.value >= 0 else "behind"
    return [
        f"The model is not shown to rank better than a logistic regression on the same rows: it is {way} by "
        f"{number(abs(lead.value))} of ROC AUC (95% of its lead {number(lead.low)} to {number(lead.high)})."
    ]


def of_default_costs(costs: Costs, threshold_by: ThresholdRule | None) -> list[str]:
    """A sentence where decisions rest on costs that nobody set."""
    if costs != Costs():
        return []
    rests = "the threshold and " if threshold_by is ThresholdRule.cost else ""
    return [
        f"Costs are the library's defaults, which nobody set: {costs.saved:g} {costs.currency} for an event prevented, "
        f"{costs.action:g} for an action, {costs.success_rate:.0%} of actions prevent it. So {rests}all figures of "
        "worth mean nothing yet: set training.costs."
    ]
