"""Page of outcomes: each version's chart, performance and its estimate, and what the predictions were worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import BusinessOutcome, Outcomes, OutcomeWeek
from kfp_lifecycle.reports.formatting import measure, measured_title
from kfp_lifecycle.reports.templates import KeyFigure, templates
from kfp_lifecycle.runtime.outputs import write_whole

HEIGHT = 100.0


@dataclass(frozen=True)
class Trend:
    """A business metric by week: its plot's points, on a scale of its own."""

    line: list[tuple[float, float]]
    """Week and height, 0 above and 100 below."""
    band: list[tuple[float, float]]
    """Outline of the 95% intervals."""
    zero: float | None
    """Height of zero, where the plot reaches it."""
    low: float
    high: float
    first: str
    last: str


def write(found: Outcomes, report: Path) -> None:
    """Write the page as one HTML document that needs no network."""
    versions = list(reversed(found.versions))
    page = (
        templates(Path(__file__).parent)
        .get_template("outcomes.html.j2")
        .render(
            found=found,
            versions=versions,
            figures=_figures(found),
            trend=trend,
            written=written,
            measured_title=measured_title,
            tallest=tallest,
        )
    )
    write_whole(report, page)


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
    if found.versions:
        newest = found.versions[-1]
        if newest.estimate is not None and "roc_auc" in newest.estimate.metrics:
            figures["estimated_roc_auc"] = newest.estimate.metrics["roc_auc"].value
        figures |= {item.name: item.value.value for item in newest.business if item.value is not None}
    return figures


def written(value: float, item: BusinessOutcome, currency: str) -> str:
    """A value of a business metric in its unit."""
    return measure(value, item.unit, item.per, currency)


def trend(item: BusinessOutcome) -> Trend | None:
    """The plot of a metric's weeks; None where there are fewer than two."""
    weeks = item.weeks
    if len(weeks) < 2:
        return None
    low, high = min(week.low for week in weeks), max(week.high for week in weeks)
    span = (high - low) or 1.0
    start = weeks[0].end

    def place(week: int, value: float) -> tuple[float, float]:
        return (weeks[week].end - start).days / 7, round(HEIGHT * (high - value) / span, 2)

    numbers = range(len(weeks))
    return Trend(
        line=[place(at, weeks[at].value) for at in numbers],
        band=[place(at, weeks[at].high) for at in numbers] + [place(at, weeks[at].low) for at in reversed(numbers)],
        zero=round(HEIGHT * high / span, 2) if low <= 0 <= high else None,
        low=low,
        high=high,
        first=f"{start:%Y-%m-%d}",
        last=f"{weeks[-1].end:%Y-%m-%d}",
    )


def tallest(weeks: Sequence[OutcomeWeek]) -> float:
    """The most events of a week, observed or expected."""
    return max((max(week.observed, week.expected) for week in weeks), default=0.0) or 1.0


def _figures(found: Outcomes) -> list[KeyFigure]:
    if not found.versions:
        return []
    newest = found.versions[-1]
    figures = [KeyFigure("Outcomes known", newest.complete, f"of {newest.spells:,} by version {newest.version}")]
    if newest.performance and "roc_auc" in newest.performance[0].metrics:
        figures.append(_auc("ROC AUC", newest.performance[0].metrics["roc_auc"], f"measured on {newest.judged_on}"))
    if newest.estimate is not None and "roc_auc" in newest.estimate.metrics:
        figures.append(_auc("ROC AUC, estimated", newest.estimate.metrics["roc_auc"], "of whose outcome is open"))
    for item in newest.business:
        if item.unit == "money" and item.value is not None:
            figures.append(
                KeyFigure(
                    measured_title(item.title, item.unit, item.per), written(item.value.value, item, found.currency)
                )
            )
    return figures


def _auc(label: str, metric: Metric, note: str) -> KeyFigure:
    return KeyFigure(label, f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}, {note}")
