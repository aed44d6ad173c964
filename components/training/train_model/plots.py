"""Plots of a training, drawn from the validation part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.artifacts.model import CurvePoint, Importance
from kfp_lifecycle.modelling.curves import precision_recall_plot, roc_plot
from kfp_lifecycle.reports.plot_style import ACCENT, QUIET, name_rows, new_figure, svg

MOST_BARS = 12
INCHES_PER_BAR = 0.32
BINS = 10
# A learning curve that spans less than this would show chance as if it were a slope.
LEAST_SPAN = 0.05


def training_plots(
    label: NDArray[Any],
    score: NDArray[Any],
    threshold: float,
    importance: Sequence[Importance],
    curve: Sequence[CurvePoint],
) -> dict[str, str]:
    """Each plot as an `<svg>` element, by its name.

    Args:
        label: 0 or 1, shape (n,), of the validation part.
        score: What the served model gives these rows, shape (n,).
        threshold: From which score on it decides to act.
        importance: As `feature_importance` gives it, features by their titles.
        curve: As `learning_curve` gives it, and the whole training part.
    """
    figures = {
        "roc": roc_plot(f"ROC curve, AUC {roc_auc_score(label, score):.3f}", label, {"model": score}),
        "precision_recall": precision_recall_plot(label, score, threshold),
        "calibration": _calibration(label, score),
        "importance": _importance(importance),
        "learning_curve": _learning_curve(curve),
    }
    return {name: svg(figure) for name, figure in figures.items()}


def _calibration(label: NDArray[Any], score: NDArray[Any]) -> Figure:
    observed, predicted = calibration_curve(label, score, n_bins=BINS, strategy="quantile")
    highest = float(max(observed.max(), predicted.max())) * 1.05
    figure, axes = new_figure("Predicted and observed, tenths of the rows")
    axes.plot([0, highest], [0, highest], color=QUIET, linewidth=1, linestyle=":")
    axes.plot(predicted, observed, "o-", color=ACCENT)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(0, highest), ylim=(0, highest))
    axes.locator_params(nbins=5)
    return figure


def _importance(importance: Sequence[Importance]) -> Figure:
    shown = list(importance)[:MOST_BARS]
    figure, axes = new_figure("AUC lost without a feature", height=1.2 + INCHES_PER_BAR * len(shown))
    axes.barh(range(len(shown)), [item.value for item in shown], color=ACCENT)
    axes.grid(visible=False, axis="y")
    name_rows(axes, [item.feature for item in shown], "loss of AUC when shuffled")
    return figure


def _learning_curve(curve: Sequence[CurvePoint]) -> Figure:
    figure, axes = new_figure("What more data would be worth")
    values = [point.roc_auc for point in curve]
    axes.plot([point.rows for point in curve], values, "o-", color=ACCENT)
    middle, half = (max(values) + min(values)) / 2, max(max(values) - min(values), LEAST_SPAN) / 2
    axes.set(xlabel="training rows", ylabel="AUC, validation part", ylim=(middle - 1.1 * half, middle + 1.1 * half))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure
