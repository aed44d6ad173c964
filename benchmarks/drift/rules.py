"""Rules that say whether a window has drifted, each as its users run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.drift import SCORE
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.detection import independent
from kfp_lifecycle.components.monitoring.detect_drift.rule import DATE, Baseline
from kfp_lifecycle.components.monitoring.detect_drift.statistics import homogeneity, kolmogorov_smirnov
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
from kfp_lifecycle.config.monitoring import Monitoring

# Whether a window alarms.
Rule = Callable[[pd.DataFrame], bool]
POOLED_ROWS = 5000
# So many of the baseline's chunks are enough for their spread, where windows are small.
CHUNKS_OF_A_DATE = 5
# What the model says is watched as its inputs are.
WATCHED = Feature(SCORE, "numeric")
Features = Sequence[Feature]


def ours(reference: pd.DataFrame, inputs: Features) -> Rule:
    """`monitoring.drift_rule: usual_variation`; any verdict but `keep` alarms."""
    baseline, rule = Baseline(reference, inputs), Monitoring()

    def alarms(window: pd.DataFrame) -> bool:
        rows = independent(window, seed=0)
        return decide(baseline.compare(rows, rule), len(inputs), len(rows), rule).verdict not in ("keep", "undecided")

    return alarms


def ks(reference: pd.DataFrame, inputs: Features) -> Rule:
    """Kolmogorov-Smirnov (chi-square for categories) with p < 0.05 in any column."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)
    columns = [WATCHED, *inputs]
    return lambda window: any(_p_value(item, pooled[item.name], window[item.name]) < 0.05 for item in columns)


def psi(reference: pd.DataFrame, inputs: Features) -> Rule:
    """Population stability index above 0.2 in any column, between deciles."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)

    def index(old: np.ndarray, new: np.ndarray) -> float:
        shares = [np.clip(counts / max(counts.sum(), 1), 1e-4, None) for counts in (old, new)]
        return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())

    columns = [WATCHED, *inputs]
    return lambda window: any(index(*_counts(item, pooled[item.name], window[item.name])) > 0.2 for item in columns)


def evidently(reference: pd.DataFrame, inputs: Features) -> tuple[Rule, Rule]:
    """What Evidently's DataDriftPreset decides by its defaults: any column drifts; half of them do."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently.legacy.calculations.stattests.registry import get_stattest

    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)
    # Both rules ask about the same window in turn.
    newest: list[tuple[pd.DataFrame, float]] = []

    def share(window: pd.DataFrame) -> float:
        if newest and newest[0][0] is window:
            return newest[0][1]
        drifted = []
        for item in [WATCHED, *inputs]:
            kind = "num" if item.type == "numeric" else "cat"
            old, new = pooled[item.name].dropna(), window[item.name].dropna()
            # A column without values is none to Evidently, which refuses it.
            drifted.append(bool(len(new)) and get_stattest(old, new, kind, None)(old, new, kind, None).drifted)
        newest[:] = [(window, float(np.mean(drifted)))]
        return newest[0][1]

    return lambda window: share(window) > 0, lambda window: share(window) >= 0.5


def nannyml(reference: pd.DataFrame, inputs: Features, rows: int) -> Rule:
    """What NannyML's `UnivariateDriftCalculator` alerts of by its defaults, in any column.

    Its limit is three standard deviations above the mean of the baseline's own chunks, so that these are as large as a
    window, or as a date where a window is larger.
    """
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    from nannyml import UnivariateDriftCalculator
    from nannyml.chunk import CountBasedChunker

    names = [item.name for item in [WATCHED, *inputs]]
    categories = [item.name for item in inputs if item.type == "categorical"]
    if DATE in reference:
        rows = min(rows, int(reference.groupby(DATE).size().min()))
        reference = reference.groupby(DATE, sort=False).head(CHUNKS_OF_A_DATE * rows)
    calculator = UnivariateDriftCalculator(column_names=names, treat_as_categorical=categories, chunk_size=rows).fit(
        reference[names].reset_index(drop=True)
    )
    # A window is one chunk, however large.
    calculator.chunker = CountBasedChunker(chunk_number=1)

    def alarms(window: pd.DataFrame) -> bool:
        found = calculator.calculate(window[names].reset_index(drop=True)).filter(period="analysis").to_df()
        return bool(found.xs("alert", axis=1, level=-1).to_numpy(dtype=bool).any())

    return alarms


def alibi(reference: pd.DataFrame, inputs: Features, rows: int) -> Rule:
    """alibi-detect's `TabularDrift` by its defaults: Kolmogorov-Smirnov and chi-square, p < 0.05 by Bonferroni.

    It is asked the same of windows of any number of rows.
    """
    del rows
    from alibi_detect.cd import TabularDrift

    columns = [WATCHED, *inputs]
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)
    medians = {item.name: pooled[item.name].median() for item in columns if item.type == "numeric"}
    names = {item.name: sorted(pooled[item.name].unique()) for item in columns if item.type == "categorical"}

    def numbers(frame: pd.DataFrame) -> np.ndarray:
        # It takes neither missing values nor texts, nor a text that it does not know: the median, and the first one.
        found = []
        for item in columns:
            if item.type == "numeric":
                found.append(frame[item.name].fillna(medians[item.name]).to_numpy(np.float32))
            else:
                known = {name: number for number, name in enumerate(names[item.name])}
                found.append(frame[item.name].map(known).fillna(0).to_numpy(np.float32))
        return np.column_stack(found)

    categories = {place: len(names[item.name]) for place, item in enumerate(columns) if item.name in names}
    detector = TabularDrift(numbers(pooled), p_val=0.05, categories_per_feature=categories)
    return lambda window: bool(detector.predict(numbers(window))["data"]["is_drift"])


def installed(module: str) -> bool:
    """Whether a library is here that no environment of this project has."""
    return find_spec(module) is not None


def _p_value(item: Feature, old: pd.Series, new: pd.Series) -> float:
    if item.type == "categorical":
        return homogeneity(*_counts(item, old, new))
    return kolmogorov_smirnov(old.dropna().to_numpy(), new.dropna().to_numpy())


def _counts(item: Feature, old: pd.Series, new: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    if item.type == "categorical":
        names = sorted(set(old) | set(new))
        before, after = (column.value_counts().reindex(names, fill_value=0).to_numpy() for column in (old, new))
        return before, after
    edges = np.unique(np.quantile(old.dropna(), np.linspace(0, 1, 11)[1:-1]))

    def counts(column: pd.Series) -> np.ndarray:
        values = column.dropna().to_numpy()
        places = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
        return np.bincount(places, minlength=2 * len(edges) + 1)

    return counts(old), counts(new)
