"""Adjustment without labels: since when outcomes are as far off as they are now, and a remedy as it was measured.

To recalibrate by one ratio of events is recalibration in the large (Steyerberg and others 2004, "Validation and
updating of predictive logistic regression models"); events count before horizons are over, so that it waits for no
label.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from scipy.stats import poisson

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Outcomes, OutcomeWeek, VersionOutcomes
from kfp_lifecycle.components.monitoring.decide_remedy.followed import Ratio, same_rate
from kfp_lifecycle.components.monitoring.decide_remedy.worth import Worth

WEEK = timedelta(days=7)
# Weeks are told apart by so small a chance, and an adjusted version is called off by it.
SIGNIFICANCE = 0.01


def settled_since(weeks: Sequence[OutcomeWeek], alarm: OutcomeAlarm) -> datetime:
    """Since when outcomes have been as far off as they are now: the newest weeks of an alarm, as many of them as do not
    differ beyond chance (`same_rate`) in the direction of what was foretold.

    What is learned from a shock that wears off, from its first days on, is over when it is released.

    Args:
        weeks: Of the alarm's version, oldest first.
        alarm: It stands.
    """
    weeks = [week for week in weeks if week.end > alarm.since and week.expected > 0]
    if not weeks:
        return alarm.since
    newest, since = Ratio(weeks[-1].observed, weeks[-1].expected), weeks[-1].end - WEEK
    for week in reversed(weeks[:-1]):
        older = Ratio(week.observed, week.expected)
        passing = (newest, older) if alarm.direction == "more" else (older, newest)
        if same_rate(*passing, "less") < SIGNIFICANCE:
            break
        newest = Ratio(newest.observed + week.observed, newest.expected + week.expected)
        since = week.end - WEEK
    return since


def alarm_after_adjustment(own: VersionOutcomes, outcomes: Outcomes) -> OutcomeAlarm | None:
    """An alarm about a version whose level monitoring has set: the world that made it necessary may go on moving.

    For a label's horizon after it took over its events since then are held against what it foretold, by the exact test
    of a Poisson count: a chart is slower, since it has to be quiet for years.

    Args:
        own: What became of its predictions.
        outcomes: How long the horizon is.
    """
    weeks = [week for week in own.weeks if week.expected > 0]
    if not weeks:
        return None
    began = weeks[0].end - WEEK
    if outcomes.until > began + timedelta(days=outcomes.horizon_days) + WEEK:
        return None
    observed, expected = sum(week.observed for week in weeks), sum(week.expected for week in weeks)
    more = bool(observed > expected)
    chance = poisson.sf(observed - 1, expected) if more else poisson.cdf(observed, expected)
    if 2 * chance >= SIGNIFICANCE:
        return None
    return OutcomeAlarm(
        direction="more" if more else "fewer",
        noticed=outcomes.until,
        since=began,
        observed=observed,
        expected=expected,
        sentence=f"{'More' if more else 'Fewer'} events than version {own.version} foretells, since it was adjusted.",
    )


def labels_known(since: datetime, outcomes: Outcomes) -> bool:
    """Whether the label of a date since then is known, so that a training can learn from it."""
    return since + timedelta(days=outcomes.horizon_days) <= outcomes.until


def adjustment(worth: Worth | None, version: str, outcomes: Outcomes, by_costs: bool) -> Adjustment | None:
    """A remedy as it was measured; None where it was not, has to learn from features, or is neither shown to pay nor to
    correct a level that is off.

    Args:
        worth: Of the remedy that was chosen.
        version: The version in production.
        outcomes: What became of its predictions.
        by_costs: Whether the project's decisions are made by costs: else the threshold that was judged by is not its.
    """
    if worth is None or worth.fit is None or worth.remedy not in ("recalibrate", "set the threshold") or not by_costs:
        return None
    found = Adjustment(
        remedy=worth.remedy,
        version=version,
        hazard_ratio=worth.fit.hazard_ratio,
        hazard_ratio_low=worth.fit.ratio.low if worth.remedy == "recalibrate" else 1.0,
        hazard_ratio_high=worth.fit.ratio.high if worth.remedy == "recalibrate" else 1.0,
        absence=outcomes.told == "by its absence",
        threshold=worth.fit.threshold,
        since=worth.fit.since,
        until=outcomes.until,
        observed=worth.fit.ratio.observed,
        expected=worth.fit.ratio.expected,
        entities=len(set(worth.entity.tolist())),
        gain=worth.metric,
        currency=worth.currency,
    )
    return found if found.gain.low > 0 or found.level_is_off else None
