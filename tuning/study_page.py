"""The study as a page: what was tried, what it was worth, in one file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence

from kfp_lifecycle.tuning.study import Study, Trial, show

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hyperparameter search</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1f2933; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.plots svg {{ width: 23.5rem; max-width: 100%; height: auto; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #d9dee3; white-space: nowrap; }}
.best {{ font-weight: 600; }}
.unfinished {{ color: #667380; }}
</style></head><body>
<h1>Hyperparameter search</h1>
{body}
</body></html>
"""


def study_page(study: Study, plots: Sequence[str] = ()) -> str:
    """A self-contained HTML page: the result in a sentence, the plots, how it was judged, every trial.

    Args:
        study: What was found.
        plots: `<svg>` elements.
    """
    folds = "".join(f"<li>{html.escape(fold)}</li>" for fold in study.folds)
    return PAGE.format(
        body=f'<p>{html.escape(_summary(study))}</p>\n<div class="plots">{"".join(plots)}</div>\n'
        f"<h2>How settings were judged</h2>\n<p>By ROC AUC, the mean of the folds:</p>\n<ol>{folds}</ol>\n"
        f"<h2>Every trial</h2>\n{_table(study)}"
    )


def no_study_page() -> str:
    """The page where nothing was searched."""
    return PAGE.format(body="<p>tuning.engine is none: the parameters are those of training.parameters.</p>")


def _summary(study: Study) -> str:
    default, best = study.default.value or 0, study.best.value or 0
    if study.best is study.default:
        found = f"{len(study.trials)} tried; none beats the default, AUC {default:.4f}."
    else:
        found = f"{len(study.trials)} tried; the best has AUC {best:.4f}, the default {default:.4f}."
    if study.given_up:
        found += f" {len(study.given_up)} were given up early."
    return found + (f" {len(study.failed)} failed." if study.failed else "")


def _table(study: Study) -> str:
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.parameters))
    titles = ("trial", "AUC", *(f"fold {number}" for number in range(1, len(study.folds) + 1)), "seconds", *names)
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    rows = []
    for trial in study.trials:
        kind = "best" if trial is study.best else "unfinished" if trial.value is None else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(study, trial, names))
        rows.append(f'<tr class="{kind}">{cells}</tr>')
    failed = "".join(
        f"<li>Trial {trial.number + 1} failed: {html.escape(trial.reason or '')}</li>" for trial in study.failed
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
    return f'<div class="scroll">{table}</div>' + (f"\n<ul>{failed}</ul>" if failed else "")


def _cells(study: Study, trial: Trial, names: list[str]) -> list[str]:
    unknown = "given up" if trial.reason is None else "failed"
    value = unknown if trial.value is None else f"{trial.value:.4f}"
    folds = [f"{fold:.4f}" for fold in trial.folds] + [""] * (len(study.folds) - len(trial.folds))
    parameters = [show(trial.parameters[name]) if name in trial.parameters else "default" for name in names]
    return [str(trial.number + 1), value, *folds, f"{trial.seconds:.1f}", *parameters]
