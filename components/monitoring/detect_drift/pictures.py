"""Pictures of columns that drifted: a histogram, or the shares of categories, before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import SCORE, Bar, Finding, Picture, by_weight
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.measures import named

# As many columns are drawn; the table has them all.
DRAWN = 8
BINS = 24
LARGEST_CATEGORIES = 6
# Values whose size differs by more than this are drawn by their logarithm.
LOGARITHMIC = 50.0


def pictures_of(
    findings: Sequence[Finding], before: pd.DataFrame, after: pd.DataFrame, inputs: Sequence[Feature]
) -> list[Picture]:
    """What the columns that drifted were like before and after.

    Args:
        findings: Of all columns.
        before: The baseline's newest date.
        after: What was compared with it.
        inputs: The model's inputs.
    """
    types = {SCORE: "numeric"} | {item.name: item.type for item in inputs}
    return [
        picture(item, before[item.column], after[item.column], types[item.column])
        for item in by_weight(findings)[:DRAWN]
    ]


def picture(finding: Finding, before: pd.Series, after: pd.Series, kind: str) -> Picture:
    """One column: of numbers a histogram, or how many are missing; of categories their shares."""
    histogram = kind == "numeric" and finding.aspect == "values"
    if histogram:
        bars = _histogram(*(column.dropna().to_numpy(np.float64) for column in (before, after)))
    elif kind == "numeric":
        bars = _shares(*(column.isna().map({True: "missing", False: "there"}) for column in (before, after)))
    else:
        bars = _shares(named(before), named(after))
    return Picture(column=finding.column, aspect=finding.aspect, histogram=histogram, bars=bars)


def _histogram(before: NDArray[np.float64], after: NDArray[np.float64]) -> list[Bar]:
    """Shares of both samples between the same edges; the outermost bins hold what lies beyond."""
    both = np.concatenate([np.quantile(values, [0.005, 0.5, 0.995]) for values in (before, after)])
    low, high = both.min(), both.max()
    sizes = np.abs(both[both != 0])
    logarithmic = low >= 0 and len(sizes) and high > LOGARITHMIC * sizes.min()
    # Near zero it is linear, so that zeros have a place.
    unit = sizes.min() if logarithmic else 1.0
    ends = np.arcsinh(np.array([low, high]) / unit) if logarithmic else np.array([low, high])
    edges = np.linspace(ends[0], ends[1], BINS + 1) if high > low else np.array([low - 0.5, high + 0.5])
    shown = np.sinh(edges) * unit if logarithmic else edges
    places = [
        np.bincount(np.searchsorted(shown[1:-1], values, "right"), minlength=len(edges) - 1)
        for values in (before, after)
    ]
    shares = [100 * counts / counts.sum() for counts in places]
    return [
        *(
            Bar(label=f"{edge:,.3g}", before=float(old), after=float(new))
            for edge, old, new in zip(shown, *shares, strict=False)
        ),
        Bar(label=f"{shown[-1]:,.3g}", before=0.0, after=0.0),
    ]


def _shares(before: pd.Series, after: pd.Series) -> list[Bar]:
    """The categories whose share changed most."""
    shares = pd.concat([100 * column.value_counts(normalize=True) for column in (before, after)], axis=1).fillna(0)
    shares.columns = pd.Index(["before", "after"])
    order = (shares["after"] - shares["before"]).abs().sort_values(ascending=False, kind="stable").index
    return [
        Bar(
            label=str(category),
            before=float(shares.at[category, "before"]),
            after=float(shares.at[category, "after"]),
        )
        for category in order[:LARGEST_CATEGORIES]
    ]
