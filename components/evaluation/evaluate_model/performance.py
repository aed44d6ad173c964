"""Discrimination and decision metrics, compared with baselines and with the training months."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.curves import precision_recall_plot, roc_plot
from kfp_lifecycle.modelling.dataset import BEST_POSSIBLE
from kfp_lifecycle.modelling.metrics import Performance
from kfp_lifecycle.uncertainty.area import Area
from kfp_lifecycle.uncertainty.bootstrap import interval
from kfp_lifecycle.uncertainty.contributions import normal_interval

REASONS = {
    "precision": "no row reaches the threshold",
    "f1": "no row is an event or reaches the threshold",
}


def examine_performance(sample: Sample, baselines: Mapping[str, NDArray[Any]]) -> Findings:
    """Figures at the threshold and of the ranking, beside the baselines and, in a simulation, the best possible.

    ROC AUC has its interval in closed form (`uncertainty/area.py`), all others from the bootstrap.

    Args:
        sample: The test rows.
        baselines: Scores of the same rows by name.
    """
    findings = Findings()
    statistic = Performance(sample.label, sample.score, sample.threshold, sample.costs)
    values = statistic(np.ones((1, sample.rows)))[0]
    replicates = statistic.replicate(sample.bootstrap)
    for position, name in enumerate(statistic.names):
        if name == "roc_auc":
            findings.metrics["performance.roc_auc"] = sample.whole.metric()
        elif math.isfinite(values[position]):
            metric = interval(float(values[position]), replicates[:, position], sample.rows)
            findings.metrics[f"performance.{name}"] = metric
        else:
            findings.notes.append(f"performance.{name} is undefined: {REASONS[name]}.")
    areas = {name: sample.area(score) for name, score in baselines.items()}
    for name, area in areas.items():
        findings.metrics[f"performance.{name}_roc_auc"] = area.metric()
        findings.metrics[f"performance.roc_auc_gain_over_{name}"] = sample.whole.less(area)
    if BEST_POSSIBLE in sample.part.frame:
        best = sample.area(sample.part.frame[BEST_POSSIBLE].to_numpy(dtype=float))
        findings.metrics["performance.best_possible_roc_auc"] = best.metric()
    findings.add(_confusion(sample))
    findings.add(_comparison(sample, values, baselines))
    auc = findings.metrics["performance.roc_auc"]
    logistic = {"logistic regression": baselines["logistic"]} if "logistic" in baselines else {}
    findings.figures |= {
        "performance_roc": roc_plot(
            f"ROC curve, AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})",
            sample.label,
            {**logistic, "model": sample.score},
        ),
        "performance_precision_recall": precision_recall_plot(sample.label, sample.score, sample.threshold),
        "performance_scores": plots.score_plot(sample.label, sample.score, sample.threshold),
        "performance_value": plots.value_plot(sample.label, sample.score, sample.threshold, sample.costs),
    }
    return findings


def paying_score(costs: Costs) -> float:
    """The probability from which on acting pays: its cost over what it gains if the event would have come.

    Elkan 2001, "The foundations of cost-sensitive learning"; above 1 where acting never pays.
    """
    gain = costs.success_rate * costs.saved
    return costs.action / gain if gain else math.inf


def _confusion(sample: Sample) -> Findings:
    (left, false), (missed, caught) = confusion_matrix(sample.label, sample.acted, labels=[0, 1]).tolist()
    findings = Findings()
    findings.table(
        "performance",
        f"Decisions at the threshold {sample.threshold:.3f}",
        ["", "acted on", "left alone"],
        [["event", caught, missed], ["no event", false, left]],
    )
    return findings


def _comparison(sample: Sample, values: NDArray[np.float64], baselines: Mapping[str, NDArray[Any]]) -> Findings:
    """The model and the baselines line by line; a baseline has no threshold of its own and acts where that pays."""
    found = {"model": values}
    for name, score in baselines.items():
        statistic = Performance(sample.label, score, paying_score(sample.costs), sample.costs)
        found[name] = statistic(np.ones((1, sample.rows)))[0]
    findings = Findings()
    findings.table(
        "performance",
        "The model beside its baselines, on the same rows",
        ["metric", *found],
        [[name, *(float(row[at]) for row in found.values())] for at, name in enumerate(Performance.names)],
    )
    return findings


def compare_with_past(sample: Sample, past: Area, months: Mapping[str, NDArray[np.bool_]]) -> Findings:
    """How much worse the later months are than rows of the months that the model was trained on.

    Args:
        sample: The test rows.
        past: ROC AUC of the same kind of model on training rows that were left out, entities apart.
        months: Which rows are of each test snapshot, by date.
    """
    findings = Findings()
    # Not paired: other rows. An entity in both makes the interval a little too wide.
    both = np.concatenate([past.contributions, sample.whole.contributions])
    drop = normal_interval(past.value - sample.whole.value, both, sample.rows)
    findings.metrics["robustness.past_roc_auc"] = past.metric()
    findings.metrics["robustness.future_roc_auc_drop"] = drop
    if drop.low > 0:
        told = f"The future is worse by {drop.value:.3f} (95% {drop.low:.3f} to {drop.high:.3f})."
    elif drop.high < 0:
        told = f"The future is better by {-drop.value:.3f} (95% {-drop.high:.3f} to {-drop.low:.3f})."
    else:
        way, low, high = ("lower", drop.low, drop.high) if drop.value >= 0 else ("higher", -drop.high, -drop.low)
        told = f"That it is {way} by {abs(drop.value):.3f} (95% {low:.3f} to {high:.3f}) may be chance."
    findings.notes.append(
        f"Within the training dates, on rows left out of training, ROC AUC is {past.value:.3f}; on the later test "
        f"dates it is {sample.whole.value:.3f}. {told}"
    )
    rows = []
    for date, here in months.items():
        events = int(sample.label[here].sum())
        judged = 0 < events < int(here.sum())
        metric = sample.area(sample.score, here).metric() if judged else None
        share, expected = float(sample.label[here].mean()), float(sample.score[here].mean())
        figures = [metric.value, metric.low, metric.high] if metric else [None, None, None]
        rows.append([date, int(here.sum()), share, expected, *figures])
        if metric and len(months) > 1:
            findings.metrics[f"performance.roc_auc.snapshot={date}"] = metric
    findings.table(
        "robustness",
        "Each test snapshot",
        ["snapshot", "rows", "events", "expected", "ROC AUC", "low", "high"],
        rows,
    )
    return findings
