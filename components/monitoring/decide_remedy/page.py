"""Monitoring page, for every Monday: what happened, what changed since when, what it comes to, what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kfp_lifecycle.artifacts.drift import Drift, Finding, Picture
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.predictions import Predictions
from kfp_lifecycle.artifacts.remedy import Remedy, RemedyVerdict
from kfp_lifecycle.components.monitoring.decide_remedy.trends import TONES, trends_of
from kfp_lifecycle.monitoring.history import WindowRecord
from kfp_lifecycle.monitoring.resolution import Resolution
from kfp_lifecycle.reports.formatting import measure, number
from kfp_lifecycle.reports.templates import KeyFigure, templates

HEADLINES: Mapping[RemedyVerdict, str] = {
    "keep": "Nothing unusual",
    "undecided": "Nothing decided",
    "broken data": "Broken data",
    "world moved": "The world moved",
    "model is worse": "The model is worse",
}
# So many past windows are listed; the history has them all.
LISTED = 12
# How a window is called by its end, and how where several end on one day.
ENDING, ENDING_OFTEN = "%-d %B %Y", "%-d %B %Y, %H:%M"


@dataclass(frozen=True)
class Change:
    """A column that drifted, with its picture."""

    finding: Finding
    picture: Picture

    @property
    def tallest(self) -> float:
        """In percent."""
        return max(max(bar.before, bar.after) for bar in self.picture.bars)


@dataclass(frozen=True)
class Look:
    """A window of the past, and what was done about it."""

    record: WindowRecord
    tone: str
    done: Resolution


def draw(
    remedy: Remedy,
    predictions: Predictions,
    drift: Drift,
    outcomes: Outcomes,
    history: Sequence[WindowRecord],
    done: Sequence[Resolution],
    label: str,
) -> str:
    """The page as one HTML document without scripts that needs no network.

    Args:
        remedy: What was decided.
        predictions: What was served in the window.
        drift: What features did.
        outcomes: What became of predictions.
        history: The windows so far, oldest first, this one the last.
        done: What was done about each.
        label: What is foretold, in words.
    """
    findings = {(item.column, item.aspect): item for item in drift.columns}
    own = next((found for found in outcomes.versions if found.version == remedy.version), None)
    looks = [
        Look(item, TONES.get(item.verdict, "waiting"), resolution)
        for item, resolution in reversed(list(zip(history, done, strict=True)))
    ]
    return (
        templates(Path(__file__).parent)
        .get_template("remedy.html.j2")
        .render(
            remedy=remedy,
            drift=drift,
            outcomes=outcomes,
            own=own,
            label=label,
            headline=HEADLINES[remedy.verdict],
            figures=key_figures(predictions, drift, history, outcomes.currency),
            changes=[Change(findings[item.column, item.aspect], item) for item in drift.pictures],
            undrawn=sum(item.drifted for item in drift.columns) - len(drift.pictures),
            trends=trends_of(history, outcomes),
            looks=looks[:LISTED],
            earlier=max(0, len(looks) - LISTED),
            ending=ENDING_OFTEN if len({item.end.date() for item in history}) < len(history) else ENDING,
            notes=[*predictions.notes, *outcomes.notes],
        )
    )


def key_figures(
    predictions: Predictions,
    drift: Drift,
    history: Sequence[WindowRecord],
    currency: str,
) -> list[KeyFigure]:
    """The few numbers that a reader wants first, beside those of the window before."""
    now, earlier = history[-1], [item for item in history[:-1] if item.end < history[-1].end]
    before = earlier[-1] if earlier else None
    found = [
        KeyFigure(
            "Predictions",
            number(predictions.found.predictions),
            f"{number(before.predictions)} in the window before"
            if before
            else f"{drift.predictions.compared:,} compared",
        )
    ]
    if now.mean_score is not None:
        then = f"{number(before.mean_score)} in the window before" if before and before.mean_score is not None else ""
        found.append(KeyFigure("Mean score", number(now.mean_score), then))
    if now.observed is not None and now.expected is not None and now.week is not None:
        foretold = f"{now.expected:,.1f} foretold for the week to {now.week:%-d %B}"
        found.append(KeyFigure("Events", number(now.observed), foretold))
    if now.roc_auc is not None:
        interval = f"95%: {number(now.roc_auc.low)} to {number(now.roc_auc.high)}"
        found.append(KeyFigure("ROC AUC", number(now.roc_auc.value), interval))
    for figure in [item for item in now.business.values() if item.unit == "money"][:1]:
        value, low, high = (
            measure(part, figure.unit, figure.per, currency)
            for part in (figure.value.value, figure.value.low, figure.value.high)
        )
        per = f"for {figure.per:,} predictions, " if figure.per > 1 else ""
        found.append(KeyFigure(f"{figure.title[:1].upper()}{figure.title[1:]}", value, f"{per}95%: {low} to {high}"))
    found.append(KeyFigure("Features drifted", number(len(drift.drifted)), f"by version {drift.version}'s baseline"))
    return found
