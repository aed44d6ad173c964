"""The study as a page: what was tried, what it was worth, in one file that needs no network."""

from __future__ import annotations

import html

from matplotlib.figure import Figure

from components.plot_style import ACCENT, QUIET, new_figure, svg
from components.training.tune_hyperparameters.study import Study, show

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hyperparameter search</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2933; }}
svg {{ max-width: 100%; height: auto; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #d9dee3; white-space: nowrap; }}
.best {{ font-weight: 600; }}
</style></head><body>
<h1>Hyperparameter search</h1>
<p>{summary}</p>
{plots}
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></div>
</body></html>
"""


def study_page(study: Study) -> str:
    """A self-contained HTML page: the result in a sentence, the course of the search, every trial."""
    default, best = study.trials[0], study.best
    if best is default:
        summary = f"{len(study.trials)} tried; none beats the default, AUC {default.value:.4f} on the validation part."
    else:
        summary = (
            f"{len(study.trials)} tried; the best has AUC {best.value:.4f} on the validation part, the default "
            f"{default.value:.4f}."
        )
    names = sorted({name for trial in study.trials for name in trial.parameters})
    rows = []
    for number, trial in enumerate(study.trials, start=1):
        cells = [str(number), f"{trial.value:.4f}", f"{trial.seconds:.1f}"]
        cells += [show(trial.parameters[name]) if name in trial.parameters else "default" for name in names]
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr class="best">{row}</tr>' if trial is best else f"<tr>{row}</tr>")
    return PAGE.format(
        summary=html.escape(summary),
        plots=svg(_course(study)),
        head="".join(f"<th>{html.escape(title)}</th>" for title in ("trial", "AUC", "seconds", *names)),
        rows="\n".join(rows),
    )


def _course(study: Study) -> Figure:
    figure, axes = new_figure("Each trial and the best so far")
    values = [trial.value for trial in study.trials]
    best = [max(values[: number + 1]) for number in range(len(values))]
    numbers = range(1, len(values) + 1)
    axes.step(numbers, best, where="post", color=ACCENT, label="best so far")
    axes.scatter(numbers, values, color=QUIET, zorder=3, label="trial")
    axes.set(xlabel="trial (1 is the default)", ylabel="AUC, validation part")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return figure
