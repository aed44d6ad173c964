"""Rules that say whether a window has drifted, each as its users run it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from benchmarks.drift.worlds import INPUTS
from kfp_lifecycle.artifacts.drift import SCORE
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.detection import independent
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.statistics import holm, homogeneity, kolmogorov_smirnov
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
from kfp_lifecycle.config.monitoring import Monitoring

# Whether a window alarms.
Rule = Callable[[pd.DataFrame], bool]
COLUMNS = [Feature(SCORE, "numeric"), *INPUTS]
POOLED_ROWS = 5000


def ours(reference: pd.DataFrame) -> Rule:
    """`monitoring.drift_rule: usual_variation`; any verdict but `keep` alarms."""
    baseline, rule = Baseline(reference, INPUTS), Monitoring()

    def alarms(window: pd.DataFrame) -> bool:
        rows = independent(window, seed=0)
        return decide(baseline.compare(rows, rule), len(INPUTS), len(rows), rule).verdict not in ("keep", "undecided")

    return alarms


def before(reference: pd.DataFrame) -> Rule:
    """Ours until then: all dates pooled, Holm-corrected p-values below 0.01, Jensen-Shannon above 0.1 between deciles;
    the score, or more than 30% of the features."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)

    def alarms(window: pd.DataFrame) -> bool:
        rows = independent(window, seed=0)
        found = [_compared(item, pooled[item.name], rows[item.name]) for item in COLUMNS]
        corrected = holm([p_value for p_value, _ in found])
        drifted = [p_value < 0.01 and far > 0.1 for p_value, (_, far) in zip(corrected, found, strict=True)]
        return drifted[0] or sum(drifted[1:]) > 0.3 * len(INPUTS)

    return alarms


def ks(reference: pd.DataFrame) -> Rule:
    """Kolmogorov-Smirnov (chi-square for categories) with p < 0.05 in any column."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)
    return lambda window: any(_compared(item, pooled[item.name], window[item.name])[0] < 0.05 for item in COLUMNS)


def psi(reference: pd.DataFrame) -> Rule:
    """Population stability index above 0.2 in any column, between deciles."""
    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)

    def index(old: np.ndarray, new: np.ndarray) -> float:
        shares = [np.clip(counts / max(counts.sum(), 1), 1e-4, None) for counts in (old, new)]
        return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())

    return lambda window: any(index(*_counts(item, pooled[item.name], window[item.name])) > 0.2 for item in COLUMNS)


def evidently(reference: pd.DataFrame) -> tuple[Rule, Rule]:
    """What Evidently's DataDriftPreset decides by its defaults: any column drifts; half of them do."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently.legacy.calculations.stattests.registry import get_stattest

    pooled = reference.sample(min(POOLED_ROWS, len(reference)), random_state=0)

    def share(window: pd.DataFrame) -> float:
        drifted = []
        for item in COLUMNS:
            kind = "num" if item.type == "numeric" else "cat"
            old, new = pooled[item.name].dropna(), window[item.name].dropna()
            # A column without values is none to Evidently, which refuses it.
            drifted.append(bool(len(new)) and get_stattest(old, new, kind, None)(old, new, kind, None).drifted)
        return float(np.mean(drifted))

    return lambda window: share(window) > 0, lambda window: share(window) >= 0.5


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
