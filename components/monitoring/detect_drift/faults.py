"""Faults of data: changes that are no world's doing, and that nothing should be learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.drift import SCORE, Fault, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.measures import named
from kfp_lifecycle.components.monitoring.detect_drift.usual import Numbers

# So many more rows without a value, or with a category that was never seen, than is usual.
LOST, UNKNOWN = 0.05, 0.1
# A quantity of which next to no two rows are alike is filled in where so many more have one value.
ALL_DIFFERENT, FILLED = 0.02, 0.1
# A world changes a quantity by less than this factor, and not its shape alone.
UNIT = 5.0
# Two distributions are the same shape when their Kolmogorov distance is below this, and chance.
ALIKE, CHANCE, APART = 0.1, 1.5, 0.4
QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])


def faults(
    findings: Sequence[Finding], newest: pd.DataFrame, current: pd.DataFrame, columns: Sequence[Feature]
) -> Mapping[tuple[str, str], tuple[Fault, str]]:
    """What is broken among the columns that drifted, the score's too: by column and aspect, the fault and what it is,
    in words."""
    types = {item.name: item.type for item in columns}
    drifted = [item for item in findings if item.drifted]
    found: dict[tuple[str, str], tuple[Fault, str]] = {}
    for finding in drifted:
        before, after = newest[finding.column], current[finding.column]
        fault = _fault(finding, before, after, types[finding.column])
        # A model may give many the same score, and other ones to a world that moved; but not one for all.
        if fault and (finding.column != SCORE or after.nunique() == 1):
            found[finding.column, finding.aspect] = fault
    called = {item.column: item.called for item in drifted}
    inputs = [item for item in drifted if item.column != SCORE]
    moved = [item.column for item in inputs if item.aspect == "values" and (item.column, "values") not in found]
    for one, other in combinations(moved, 2):
        if types[one] == types[other] and _swapped(newest, current, one, other, types[one]):
            found[one, "values"] = "swapped", f"holds what {called[other]} held"
            found[other, "values"] = "swapped", f"holds what {called[one]} held"
    return found


def unit_factor(before: Numbers, after: Numbers) -> float | None:
    """By which factor a quantity's unit changed; None where that is not what happened. Zeros are left out."""
    old, new = np.abs(before[before != 0]), np.abs(after[after != 0])
    if len(old) < 3 or len(new) < 3:
        return None
    factor = float(np.exp(np.median(np.log(np.quantile(new, QUANTILES) / np.quantile(old, QUANTILES)))))
    if 1 / UNIT < factor < UNIT or len(np.unique(new)) < 2:
        return None
    same_shape = kolmogorov_distance(old, new / factor) < _alike(len(old), len(new))
    return factor if same_shape and kolmogorov_distance(old, new) > APART else None


def filled_in(before: pd.Series, after: pd.Series) -> tuple[float, float] | None:
    """The value that was put in where none was known, and the share of rows that have it; None where none was.

    Args:
        before: Known values; of counts and prices, which many share, nothing is said.
        after: Those of the window.
    """
    if not len(before) or not len(after) or before.value_counts(normalize=True).iloc[0] > ALL_DIFFERENT:
        return None
    shares = after.value_counts(normalize=True)
    return (float(shares.index[0]), float(shares.iloc[0])) if shares.iloc[0] > ALL_DIFFERENT + FILLED else None


def kolmogorov_distance(one: Numbers, other: Numbers) -> float:
    """The largest gap between two distribution functions, 0 to 1."""
    # It takes a while to import, and most windows have no fault.
    from scipy.stats import ks_2samp

    # The p-value that comes with it is not used: the quick one will do.
    return float(ks_2samp(one, other, method="asymp").statistic)


def _fault(finding: Finding, before: pd.Series, after: pd.Series, kind: str) -> tuple[Fault, str] | None:
    if finding.aspect == "missing":
        shares = [_missing(column, kind) for column in (before, after)]
        words = f"is missing: {shares[0]:.1%} → {shares[1]:.1%}"
        return ("missing", words) if shares[1] - shares[0] >= LOST else None
    if finding.aspect == "new":
        share = float((~named(after).isin(set(named(before)))).mean())
        return ("new categories", f"has values never seen before: {finding.sentence}") if share >= UNKNOWN else None
    known = before[before.notna() & (before != "")], after[after.notna() & (after != "")]
    if len(known[0]) and len(known[1]) and known[1].nunique() == 1 and known[0].nunique() > 1:
        return "constant", f"has one value for all, {known[1].iloc[0]}: {finding.sentence}"
    if kind == "numeric":
        filled = filled_in(*known)
        if filled is not None:
            value, share = filled
            return (
                "constant",
                f"has one value, {value:,.4g}, in {share:.1%} of the rows, where next to no two were alike",
            )
        factor = unit_factor(*(column.to_numpy(np.float64) for column in known))
        if factor is not None:
            times = f"× {factor:,.3g}" if factor > 1 else f"÷ {1 / factor:,.3g}"
            medians = [f"{column[column != 0].abs().median():,.4g}" for column in known]
            return "unit", f"looks as if its unit had changed ({times}): typical size {medians[0]} → {medians[1]}"
    return None


def _missing(column: pd.Series, kind: str) -> float:
    return float((column.isna() if kind == "numeric" else column.isna() | (column == "")).mean())


def _alike(*rows: int) -> float:
    return ALIKE + CHANCE * math.sqrt(sum(1 / count for count in rows))


def _swapped(newest: pd.DataFrame, current: pd.DataFrame, one: str, other: str, kind: str) -> bool:
    def distance(now: str, before: str) -> float:
        new, old = current[now].dropna(), newest[before].dropna()
        if not len(new) or not len(old):
            return 1.0
        if kind == "numeric":
            return kolmogorov_distance(old.to_numpy(np.float64), new.to_numpy(np.float64))
        shares = pd.concat([column.value_counts(normalize=True) for column in (named(old), named(new))], axis=1)
        return float(shares.fillna(0).diff(axis=1).iloc[:, 1].abs().sum() / 2)

    crossed = max(distance(one, other), distance(other, one))
    straight = min(distance(one, one), distance(other, other))
    return crossed < _alike(len(newest), len(current)) and crossed < straight / 2
