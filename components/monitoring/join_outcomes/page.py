"""Page of outcomes: the weeks of each version's chart, and its performance."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import Outcomes, VersionOutcomes
from kfp_lifecycle.runtime.outputs import write_whole


def write(found: Outcomes, report: Path) -> None:
    """Write the page as Markdown."""
    lines = ["# Outcomes", "", found.sentence, ""]
    for version in reversed(found.versions):
        lines += [
            f"## Version {version.version}",
            "",
            *_weeks(version, found.threshold),
            "",
            *_performance(version),
            "",
        ]
    lines += [*(f"- {note}" for note in found.notes)]
    write_whole(report, "\n".join(lines).rstrip() + "\n")


def key_figures(found: Outcomes) -> dict[str, float]:
    """What a dashboard shows of it."""
    weeks = [version.weeks[-1] for version in found.versions if version.weeks]
    figures = {
        "events_observed": float(sum(week.observed for week in weeks)),
        "events_expected": sum(week.expected for week in weeks),
        "alarms": float(len(found.alarms)),
    }
    measured = [version.performance[0].metrics for version in found.versions if version.performance]
    if measured and "roc_auc" in measured[-1]:
        figures["roc_auc"] = measured[-1]["roc_auc"].value
    return figures


def _weeks(version: VersionOutcomes, threshold: float) -> list[str]:
    return [
        f"{version.spells:,} predictions are followed, {version.complete:,} of them to the end of their horizon.",
        "",
        f"| week to | events | expected | more (alarm at {threshold:.1f}) | fewer |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {week.end:%Y-%m-%d} | {week.observed:,} | {week.expected:,.1f} | {_side(week.more, threshold)} "
            f"| {_side(week.fewer, threshold)} |"
            for week in version.weeks
        ),
    ]


def _side(value: float, threshold: float) -> str:
    return f"**{value:.1f}**" if value > threshold else f"{value:.1f}"


def _performance(version: VersionOutcomes) -> list[str]:
    if not version.performance:
        return ["No horizon has passed yet."]
    return [
        "| who | rows | events | ROC AUC | log loss | observed / expected |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {measured.group or 'all'} | {measured.rows:,} | {measured.events:,} | "
            + " | ".join(
                _shown(measured.metrics.get(name)) for name in ("roc_auc", "log_loss", "observed_over_expected")
            )
            + " |"
            for measured in version.performance
        ),
    ]


def _shown(metric: Metric | None) -> str:
    return "too few" if metric is None else f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"
