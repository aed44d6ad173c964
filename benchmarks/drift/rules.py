"""Rules that say whether a window has drifted, each as its users run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from kfp_lifecycle.artifacts.drift import SCORE
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.detection import independent
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.statistics import holm, homogeneity, kolmogorov_smirnov
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
from kfp_lifecycle.config.monitoring import Monitoring

# Whether a window alarms.
Rule = Callable[[pd.DataFrame], bool]
POOLED_ROWS = 5000
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


def before(reference: pd.DataFrame, inputs: Features) -> Rule:
    """Ours until then: all dates pooled, Holm-corrected p-values below 0.01, Jensen-Shannon above 0.1 between deciles;
    the score, or more than 30% of the features."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)

    def alarms(window: pd.DataFrame) -> bool:
        rows = independent(window, seed=0)
        found = [_compared(item, pooled[item.name], rows[item.name]) for item in [WATCHED, *inputs]]
        corrected = holm([p_value for p_value, _ in found])
        drifted = [p_value < 0.01 and far > 0.1 for p_value, (_, far) in zip(corrected, found, strict=True)]
        return drifted[0] or sum(drifted[1:]) > 0.3 * len(inputs)

    return alarms


def ks(reference: pd.DataFrame, inputs: Features) -> Rule:
    """Kolmogorov-Smirnov (chi-square for categories) with p < 0.05 in any column."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)
    columns = [WATCHED, *inputs]
    return lambda window: any(_compared(item, pooled[item.name], window[item.name])[0] < 0.05 for item in columns)


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

    def share(window: pd.DataFrame) -> float:
        drifted = []
        for item in [WATCHED, *inputs]:
            kind = "num" if item.type == "numeric" else "cat"
            old, new = pooled[item.name].dropna(), window[item.name].dropna()
            # A column without values is none to Evidently, which refuses it.
            drifted.append(bool(len(new)) and get_stattest(old, new, kind, None)(old, new, kind, None).drifted)
        return float(np.mean(drifted))

    return lambda window: share(window) > 0, lambda window: share(window) >= 0.5


def nannyml(reference: pd.DataFrame, inputs: Features) -> Rule:
    """What NannyML's `UnivariateDriftCalculator` alerts of by its defaults, in any column."""
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    from nannyml import UnivariateDriftCalculator

    names = [item.name for item in [WATCHED, *inputs]]
    categories = [item.name for item in inputs if item.type == "categorical"]
    calculator = UnivariateDriftCalculator(column_names=names, treat_as_categorical=categories, chunk_number=1).fit(
        reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)[names].reset_index(drop=True)
    )

    def alarms(window: pd.DataFrame) -> bool:
        # It refuses a column without values.
        found = calculator.calculate(window[names].reset_index(drop=True)).filter(period="analysis").to_df()
        return bool(found.xs("alert", axis=1, level=-1).to_numpy(dtype=bool).any())

    return alarms


def alibi(reference: pd.DataFrame, inputs: Features) -> Rule:
    """alibi-detect's `TabularDrift` by its defaults: Kolmogorov-Smirnov and chi-square, p < 0.05 by Bonferroni."""
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


def _compared(item: Feature, old: pd.Series, new: pd.Series) -> tuple[float, float]:
    counts = _counts(item, old, new)
    if item.type == "categorical":
        p_value = homogeneity(*counts)
    else:
        p_value = kolmogorov_smirnov(old.dropna().to_numpy(), new.dropna().to_numpy())
        # Until then, too, how much is missing was compared by itself.
        missing = [np.array([column.notna().sum(), column.isna().sum()]) for column in (old, new)]
        if missing[0][1] or missing[1][1]:
            gone = homogeneity(*missing), float(jensenshannon(*missing, base=2))
            return min((p_value, float(jensenshannon(*counts, base=2)) if counts[1].sum() else 0.0), gone)
    return p_value, float(jensenshannon(*counts, base=2))


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
