"""Worst slice, max-T corrected: which part of the customers the model serves worst."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.titles import slice_title
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.uncertainty.area import Area
from kfp_lifecycle.uncertainty.bootstrap import entity_sums
from kfp_lifecycle.uncertainty.contributions import simultaneous, standard_error

Floats = NDArray[np.float64]
Slices = dict[str, NDArray[np.int64]]

# A slice needs this many events, and as many rows without, before its AUC says anything.
SMALLEST_CLASS_OF_SLICE = 10
# Events that a slice must be expected to have, and rows without, before their number is about normal.
SMALLEST_EXPECTED = 5
# A number with more values than this is cut into quarters.
MANY_VALUES = 10
# More slices than this of one column, the rarest, are passed over.
MOST_VALUES = 50
TOLD = 8


def examine_slices(sample: Sample) -> Findings:
    """Ranking and probabilities in each slice: one value of a column, or a quarter of a number."""
    slices = find_slices(sample)
    findings = _ranking(sample, slices)
    findings.add(_probabilities(sample, slices))
    return findings


def find_slices(sample: Sample) -> Slices:
    """Positions of the rows of each slice, by the name `column=value`; a number is cut into quarters, `q1` lowest.

    Only those of at least `evaluation.min_group_rows` rows, of the features that are examined by themselves.
    """
    columns: dict[str, pd.Series] = {}
    for name, kind in sample.examined.items():
        values = sample.part.features[name]
        columns[name] = _quarters(values) if kind == "numeric" else values
    for name in sample.sensitive:
        values = sample.part.frame[name]
        many = pd.api.types.is_numeric_dtype(values) and values.nunique() > MANY_VALUES
        columns[name] = _quarters(values) if many else values
    found: Slices = {}
    for column, values in columns.items():
        named = values.astype(object).where(values.notna() & (values != ""), "missing").astype(str)
        codes, names = pd.factorize(named, sort=True)
        sizes = np.bincount(codes, minlength=len(names))
        for code in sorted(np.argsort(-sizes, kind="stable")[:MOST_VALUES]):
            if sizes[code] >= sample.settings.min_group_rows:
                found[f"{column}={names[code]}"] = np.flatnonzero(codes == code)
    return found


def _quarters(values: pd.Series) -> pd.Series:
    numbers = values.astype(float)
    if numbers.isna().all():
        return pd.Series([None] * len(values), index=values.index, dtype=object)
    limits = np.unique(np.nanquantile(numbers, [0.25, 0.5, 0.75]))
    names = np.array([f"q{number}" for number in range(1, len(limits) + 2)], dtype=object)
    quarter = pd.Series(names[np.searchsorted(limits, numbers, side="left")], index=values.index)
    return quarter.where(values.notna(), None)


def _ranking(sample: Sample, slices: Slices) -> Findings:
    """ROC AUC of each slice that has enough of both classes; the worst with an interval that holds for all at once."""
    findings = Findings()
    areas: dict[str, Area] = {}
    for name, rows in slices.items():
        events = int(sample.label[rows].sum())
        if min(events, len(rows) - events) >= SMALLEST_CLASS_OF_SLICE:
            areas[name] = sample.area(sample.score, rows)
    areas = dict(sorted(areas.items(), key=lambda item: item[1].value))
    metrics = {name: area.metric() for name, area in areas.items()}
    findings.metrics |= {f"performance.roc_auc.{name}": metric for name, metric in metrics.items()}
    if not areas:
        findings.notes.append("No slice has enough rows and events for its ROC AUC to be judged.")
        return findings
    own = np.column_stack([area.contributions for area in areas.values()])
    beside = own - sample.whole.contributions[:, None]
    lead = np.array([area.value for area in areas.values()]) - sample.whole.value
    error = standard_error(beside)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviations = np.where(error > 0, lead / error, 0.0)
    corrected = simultaneous(deviations, beside.T @ beside, sample.seed).p_values
    critical = simultaneous(deviations, own.T @ own, sample.seed).critical
    worst, area = next(iter(areas.items()))
    reach = critical * float(standard_error(area.contributions))
    low, high = max(0.0, area.value - reach), min(1.0, area.value + reach)
    findings.metrics["robustness.worst_slice_auc"] = Metric(area.value, low, high, area.rows)
    below = int(((corrected < 0.05) & (lead < 0)).sum())
    findings.notes.append(
        f"Of {len(areas)} slices {slice_title(worst, sample.titles)} ranks worst, ROC AUC {area.value:.3f} "
        f"(95% {low:.3f} to {high:.3f}, corrected for how many were tried; p {corrected[0]:.2g} against all rows); "
        f"{below} rank{'s' if below == 1 else ''} worse than all rows beyond chance."
    )
    findings.table(
        "robustness",
        "Slices that rank worst",
        ["slice", "rows", "events", "ROC AUC", "low", "high", "corrected p"],
        [
            [
                slice_title(name, sample.titles),
                *(area.rows, area.positives, area.value, metrics[name].low, metrics[name].high, float(p_value)),
            ]
            for (name, area), p_value in list(zip(areas.items(), corrected, strict=True))[:TOLD]
        ],
    )
    findings.figures["robustness_slices"] = plots.interval_plot(
        "Worst slices (dotted: all rows)",
        "AUC",
        {slice_title(name, sample.titles): metric for name, metric in metrics.items()},
        mark=sample.whole.value,
    )
    return findings


def _probabilities(sample: Sample, slices: Slices) -> Findings:
    """Where the observed share of events is furthest from the predicted one, among slices and pairs of them.

    A search over all conjunctions of up to two conditions (as Chung et al. 2019, "Slice finder", by another measure):
    the residual of a slice over its standard deviation if probabilities were true, by the design effect of rows that
    repeat an entity; p-values times the number of slices tried (Bonferroni).
    """
    findings = Findings()
    names = list(slices)
    member = np.zeros((sample.rows, len(names)), dtype=np.float32)
    for at, rows in enumerate(slices.values()):
        member[rows, at] = 1
    score = sample.score.astype(np.float64)
    residual = sample.label - score

    def totals(values: Floats) -> Floats:
        return np.asarray((member * values.astype(np.float32)[:, None]).T @ member, dtype=np.float64)

    size, expected, surplus = totals(np.ones(sample.rows)), totals(score), totals(residual)
    by_entity = entity_sums(residual[:, None], sample.entity)
    effect = max(1.0, float((by_entity**2).sum() / max(float((residual**2).sum()), 1e-300)))
    variance = totals(score * (1 - score)) * effect
    enough = (size >= sample.settings.min_group_rows) & (np.minimum(expected, size - expected) >= SMALLEST_EXPECTED)
    first, second = np.nonzero(np.triu(enough))
    if not len(first):
        findings.notes.append("No slice has enough rows and expected events for its probabilities to be judged.")
        return findings
    surplus, variance, size, expected = (values[first, second] for values in (surplus, variance, size, expected))
    deviations = surplus / np.sqrt(variance)
    corrected = np.minimum(1.0, 2 * ndtr(-np.abs(deviations)) * len(first))
    reach = float(-ndtri(0.025 / len(first))) * np.sqrt(variance) / size
    gap = np.abs(surplus) / size
    order = np.argsort(-np.abs(deviations), kind="stable")

    def called(at: int) -> str:
        one, other = (slice_title(names[place], sample.titles) for place in (first[at], second[at]))
        return one if one == other else f"{one} and {other}"

    worst = int(order[0])
    low, high = max(0.0, gap[worst] - reach[worst]), min(1.0, gap[worst] + reach[worst])
    count = int(size[worst])
    findings.metrics["robustness.worst_slice_calibration_gap"] = Metric(float(gap[worst]), low, high, count)
    observed = (expected + surplus) / size
    findings.notes.append(
        f"Of {len(first):,} slices and pairs of slices, predictions are furthest off for {called(worst)}: "
        f"{expected[worst] / size[worst]:.1%} expected, {observed[worst]:.1%} observed in {count:,} rows "
        f"(p {corrected[worst]:.2g} after correction for how many were tried)."
    )
    findings.table(
        "robustness",
        "Where probabilities are furthest off",
        ["slice", "rows", "expected", "observed", "corrected p"],
        [
            [called(at), round(size[at]), float(expected[at] / size[at]), float(observed[at]), float(corrected[at])]
            for at in order[:TOLD]
        ],
    )
    return findings
