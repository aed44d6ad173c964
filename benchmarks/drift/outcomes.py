"""Concept and label drift, which no feature shows: alarms of what watches outcomes, week by week.

Scores are calibrated until something happens to the events; features, and so scores, stay as they are. The rules about
features see the same windows whatever happens, so their alarms are those of the stationary world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from scipy.special import expit
from scipy.special import logit as logit_of
from scipy.stats import norm, rankdata

from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Week, lost
from kfp_lifecycle.components.monitoring.join_outcomes.performance import FEWEST_OF_A_CLASS
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.uncertainty.cusum import cusum

Floats = np.ndarray
WEEKS_BEFORE, WEEKS_AFTER = 52, 26
REFERENCE_WEEKS = 20
RATE, SPREAD = 0.05, 1.0
RULE = Monitoring()
FIRST = datetime(2026, 1, 5, tzinfo=UTC)
# Means over a standard normal variable.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class World:
    """How scores and events go on where nothing happens."""

    season: float = 0.0
    """Amplitude of the year in the log-odds of scores and events alike."""
    wobble: float = 0.0
    """Standard deviation of the events' log-odds from what scores say, of all in a week."""
    autocorrelation: float = 0.0
    """Of the wobble from week to week."""
    frailty: float = 0.0
    """Standard deviation of the log-odds of an entity, asked about every week, from what its scores say; scores are
    calibrated for all together."""


WORLDS: Mapping[str, World] = {
    "stationary": World(),
    "seasonal": World(season=0.5),
    "autocorrelated": World(wobble=0.1, autocorrelation=0.8),
    "repeated entities": World(frailty=0.5),
}

# What happens to an event's probability, in so many weeks since it began.
Change = Callable[[Floats, int], Floats]


def since(weeks: int, within: int = 0, on: int = 0, off: int = 0) -> float:
    """How much of a change has come: all at once, within some weeks, or for `on` weeks of each `on + off`."""
    return min(1.0, (weeks + 1) / within) if within else float(not on or weeks % (on + off) < on)


def times(factor: float, **course: int) -> Change:
    """Events become so many times as many."""
    return lambda chance, week: np.minimum(chance * (1 + (factor - 1) * since(week, **course)), 1.0)


def shuffled(share: float, **course: int) -> Change:
    """As many events, of which a share no longer follows the score."""

    def change(chance: Floats, week: int) -> Floats:
        part = share * since(week, **course)
        return (1 - part) * chance + part * chance.mean()

    return change


def turned(chance: Floats, week: int) -> Floats:
    """As many events, of those whom scores put last."""
    del week
    order = np.argsort(chance)
    found = np.empty_like(chance)
    found[order] = chance[order[::-1]]
    return found


CHANGES: Mapping[str, Change] = {
    "1.25 times as many events": times(1.25),
    "1.5 times, at once": times(1.5),
    "2.2 times, at once (the price rise)": times(2.2),
    "half as many": times(0.5),
    "2 times, within 12 weeks": times(2, within=12),
    "2 times in 4 of 12 weeks": times(2, on=4, off=8),
    "labels are their opposite": lambda chance, _: 1 - chance,
    "ranking turned round": turned,
    "a fifth of the ranking lost": shuffled(0.2),
    "half of it": shuffled(0.5),
    "half of it, within 12 weeks": shuffled(0.5, within=12),
    "half of it in 4 of 12 weeks": shuffled(0.5, on=4, off=8),
    "all of it (rows joined wrongly)": shuffled(1.0),
}


@dataclass(frozen=True)
class History:
    """Weeks of outcomes.

    Attributes:
        weeks: Who was at risk in each, what was expected of them, and to whom the event came.
        predicted: Scores and labels of the predictions whose horizon ended with each week; None in the first ones.
    """

    weeks: Sequence[Week]
    predicted: Sequence[tuple[Floats, Floats] | None]

    @cached_property
    def areas(self) -> Floats:
        """ROC AUC of the predictions of each week; no number where they have too few events."""
        return np.array([np.nan if found is None else roc_auc(*found) for found in self.predicted])

    @cached_property
    def observed(self) -> Floats:
        """Events of each week."""
        return np.array([week.event.sum() for week in self.weeks])

    @cached_property
    def expected(self) -> Floats:
        """Those foretold."""
        return np.array([week.chance.sum() for week in self.weeks])


def roc_auc(score: Floats, label: Floats) -> float:
    """No number where there are too few events."""
    events = label.sum()
    if not FEWEST_OF_A_CLASS <= events < len(label):
        return np.nan
    ranks = rankdata(score)[label == 1].sum()
    return float((ranks - events * (events + 1) / 2) / (events * (len(label) - events)))


