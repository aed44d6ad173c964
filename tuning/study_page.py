"""Study page: what a hyperparameter search tried, and what it was worth, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from kfp_lifecycle.reports.templates import KeyFigure, templates
from kfp_lifecycle.tuning.study import Study, Trial, show

TEMPLATE = "study.html.j2"


def study_page(study: Study, plots: Sequence[str] = ()) -> str:
    """A self-contained HTML page: the result in a sentence, the plots, how it was judged, every trial.

    Args:
        study: What was found.
        plots: `<svg>` elements.
    """
    improved = study.best is not study.default
    figures = [
        KeyFigure("Best AUC", f"{study.best.value or 0:.4f}"),
        KeyFigure("Default AUC", f"{study.default.value or 0:.4f}", "training.parameters alone"),
        KeyFigure("Tried", len(study.trials), f"{len(study.given_up)} given up early" if study.given_up else ""),
    ]
    numbered = list(enumerate(study.trials))
    return (
        templates(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            tone="passed" if improved else "done",
            word="found" if improved else "the default",
            sentence=_summary(study),
            figures=figures,
            plots=[Markup(plot) for plot in plots],
            folds=study.folds,
            rows=_table(study),
            best=[number for number, trial in numbered if trial is study.best],
            unfinished=[number for number, trial in numbered if trial.value is None],
            failures=[f"Trial {trial.number + 1} failed: {trial.reason or ''}" for trial in study.failed],
        )
    )


def no_study_page(sentence: str) -> str:
    """The page where nothing was searched.

    Args:
        sentence: Why, and which parameters are taken.
    """
    return (
        templates(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            tone="done",
            word="the default",
            sentence=sentence,
            figures=[],
            plots=[],
            folds=[],
            rows=[],
            best=[],
            unfinished=[],
            failures=[],
        )
    )


def _summary(study: Study) -> str:
    default, best = study.default.value or 0, study.best.value or 0
    if study.best is study.default:
        found = f"{len(study.trials)} tried; none beats the default, AUC {default:.4f}."
    else:
        found = f"{len(study.trials)} tried; the best has AUC {best:.4f}, the default {default:.4f}."
    if study.given_up:
        found += f" {len(study.given_up)} were given up early."
    return found + (f" {len(study.failed)} failed." if study.failed else "")


def _table(study: Study) -> list[list[str]]:
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.parameters))
    titles = ["trial", "AUC", *(f"fold {number}" for number in range(1, len(study.folds) + 1)), "seconds", *names]
    return [titles, *(_cells(study, trial, names) for trial in study.trials)]


def _cells(study: Study, trial: Trial, names: list[str]) -> list[str]:
    unknown = "given up" if trial.reason is None else "failed"
    value = unknown if trial.value is None else f"{trial.value:.4f}"
    folds = [f"{fold:.4f}" for fold in trial.folds] + [""] * (len(study.folds) - len(trial.folds))
    parameters = [show(trial.parameters[name]) if name in trial.parameters else "default" for name in names]
    return [str(trial.number + 1), value, *folds, f"{trial.seconds:.1f}", *parameters]
