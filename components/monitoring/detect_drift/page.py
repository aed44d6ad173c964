"""Monitoring page: the verdict, and what changed since when, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.drift import SCORE, Drift, Finding, by_weight
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.measures import named
from kfp_lifecycle.reports.formatting import number
from kfp_lifecycle.reports.templates import KeyFigure, templates

HEADLINES = {
    "keep": "Nothing unusual",
    "undecided": "Nothing decided",
    "broken data": "Broken data",
    "world moved": "The world moved",
    "model worse": "The model is worse",
}
# As many changes are drawn; the table has them all.
DRAWN = 8
BINS = 24
LARGEST_CATEGORIES = 6
# Values whose size differs by more than this are drawn by their logarithm.
LOGARITHMIC = 50.0


@dataclass(frozen=True)
class Bar:
    """A bin or a category, before and after."""

    label: str
    before: float
    """Share of the rows, in percent."""
    after: float


@dataclass(frozen=True)
class Change:
    """A column that drifted, with its picture."""

    finding: Finding
    bars: list[Bar]
    numeric: bool
    tallest: float
    """In percent."""


def draw(drift: Drift, before: pd.DataFrame, after: pd.DataFrame, inputs: Sequence[Feature]) -> str:
    """The report as one HTML document without scripts that needs no network.

    Args:
        drift: What was decided.
        before: The baseline's newest date.
        after: What was compared with it.
        inputs: The model's inputs.
    """
    types = {SCORE: "numeric"} | {item.name: item.type for item in inputs}
    counts = drift.predictions
    moved = by_weight(drift.columns)
    return (
        templates(Path(__file__).parent)
        .get_template("drift.html.j2")
        .render(
            drift=drift,
            headline=HEADLINES[drift.verdict],
            figures=[
                KeyFigure("Predictions", number(counts.window), f"{counts.champion:,} by version {drift.version}"),
                KeyFigure("Compared", number(counts.compared), "each entity once"),
                KeyFigure("Baseline", number(drift.reference_rows), f"rows, the newest of {drift.reference_dates}"),
                KeyFigure("Features drifted", f"{len(drift.drifted)} of {len(inputs)}"),
            ],
            changes=[
                change(item, before[item.column], after[item.column], types[item.column]) for item in moved[:DRAWN]
            ],
            undrawn=len(moved[DRAWN:]),
        )
    )


def change(finding: Finding, before: pd.Series, after: pd.Series, kind: str) -> Change:
    """A column before and after: a histogram, or the shares of its categories."""
    numeric = kind == "numeric" and finding.aspect == "values"
    if numeric:
        bars = _histogram(*(column.dropna().to_numpy(np.float64) for column in (before, after)))
    elif kind == "numeric":
        bars = _shares(*(column.isna().map({True: "missing", False: "there"}) for column in (before, after)))
    else:
        bars = _shares(named(before), named(after))
    return Change(finding, bars, numeric, max(max(bar.before, bar.after) for bar in bars))


def _histogram(before: np.ndarray, after: np.ndarray) -> list[Bar]:
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
    return [Bar(f"{edge:,.3g}", float(old), float(new)) for edge, old, new in zip(shown, *shares, strict=False)] + [
        Bar(f"{shown[-1]:,.3g}", 0.0, 0.0)
    ]


def _shares(before: pd.Series, after: pd.Series) -> list[Bar]:
    """The categories whose share changed most."""
    shares = pd.concat([100 * column.value_counts(normalize=True) for column in (before, after)], axis=1).fillna(0)
    shares.columns = pd.Index(["before", "after"])
    order = (shares["after"] - shares["before"]).abs().sort_values(ascending=False, kind="stable").index
    return [
        Bar(str(category), float(shares.at[category, "before"]), float(shares.at[category, "after"]))
        for category in order[:LARGEST_CATEGORIES]
    ]
