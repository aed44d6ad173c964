"""What happens to the ranking where the world is not as it was: parts of the customers, outages, noise, new values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluation.bootstrap import Bootstrap, Metric, interval, measure
from components.evaluation.ranking import AreaUnderCurve
from components.training.dataset import Part
from components.training.scoring import Feed, Scorer

Floats = NDArray[np.float64]

# A slice needs this many events, and as many rows without, before its AUC says anything.
SMALLEST_CLASS_OF_SLICE = 10
# Noise for a number, in its own standard deviations.
NOISE = 0.1
UNSEEN = "\N{REPLACEMENT CHARACTER} unseen"


@dataclass(frozen=True)
class Robustness:
    """What was found.

    Attributes:
        metrics: By full name.
        slices: ROC AUC by slice, worst first.
        drops: Loss of ROC AUC by disturbance.
        notes: Sentences.
    """

    metrics: dict[str, Metric]
    slices: dict[str, Metric]
    drops: dict[str, Metric]
    notes: list[str]


def examine_robustness(
    scorer: Scorer, part: Part, sensitive: list[str], bootstrap: Bootstrap, smallest_group: int, seed: int
) -> Robustness:
    """Score slices and disturbed copies of the rows.

    Args:
        scorer: The served model.
        part: Rows that it was not trained on.
        sensitive: Columns that make slices beside the features.
        bootstrap: Of the same rows.
        smallest_group: A slice with fewer rows is passed over.
        seed: Chooses the noise.
    """
    feed = scorer.feed(part.features)
    score = scorer.run(feed)
    notes: list[str] = []
    metrics: dict[str, Metric] = {}

    slices = {
        name: measure(AreaUnderCurve(part.label[rows], score[rows]), bootstrap, rows)
        for name, rows in find_slices(scorer, part, sensitive, smallest_group).items()
    }
    slices = dict(sorted(slices.items(), key=lambda item: item[1].value))
    metrics |= {f"performance.roc_auc.{name}": metric for name, metric in slices.items()}
    if slices:
        worst, metric = next(iter(slices.items()))
        metrics["robustness.worst_slice_auc"] = metric
        notes.append(
            f"The worst of {len(slices)} slices is {worst}, AUC {metric.value:.3f}; being the worst of many, it looks "
            "somewhat worse than it is."
        )
    else:
        notes.append("No slice has enough rows and events to be judged.")

    whole = AreaUnderCurve(part.label, score)
    value, replicates = float(whole(np.ones((1, len(score))))[0]), bootstrap.replicate(whole)

    def drop(disturbed: Feed) -> Metric:
        area = AreaUnderCurve(part.label, scorer.run(disturbed))
        lost = value - float(area(np.ones((1, len(score))))[0])
        return interval(lost, replicates - bootstrap.replicate(area), len(score))

    missing = {item.name: drop({**feed, item.name: without_value(feed[item.name])}) for item in scorer.features}
    worst = max(missing, key=lambda name: missing[name].value)
    metrics["robustness.worst_missing_feature_auc_drop"] = missing[worst]
    notes.append(f"The ranking suffers most when {worst} is missing: AUC falls by {missing[worst].value:.3f}.")
    drops = {f"{name} missing": metric for name, metric in missing.items()}

    numeric = [item.name for item in scorer.features if item.type == "numeric"]
    categorical = [item.name for item in scorer.features if item.type == "categorical"]
    if numeric:
        random = np.random.default_rng(seed)
        drops["noise"] = drop({**feed, **{name: with_noise(feed[name], random) for name in numeric}})
        metrics["robustness.noise_auc_drop"] = drops["noise"]
    if categorical:
        unseen = np.full((len(score), 1), UNSEEN, dtype=object)
        drops["unseen categories"] = drop({**feed, **dict.fromkeys(categorical, unseen)})
        metrics["robustness.unseen_category_auc_drop"] = drops["unseen categories"]
    return Robustness(metrics, slices, drops, notes)


def find_slices(scorer: Scorer, part: Part, sensitive: list[str], smallest_group: int) -> dict[str, NDArray[np.int64]]:
    """Positions of the rows of each slice, by the name `column=value`; a number is cut into quarters, `q1` lowest."""
    columns: dict[str, pd.Series] = {}
    for item in scorer.features:
        values = part.features[item.name]
        columns[item.name] = _quarters(values) if item.type == "numeric" else values
    for name in sensitive:
        values = part.frame[name]
        many = pd.api.types.is_numeric_dtype(values) and values.nunique() > 10
        columns[name] = _quarters(values) if many else values
    found = {}
    for column, values in columns.items():
        named = values.astype(object).where(values.notna() & (values != ""), "missing").astype(str).to_numpy()
        for value in np.unique(named):
            rows = np.flatnonzero(named == value)
            events = int(part.label[rows].sum())
            if len(rows) >= smallest_group and min(events, len(rows) - events) >= SMALLEST_CLASS_OF_SLICE:
                found[f"{column}={value}"] = rows
    return found


def _quarters(values: pd.Series) -> pd.Series:
    limits = np.unique(np.nanquantile(values.astype(float), [0.25, 0.5, 0.75]))
    quarter = np.searchsorted(limits, values.astype(float), side="left") + 1
    return pd.Series([f"q{number}" for number in quarter], index=values.index).where(values.notna(), None)


def without_value(values: NDArray[Any]) -> NDArray[Any]:
    """The tensor of a feature that is missing everywhere."""
    return np.full_like(values, np.nan) if values.dtype == np.float32 else np.full_like(values, "")


def with_noise(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The tensor of a number that is measured less exactly: normal noise of a tenth of its standard deviation."""
    scale = np.nanstd(values.astype(np.float64)) * NOISE
    return (values + random.normal(0, scale, values.shape)).astype(np.float32)
