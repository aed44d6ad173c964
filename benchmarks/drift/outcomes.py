"""Concept and label drift, which no feature shows: alarms of what watches outcomes, week by week.

Scores are calibrated until something happens to the events; features, and so scores, stay as they are. The rules about
features see the same windows whatever happens, so their alarms are those of the stationary world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.components.monitoring.decide_remedy.ranking import FEWEST_OF_A_CLASS, ranking
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.uncertainty.cusum import cusum

Floats = np.ndarray
WEEKS_BEFORE, WEEKS_AFTER = 52, 26
REFERENCE_WEEKS = 20
RATE, SPREAD = 0.05, 1.0
# What happens to an event's probability, in so many weeks since it began.
Change = Callable[[Floats, int], Floats]


def times(factor: float, weeks: int = 0, on: int = 0, off: int = 0) -> Change:
    """Events become so many times as many: at once, within some weeks, or for `on` weeks of each `on + off`."""

    def change(probability: Floats, week: int) -> Floats:
        reached = min(1.0, (week + 1) / weeks) if weeks else float(not on or week % (on + off) < on)
        return np.minimum(probability * (1 + (factor - 1) * reached), 1.0)

    return change


def shuffled(share: float) -> Change:
    """As many events, of which a share no longer follows the score."""
    return lambda probability, _: (1 - share) * probability + share * probability.mean()


CHANGES: Mapping[str, Change] = {
    "1.25 times as many events": times(1.25),
    "1.5 times, at once": times(1.5),
    "2.2 times, at once (the price rise)": times(2.2),
    "half as many": times(0.5),
    "2 times, within 12 weeks": times(2, weeks=12),
    "2 times in 4 of 12 weeks": times(2, on=4, off=8),
    "labels turned round": lambda probability, _: 1 - probability,
    "half of the ranking lost": shuffled(0.5),
    "all of the ranking lost": shuffled(1.0),
}

# The week of the first alarm, or None, by scores and labels of each week.
Watcher = Callable[[list[Floats], list[Floats]], int | None]


def chart(scores: list[Floats], labels: list[Floats]) -> int | None:
    """Ours: the CUSUM of events, as `join_outcomes` keeps it."""
    rule = Monitoring()
    alarm = cusum(
        [float(week.sum()) for week in labels],
        [float(week.sum()) for week in scores],
        rule.outcome_ratio,
        rule.outcome_run_length,
    ).alarm
    return None if alarm is None else alarm.at


def promised(scores: list[Floats], labels: list[Floats]) -> int | None:
    """Ours: ROC AUC below what the scores promise, as `decide_remedy` judges it, of the last four weeks."""
    for week in range(3, len(scores)):
        rows = pd.DataFrame(
            {"score": np.concatenate(scores[week - 3 : week + 1]), "label": np.concatenate(labels[week - 3 : week + 1])}
        )
        found = ranking(rows.assign(entity=rows.index))
        if found is not None and found.worse:
            return week
    return None


def each_week(scores: list[Floats], labels: list[Floats]) -> int | None:
    """Events of a week beside those expected, p < 0.05."""
    for week, (score, label) in enumerate(zip(scores, labels, strict=True)):
        away = abs(label.sum() - score.sum()) / np.sqrt((score * (1 - score)).sum())
        if 2 * norm.sf(away) < 0.05:
            return week
    return None


def three_deviations(scores: list[Floats], labels: list[Floats]) -> int | None:
    """ROC AUC of a week farther than three standard deviations from its mean in the first weeks: NannyML's default."""
    found = [
        roc_auc_score(label, score) if FEWEST_OF_A_CLASS <= label.sum() < len(label) else np.nan
        for score, label in zip(scores, labels, strict=True)
    ]
    known = np.array(found[:REFERENCE_WEEKS])
    limit = 3 * np.nanstd(known) if np.isfinite(known).sum() > 1 else np.nan
    outside = np.abs(np.array(found) - np.nanmean(known)) > limit if np.isfinite(limit) else np.zeros(len(found), bool)
    later = np.flatnonzero(outside[REFERENCE_WEEKS:])
    return int(later[0]) + REFERENCE_WEEKS if len(later) else None


WATCHERS: Mapping[str, Watcher] = {
    "each week, p < 0.05": each_week,
    "AUC, 3 sd": three_deviations,
    "our chart": chart,
    "our ranking": promised,
}


def delays(rows: int, change: Change | None, repeats: int, random: np.random.Generator) -> dict[str, list[int | None]]:
    """Weeks from the change to the first alarm after it, of each watcher in each repeat; without one, from week 0."""
    found: dict[str, list[int | None]] = {name: [] for name in WATCHERS}
    for _ in range(repeats):
        logit = (
            np.log(RATE / (1 - RATE))
            - SPREAD**2 / 2
            + SPREAD * random.standard_normal((WEEKS_BEFORE + WEEKS_AFTER, rows))
        )
        scores = list(1 / (1 + np.exp(-logit)))
        labels = []
        for week, score in enumerate(scores):
            happened = change is not None and week >= WEEKS_BEFORE
            probability = change(score, week - WEEKS_BEFORE) if change is not None and happened else score
            labels.append((random.random(rows) < probability).astype(float))
        for name, watcher in WATCHERS.items():
            # What alarmed before is what false alarms are counted by; a chart that did begins anew after it.
            first = 0 if change is None else WEEKS_BEFORE - REFERENCE_WEEKS
            at = watcher(scores[first:], labels[first:])
            found[name].append(None if at is None else at + first - (0 if change is None else WEEKS_BEFORE))
    return found
