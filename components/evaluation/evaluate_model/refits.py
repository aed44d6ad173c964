"""Leakage check and past performance, by models that are fitted anew on training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.uncertainty.area import Area, area

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Training rows behind a refit: enough to tell, quick to fit.
MOST_ROWS = 30_000
LEFT_OUT = 0.25
BINS = 20
# A group's event rate is drawn towards that of all rows as if it had so many rows more.
PRIOR_ROWS = 20
BLANK = np.empty(0)


def left_out(train: Part, seed: int) -> tuple[Rows, Rows]:
    """Positions of the training rows to fit anew on, and of those of other entities that are left out of that.

    At the most `MOST_ROWS` in all, whole entities, `LEFT_OUT` of them left out.
    """
    entities = int(train.entity.max()) + 1
    place = np.random.default_rng(seed).permutation(entities)[train.entity]
    kept = min(1.0, MOST_ROWS / len(train.label)) * entities
    return np.flatnonzero((place >= LEFT_OUT * kept) & (place < kept)), np.flatnonzero(place < LEFT_OUT * kept)


def area_in_past(pipeline: Pipeline, train: Part, seed: int) -> Area | None:
    """ROC AUC of the same kind of model within the training months, on entities that were left out.

    Args:
        pipeline: Encoder and estimator; it is cloned.
        train: The training rows.
        seed: Chooses who is left out.

    Returns:
        None where a class is missing on either side.
    """
    fitted, out = left_out(train, seed)
    if not both_classes(train, fitted, out):
        return None
    # So few rows gain little from threads, and threads that wait for a busy core lose seconds.
    with threadpool_limits(1):
        again = clone(pipeline).fit(train.features.iloc[fitted], train.label[fitted])
    score = again.predict_proba(train.features.iloc[out])[:, 1]
    return area(train.label[out], score, train.entity[out], int(train.entity.max()) + 1)


def both_classes(train: Part, *sides: Rows) -> bool:
    """Whether each side has events and others."""
    return all(len(rows) > 0 and np.ptp(train.label[rows]) == 1 for rows in sides)


def examine_leakage(sample: Sample, train: Part, logistic: Pipeline) -> Findings:
    """Whether one feature alone ranks better than all the others together: it may know what comes after.

    Judged on training rows that were left out: later months may blur what a leak looks like. Each feature alone ranks
    by the event rate of its groups in the other training rows (20 quantiles of a number, each category, missing), so
    that neither direction nor shape is assumed. The others together are the logistic baseline, fitted anew with that
    feature blank.

    Args:
        sample: The test rows; only what it knows of the features is used.
        train: The training rows.
        logistic: Encoder and logistic regression; it is cloned.
    """
    findings = Findings()
    fitted, out = left_out(train, sample.seed)
    if not both_classes(train, fitted, out):
        findings.notes.append("No feature was searched for a leak: too few training rows of one class.")
        return findings
    known, unseen, label = train.features.iloc[fitted], train.features.iloc[out], train.label[fitted]

    def ranking(score: NDArray[Any]) -> Area:
        return area(train.label[out], score, train.entity[out], int(train.entity.max()) + 1)

    alone = {
        name: ranking(event_rates(known[name], label, unseen[name], kind)) for name, kind in sample.features.items()
    }
    ranked = sorted(alone, key=lambda name: -alone[name].value)
    strongest = ranked[0]
    metric = alone[strongest].metric()
    findings.metrics["performance.strongest_feature_roc_auc"] = metric
    findings.table(
        "performance",
        "Features that rank best alone, on training rows left out",
        ["feature", "ROC AUC", "low", "high"],
        [[name, *_values(alone[name].metric())] for name in ranked[:5]],
    )
    if len(alone) == 1:
        return findings
    with threadpool_limits(1):
        others = clone(logistic).fit(blanked(known, strongest), label)
    without = ranking(others.predict_proba(blanked(unseen, strongest))[:, 1])
    findings.metrics["performance.roc_auc_without_strongest_feature"] = without.metric()
    lead = alone[strongest].less(without)
    if metric.low >= sample.settings.suspicious_auc and lead.low > 0:
        findings.notes.append(
            f"{strongest} may leak the label: alone it ranks with ROC AUC {metric.value:.3f}, all other features "
            f"together with {without.value:.3f}. Make sure that it is known when the prediction is made, or take it "
            "out of the feature service."
        )
    return findings


def blanked(features: pd.DataFrame, name: str) -> pd.DataFrame:
    """The same rows without what a feature says: a constant, which no model can learn from."""
    constant = 0.0 if pd.api.types.is_numeric_dtype(features[name]) else ""
    return features.assign(**{name: pd.Series([constant] * len(features), features.index, features[name].dtype)})


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
        limits = np.unique(np.quantile(known.dropna(), np.linspace(0, 1, BINS + 1)[1:-1])) if known.count() else BLANK
        groups = [np.where(column.isna(), -1, np.searchsorted(limits, column)) for column in (known, values)]
    else:
        groups = [column.to_numpy() for column in (known, values)]
    counted = pd.Series(label).groupby(groups[0]).agg(["sum", "size"])
    overall = float(np.mean(label))
    rates = (counted["sum"] + PRIOR_ROWS * overall) / (counted["size"] + PRIOR_ROWS)
    found: Floats = pd.Series(groups[1]).map(rates).fillna(overall).to_numpy(dtype=np.float64)
    return found


def _values(metric: Metric) -> list[float]:
    return [metric.value, metric.low, metric.high]
