"""Plots of the evaluation, one file each: `<dimension>_<name>.svg`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.curves import thinned
from kfp_lifecycle.modelling.decisions import decision_values
from kfp_lifecycle.reports.plot_style import ACCENT, INK, QUIET, WARNING, name_rows, new_figure, svg

MOST_BARS = 12
INCHES_PER_BAR = 0.32


def save_plots(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as `<name>.svg`."""
    folder.mkdir()
    for name, figure in figures.items():
        (folder / f"{name}.svg").write_text(svg(figure), "utf-8")


def score_plot(label: NDArray[Any], score: NDArray[Any], threshold: float) -> Figure:
    """Distribution of scores with and without the event."""
    figure, axes = new_figure("Scores")
    edges = np.linspace(0, max(float(score.max()), threshold if threshold < 1 else 0, 0.01), 41)
    for value, color, name in ((0, QUIET, "no event"), (1, ACCENT, "event")):
        axes.hist(score[label == value], edges, density=True, alpha=0.6, color=color, label=name)
    if threshold < 1:
        axes.axvline(threshold, color=WARNING, label=f"threshold {threshold:.3f}")
    axes.set(xlabel="score", ylabel="density")
    axes.legend()
    return figure


def value_plot(label: NDArray[Any], score: NDArray[Any], threshold: float, costs: Costs) -> Figure:
    """What acting is worth by the share of customers acted on."""
    order = np.argsort(-score, kind="stable")
    gains = np.cumsum(decision_values(label[order], np.ones(len(order), dtype=bool), costs))
    share = np.arange(1, len(order) + 1) / len(order)
    figure, axes = new_figure("What acting is worth")
    axes.plot(*thinned(share, 1000 * gains / len(order)), color=ACCENT)
    axes.axhline(0, color=INK, linewidth=1)
    acted = float((score >= threshold).mean())
    axes.axvline(acted, color=WARNING, label=f"threshold: {acted:.0%} acted on")
    axes.set(xlabel="share acted on, highest scores first", ylabel=f"{costs.currency} for 1,000 customers", xlim=(0, 1))
    axes.legend()
    return figure


def calibration_plot(
    predicted: NDArray[Any],
    observed: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    score: NDArray[Any],
) -> Figure:
    """Observed against predicted frequency with 95% intervals, and beneath how often each score is given."""
    figure, axes = new_figure("Calibration")
    limit = float(max(high.max(), predicted.max())) * 1.05 or 1.0
    axes.plot([0, limit], [0, limit], color=QUIET, linewidth=1, linestyle=":")
    errors = np.clip([observed - low, high - observed], 0, None)
    axes.errorbar(predicted, observed, yerr=errors, fmt="o", color=ACCENT, ecolor=ACCENT, elinewidth=1.5)
    counts = np.histogram(score, 40, (0, limit))[0]
    height = 0.15 * limit * counts / max(counts.max(), 1)
    axes.bar(np.arange(40) * limit / 40, height, limit / 40, align="edge", color=QUIET, alpha=0.4)
    axes.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(0, limit), ylim=(0, limit))
    return figure


def fairness_plot(column: str, groups: pd.DataFrame) -> Figure:
    """Share acted on by group of one sensitive column, with 95% intervals; groups too small to judge are pale.

    Args:
        column: What people call it.
        groups: By group: `rows`, `selection_rate`, `low`, `high`, `judged`.
    """
    shown = groups.sort_values("rows", ascending=False).head(MOST_BARS)
    figure, axes = new_figure(f"Decisions by {column}", height=1.3 + INCHES_PER_BAR * len(shown))
    for position, (_, row) in enumerate(shown.iterrows()):
        color, alpha = (ACCENT, 1.0) if row.judged else (QUIET, 0.6)
        axes.plot([row.low, row.high], [position, position], color=color, alpha=alpha)
        axes.plot(row.selection_rate, position, "o", color=color, alpha=alpha)
    names = [f"{name} ({row.rows:,}{'' if row.judged else ', too small'})" for name, row in shown.iterrows()]
    name_rows(axes, names, "share of the group that is acted on")
    return figure


def interval_plot(title: str, label: str, metrics: Mapping[str, Metric], mark: float) -> Figure:
    """Values with intervals, one line for each name, and a line at `mark` to compare with."""
    shown = dict(list(metrics.items())[:MOST_BARS])
    figure, axes = new_figure(title, height=1.3 + INCHES_PER_BAR * len(shown))
    for position, metric in enumerate(shown.values()):
        axes.plot([metric.low, metric.high], [position, position], color=QUIET)
        axes.plot(metric.value, position, "o", color=ACCENT)
    axes.axvline(mark, color=INK, linewidth=1, linestyle=":")
    name_rows(axes, list(shown), label)
    return figure


def importance_plot(importance: Mapping[str, Metric], scale: str) -> Figure:
    """Mean absolute contribution of each feature with its 95% interval, largest first."""
    shown = dict(list(importance.items())[:MOST_BARS])
    values = np.array([metric.value for metric in shown.values()])
    reach = np.array([metric.high - metric.value for metric in shown.values()])
    figure, axes = new_figure("What scores rest on", height=1.3 + INCHES_PER_BAR * len(shown))
    axes.barh(range(len(shown)), values, xerr=reach, color=ACCENT, ecolor=INK)
    name_rows(axes, list(shown), f"mean contribution, {scale} (SHAP)")
    return figure
