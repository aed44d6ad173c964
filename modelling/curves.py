"""ROC and precision-recall curves: the training draws them of the validation part, the evaluation of the test part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from kfp_lifecycle.reports.plot_style import ACCENT, QUIET, WARNING, new_figure

# Points of a curve: more than a picture of this size can show.
MOST_POINTS = 300


def roc_plot(title: str, label: NDArray[Any], scores: Mapping[str, NDArray[Any]]) -> Figure:
    """ROC curves.

    Args:
        title: Of the plot.
        label: 0 or 1, shape (n,), both present.
        scores: Scores of these rows, each of shape (n,), by what is drawn; the last stands out.
    """
    figure, axes = new_figure(title)
    for position, (name, score) in enumerate(scores.items(), start=1):
        false, true, _ = roc_curve(label, score)
        axes.plot(*thinned(false, true), color=ACCENT if position == len(scores) else QUIET, label=name)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    axes.set(xlabel="share of others found", ylabel="share of events found", xlim=(0, 1), ylim=(0, 1.01))
    if len(scores) > 1:
        axes.legend(loc="lower right")
    return figure


def precision_recall_plot(label: NDArray[Any], score: NDArray[Any], threshold: float) -> Figure:
    """Precision against recall, the threshold marked, the base rate beneath.

    Args:
        label: 0 or 1, shape (n,), both present.
        score: Of these rows, shape (n,).
        threshold: From which score on is acted.
    """
    precision, recall, thresholds = precision_recall_curve(label, score)
    figure, axes = new_figure(f"Precision and recall, average {average_precision_score(label, score):.3f}")
    axes.plot(*thinned(recall, precision), color=ACCENT)
    axes.axhline(float(label.mean()), color=QUIET, linewidth=1, linestyle=":")
    at = min(int(np.searchsorted(thresholds, threshold)), len(recall) - 1)
    axes.plot(recall[at], precision[at], "o", color=WARNING, label=f"threshold {threshold:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend()
    return figure


def thinned(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """So many points of a curve as can be seen, its ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(MOST_POINTS, len(x))).astype(int))
    return x[chosen], y[chosen]