def history(
    world: World,
    rows: int,
    horizon: int,
    random: np.random.Generator,
    weeks_before: int,
    change: Change = lambda chance, _: chance,
) -> History:
    """Predictions of so many rows in each week, followed through a horizon of so many weeks; then a change comes.

    Events are even within the horizon: of those without one, each week has the same part of what is left.
    """
    weeks, cohorts = [], []
    wobble = 0.0
    level = np.log(RATE / (1 - RATE)) - SPREAD**2 / 2
    frailty = world.frailty * random.standard_normal(rows)
    entity = np.arange(rows).astype(object)
    length = weeks_before + WEEKS_AFTER
    for number in range(length):
        season = world.season * np.sin(2 * np.pi * number / 52)
        logit = level + season + SPREAD * random.standard_normal(rows)
        truth = expit(logit + frailty)
        # The mean over entities, since it is not known how frail one is.
        score = expit(logit[:, None] + world.frailty * NODES) @ WEIGHTS if world.frailty else truth
        cohorts.append([score, truth, np.zeros(rows)])
        wobble = (
            world.autocorrelation * wobble
            + world.wobble * np.sqrt(1 - world.autocorrelation**2) * random.standard_normal()
        )
        scores, chances, events = [], [], []
        open_ones = cohorts[-horizon:]
        for age, (of_score, of_truth, label) in zip(reversed(range(len(open_ones))), open_ones, strict=True):
            at_risk = label == 0
            chance, true = (
                found[at_risk] / horizon / (1 - found[at_risk] * age / horizon) for found in (of_score, of_truth)
            )
            if world.wobble:
                true = expit(logit_of(true) + wobble)
            scores.append(of_score[at_risk])
            chances.append(chance)
            events.append((true, at_risk, label))
        true = np.concatenate([item[0] for item in events])
        if number >= weeks_before:
            true = change(true, number - weeks_before)
        came = (random.random(len(true)) < true).astype(float)
        names = np.concatenate([entity[item[1]] for item in events])
        weeks.append(
            Week(FIRST + timedelta(weeks=number), np.concatenate(scores), np.concatenate(chances), came, names)
        )
        for (_, at_risk, label), part in zip(
            events, np.split(came, np.cumsum([len(item[0]) for item in events])[:-1]), strict=True
        ):
            label[at_risk] = part
    predicted: list[tuple[Floats, Floats] | None] = [None] * (horizon - 1)
    predicted += [(score, label) for score, _, label in cohorts[: length - horizon + 1]]
    return History(weeks, predicted)


# The week of the first alarm, or None.
Watcher = Callable[[History], int | None]


def chart(found: History) -> int | None:
    """Ours: the CUSUM of events, as `join_outcomes` keeps it."""
    rule = RULE.outcome_ratio, RULE.outcome_variation, RULE.outcome_run_length
    alarm = cusum(found.observed.tolist(), found.expected.tolist(), *rule).alarm
    return None if alarm is None else alarm.at


def ranks(found: History) -> int | None:
    """Ours: the ranking of events among those at risk, as `decide_remedy` judges it, of as many weeks as it sees."""
    for number in range(len(found.weeks)):
        span = found.weeks[max(0, number + 1 - RULE.outcome_weeks) : number + 1]
        if lost(span, RULE.ranking_run_length) is not None:
            return number
    return None


def each_week(found: History) -> int | None:
    """Events of a week beside those expected, p < 0.05."""
    spread = np.sqrt([(week.chance * (1 - week.chance)).sum() for week in found.weeks])
    outside = 2 * norm.sf(np.abs(found.observed - found.expected) / spread) < 0.05
    return int(outside.argmax()) if outside.any() else None


def three_deviations(found: History) -> int | None:
    """ROC AUC of a week farther than three standard deviations from its mean in the first weeks: NannyML's default."""
    known = found.areas[:REFERENCE_WEEKS]
    if np.isfinite(known).sum() < 2:
        return None
    outside = np.abs(found.areas - np.nanmean(known)) > 3 * np.nanstd(known)
    later = np.flatnonzero(outside[REFERENCE_WEEKS:])
    return int(later[0]) + REFERENCE_WEEKS if len(later) else None


WATCHERS: Mapping[str, Watcher] = {
    "each week, p < 0.05": each_week,
    "AUC, 3 sd": three_deviations,
    "our chart": chart,
    "our ranking": ranks,
}


def false_alarms(world: World, rows: int, horizon: int, repeats: int, random: np.random.Generator) -> dict[str, float]:
    """Alarms a year of each watcher where nothing happens: first ones, by the weeks that were watched until then."""
    count, watched = dict.fromkeys(WATCHERS, 0), dict.fromkeys(WATCHERS, 0)
    for _ in range(repeats):
        found = history(world, rows, horizon, random, WEEKS_BEFORE)
        for name, watcher in WATCHERS.items():
            at = watcher(found)
            count[name] += at is not None
            watched[name] += len(found.weeks) if at is None else at + 1
            # In its first weeks this one only learns what is usual.
            watched[name] -= REFERENCE_WEEKS if watcher is three_deviations else 0
    return {name: 52 * number / watched[name] for name, number in count.items()}


def delays(
    rows: int, horizon: int, change: Change, repeats: int, random: np.random.Generator
) -> dict[str, list[int | None]]:
    """Weeks from a change to the first alarm, of each watcher in each repeat: 1 is the week in which it began.

    A watcher that alarmed before has none there; None where it did not in WEEKS_AFTER.
    """
    told: dict[str, list[int | None]] = {name: [] for name in WATCHERS}
    for _ in range(repeats):
        before = REFERENCE_WEEKS + horizon
        found = history(World(), rows, horizon, random, before, change)
        for name, watcher in WATCHERS.items():
            at = watcher(found)
            if at is None or at >= before:
                told[name].append(None if at is None else at + 1 - before)
    return told
