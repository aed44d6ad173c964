"""Leakage check: features that alone know more of the label than is known when a prediction is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from kfp_lifecycle.artifacts.evaluation import Metric, Suspect
from kfp_lifecycle.artifacts.titles import Titles, title_and_name, title_of
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.components.evaluation.evaluate_model.refits import both_classes, left_out
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.uncertainty.area import Area, area

Floats = NDArray[np.float64]

# A number with so few values has a group for each: where the event is rare, quantiles would hide its own values.
MOST_GROUPS = 200
# Else its groups are cut at these quantiles, closer at the ends, where a leak of a rare event is.
TAIL = (0.001, 0.0025, 0.005, 0.01, 0.02)
QUANTILES = (*TAIL, *np.linspace(0.05, 0.95, 19), *(1 - share for share in reversed(TAIL)))
# A group's event rate is drawn towards that of all rows as if it had so many rows more.
PRIOR_ROWS = 20
BLANK = np.empty(0)
# From this ROC AUC on a feature is taken for the label itself.
IS_LABEL = 0.99
# Leaks mask each other. Up to five features are suspected together where the strongest and the weakest of them rank so
# well, and what is left when all are taken away separates the classes less than half as far as the weakest.
STRONGEST_MASKING, WEAKEST_MASKING, MOST_MASKING, LEFT_BEHIND = 0.9, 0.8, 5, 0.5


def examine_leakage(sample: Sample, train: Part, logistic: Pipeline, pipeline: Pipeline) -> Findings:
    """Which features may know what comes after: those that alone rank better than all the others together.

    Judged on training rows that were left out: later months may blur what a leak looks like. Each feature alone ranks
    by the event rate of its groups in the other training rows (values or quantiles of a number, each category,
    missing), so that neither direction nor shape is assumed. The others together are the better of the logistic
    baseline and the model, fitted anew with the suspects blank.

    Args:
        sample: The test rows; only what it knows of the features is used.
        train: The training rows.
        logistic: Encoder and logistic regression; it is cloned.
        pipeline: Encoder and the model's estimator; it is cloned.
    """
    findings = Findings()
    fitted, out = left_out(train, sample.seed)
    if not both_classes(train, fitted, out):
        findings.notes.append("No feature was searched for a leak: too few training rows of one class.")
        return findings
    known, unseen, label = train.features.iloc[fitted], train.features.iloc[out], train.label[fitted]

    def ranking(score: NDArray[Any]) -> Area:
        return area(train.label[out], score, train.entity[out], int(train.entity.max()) + 1)

    def without(names: Sequence[str], kind: Pipeline) -> Area:
        if len(names) == len(sample.features):
            return ranking(np.zeros(len(out)))
        with threadpool_limits(1):
            others = clone(kind).fit(blanked(known, names), label)
        return ranking(others.predict_proba(blanked(unseen, names))[:, 1])

    alone = {
        name: ranking(event_rates(known[name], label, unseen[name], kind)) for name, kind in sample.features.items()
    }
    ranked = sorted(alone, key=lambda name: -alone[name].value)
    strongest, titles = ranked[0], sample.titles
    findings.metrics["performance.strongest_feature_roc_auc"] = alone[strongest].metric()
    findings.table(
        "performance",
        "Features that rank best alone, on training rows left out",
        ["feature", "ROC AUC", "low", "high"],
        [[title_and_name(name, titles), *_values(alone[name].metric())] for name in ranked[:5]],
    )
    if len(alone) > 1:
        rest = without([strongest], logistic)
        findings.metrics["performance.roc_auc_without_strongest_feature"] = rest.metric()
    found: list[str] = []
    while len(found) < MOST_MASKING:
        left = [name for name in ranked if name not in found]
        for names in _candidates(left, alone, sample.settings.suspicious_auc):
            others = max(
                (without([*found, *names], kind) for kind in (logistic, pipeline)), key=lambda area: area.value
            )
            compared = len(found) + len(names) < len(alone)
            if all(_stands_out(alone[name], others, len(names) > 1, compared) for name in names):
                findings.suspects += [
                    _suspect(name, [*found, *names], alone[name].metric(), others, titles) for name in names
                ]
                found += names
                break
        else:
            break
    findings.notes += [suspect.sentence for suspect in findings.suspects]
    return findings


def _candidates(ranked: Sequence[str], alone: dict[str, Area], suspicious: float) -> Iterator[Sequence[str]]:
    """Sets of features that may leak, the smallest first: the strongest one, then it with those that may mask it."""
    if not ranked or alone[ranked[0]].metric().low < suspicious:
        return
    yield ranked[:1]
    if alone[ranked[0]].metric().low < STRONGEST_MASKING:
        return
    for count in range(2, min(MOST_MASKING, len(ranked)) + 1):
        if alone[ranked[count - 1]].metric().low < max(suspicious, WEAKEST_MASKING):
            return
        yield ranked[:count]


def _stands_out(alone: Area, others: Area, masking: bool, compared: bool) -> bool:
    """Whether a feature may leak: where there are no others to compare it with, only what is as good as the label."""
    if alone.value >= IS_LABEL:
        return True
    if not compared:
        return False
    if masking:
        return separation(others.value) < LEFT_BEHIND * separation(alone.value)
    return alone.less(others).low > 0


def separation(roc_auc: float) -> float:
    """How many standard deviations lie between the scores of events and others, were both normal (binormal d').

    Near 1 a ROC AUC hardly moves: from .97 to .74 is two thirds of the way.

    Source: Green and Swets, Signal Detection Theory and Psychophysics (1966), AUC = Φ(d'/√2).
    """
    return math.sqrt(2) * float(ndtri(roc_auc))


def _suspect(name: str, together: Sequence[str], metric: Metric, others: Area, titles: Titles) -> Suspect:
    beside = [title_of(other, titles) for other in together if other != name]
    apart = f" without {', '.join(beside)}" if beside else ""
    what = (
        "it is as good as the label itself, with ROC AUC" if metric.value >= IS_LABEL else "alone it ranks with ROC AUC"
    )
    return Suspect(
        feature=name,
        roc_auc=metric,
        others=others.value,
        sentence=f"{title_and_name(name, titles)} may leak the label: {what} {metric.value:.3f}, all other "
        f"features together{apart} with {others.value:.3f}. Make sure that it is known when the prediction is made, or "
        "take it out of the features.",
    )


def blanked(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The same rows without what some features say: constants, which no model can learn from."""
    constants: dict[str, pd.Series] = {}
    for name in names:
        constant = 0.0 if pd.api.types.is_numeric_dtype(features[name]) else ""
        constants[name] = pd.Series([constant] * len(features), features.index, features[name].dtype)
    return features.assign(**constants)


def event_rates(known: pd.Series, label: NDArray[Any], values: pd.Series, kind: str) -> Floats:
    """The event rate, in training rows, of the group that each value falls into.

    Args:
        known: Training values.
        label: Theirs.
        values: What to look up, shape (n,).
        kind: `numeric` or `categorical`.

    Returns:
        Shape (n,); a group that training never saw has the rate of all rows.
    """
    if kind == "numeric":
        limits = _limits(known.dropna().to_numpy())
        groups = [np.where(column.isna(), -1, np.searchsorted(limits, column, "right")) for column in (known, values)]
    else:
        groups = [column.to_numpy() for column in (known, values)]
    counted = pd.Series(label).groupby(groups[0]).agg(["sum", "size"])
    overall = float(np.mean(label))
    rates = (counted["sum"] + PRIOR_ROWS * overall) / (counted["size"] + PRIOR_ROWS)
    found: Floats = pd.Series(groups[1]).map(rates).fillna(overall).to_numpy(dtype=np.float64)
    return found


def _limits(known: NDArray[Any]) -> NDArray[Any]:
    """Where the groups of a number end: at each of its values where they are few, else at quantiles."""
    if not len(known):
        return BLANK
    values = np.unique(known)
    return values if len(values) <= MOST_GROUPS else np.unique(np.quantile(known, QUANTILES))


def _values(metric: Metric) -> list[float]:
    return [metric.value, metric.low, metric.high]
