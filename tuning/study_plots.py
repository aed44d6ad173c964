"""Plots of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kfp_lifecycle.config.tuning import Space
from kfp_lifecycle.reports.plot_style import ACCENT, QUIET, WARNING, new_figure, svg
from kfp_lifecycle.tuning.parameter_importance import parameter_importance
from kfp_lifecycle.tuning.study import Study, show

# Parameters on one plot at the most; those searched first come first.
MOST_AXES = 8


def study_plots(study: Study, space: Space) -> list[str]:
    """The course of the search, the parameters side by side, and what each matters, as `<svg>` elements.

    Args:
        study: What was found.
        space: What was searched.
    """
    shares = parameter_importance(study, space)
    figures = [history(study)]
    if sum(trial.value is not None and bool(trial.parameters) for trial in study.trials) > 1:
        figures.append(parallel_coordinates(study))
    if shares:
        figures.append(importance(shares))
    return [svg(figure) for figure in figures]


def history(study: Study) -> Figure:
    """Each trial's mean ROC AUC, those given up apart, and the best so far."""
    figure, axes = new_figure("Each trial and the best so far")
    judged = [trial for trial in study.trials if trial.value is not None]
    values = [trial.value or 0 for trial in judged]
    numbers = [trial.number + 1 for trial in judged]
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=ACCENT, label="best so far")
    axes.scatter(numbers, values, color=QUIET, zorder=3, label="trial")
    # What a trial that was stopped had come to is not known of each engine.
    given_up = [trial for trial in study.given_up if trial.folds]
    if given_up:
        ended = [float(np.mean(trial.folds)) for trial in given_up]
        axes.scatter([trial.number + 1 for trial in given_up], ended, marker="x", color=WARNING, label="given up")
    axes.set(xlabel="trial (1 is the default)", ylabel="ROC AUC, mean of the folds")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return figure


def importance(shares: Mapping[str, float]) -> Figure:
    """What each parameter matters, the most important on top."""
    ranked = sorted(shares.items(), key=lambda item: item[1])[-MOST_AXES:]
    figure, axes = new_figure("What made the difference")
    axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=ACCENT)
    axes.set(xlabel="importance; all together make 1", xlim=(0, 1))
    axes.grid(visible=False, axis="y")
    return figure


def parallel_coordinates(study: Study) -> Figure:
    """A line for each judged trial through its parameters' values to its ROC AUC; the best stands out."""
    trials = [trial for trial in study.trials if trial.value is not None and trial.parameters]
    names = list(dict.fromkeys(name for trial in trials for name in trial.parameters))[:MOST_AXES]
    figure, axes = new_figure("Each trial through its parameters")
    columns = [[trial.parameters.get(name) for trial in trials] for name in names]
    columns.append([trial.value for trial in trials])
    places, ticks = zip(*[_axis(column) for column in columns], strict=True)
    for position, trial in sorted(enumerate(trials), key=lambda item: item[1] is study.best):
        best = trial is study.best
        heights = [place[position] for place in places]
        axes.plot(heights, color=ACCENT if best else QUIET, alpha=1 if best else 0.5, linewidth=3 if best else 1)
    for place, (low, high) in enumerate(ticks):
        axes.axvline(place, color=QUIET, linewidth=1)
        axes.text(place, -0.03, low, ha="center", va="top", fontsize=10)
        axes.text(place, 1.03, high, ha="center", va="bottom", fontsize=10)
    axes.set_title(axes.get_title(loc="left"), pad=24)
    axes.set(ylim=(-0.02, 1.02), yticks=[])
    axes.set_xticks(range(len(columns)), [*names, "ROC AUC"], rotation=25, ha="right", fontsize=10)
    axes.tick_params(axis="x", pad=16, length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _axis(values: list[Any]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Where values stand between 0 and 1, NaN where a trial has none, and what the ends say."""
    there = [value for value in values if value is not None]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    kinds = sorted(set(there), key=None if numeric else str)
    if numeric:
        heights = np.array([np.nan if value is None else float(value) for value in values])
        # As the search went: over more than one order of magnitude it was most likely by ratios.
        if kinds[0] > 0 and kinds[-1] / kinds[0] > 10:
            heights = np.log(heights)
    else:
        heights = np.array([np.nan if value is None else float(kinds.index(value)) for value in values])
    low, high = np.nanmin(heights), np.nanmax(heights)
    scaled: NDArray[np.float64] = (heights - low) / (high - low) if high > low else heights * 0 + 0.5
    return scaled, (show(kinds[0]), show(kinds[-1]) if len(kinds) > 1 else "")
