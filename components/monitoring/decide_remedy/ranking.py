"""Ranking in production: do events come to those whom the scores put first, as the scores themselves promise?

If scores are probabilities, they say what ROC AUC to expect (confidence-based performance estimation, CBPE). A ranking
that falls short of it has lost what it knew: labels are turned round, rows are joined to others, or what mattered
matters no more. It is asked of each week's events among those at risk in it, so that an event counts before its horizon
is over, and how many events there are does not matter: that is what the chart of `join_outcomes` is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.components.monitoring.decide_remedy.followed import acted_upon, followed
from kfp_lifecycle.uncertainty import rank_scan
from kfp_lifecycle.uncertainty.area import area

Floats = NDArray[np.float64]
# Of fewer events nothing is decided, though chance is bounded for any number of them.
FEWEST_EVENTS = 5
# A smaller decline of ROC AUC is no reason to do anything.
LEAST_DECLINE = 0.02


@dataclass(frozen=True)
class Week:
    """Predictions that were at risk of an event in a week, n of them.

    Attributes:
        start: Of the week.
        score: What ranks them: the event's probability in the whole horizon, or what rises with it, shape (n,).
        chance: Probability of the event in this week by the score, above 0, shape (n,).
        event: 1 where it came, else 0, shape (n,).
        entity: Whose they are, shape (n,).
    """

    start: datetime
    score: Floats
    chance: Floats
    event: Floats
    entity: NDArray[np.object_]

    @cached_property
    def evidence(self) -> rank_scan.Evidence:
        """What the week says of the ranking."""
        return rank_scan.evidence(self.score, self.chance, self.event)


@dataclass(frozen=True)
class Ranking:
    """ROC AUC of weekly events beside what was to be expected."""

    since: datetime
    """Start of the weeks that it is of; they reach to the newest."""
    events: int
    measured: Metric
    expected: float


def weeks_at_risk(table: pd.DataFrame, outcomes: Outcomes, version: str) -> list[Week]:
    """A version's predictions in each week of its chart, of those that nobody acted upon.

    What was done because of a score changes what is observed, so that those who were acted upon do not tell how good it
    was; among the others the scores still promise what they promise.

    Args:
        table: The outcomes' table.
        outcomes: What is known of outcomes.
        version: The model's version.
    """
    own = next((found for found in outcomes.versions if found.version == version), None)
    if own is None or len(own.weeks) < 2:
        return []
    ends = [week.end for week in own.weeks]
    rows = table[(table["version"] == version) & ~acted_upon(table)]
    weeks = []
    for start, end in zip([ends[0] - (ends[1] - ends[0]), *ends], ends, strict=False):
        found = followed(rows, outcomes, start, end)
        entity = found.rows["entity"].to_numpy(dtype=object)
        weeks.append(Week(start, found.whole, found.chance, found.observed, entity))
    return weeks


def lost(weeks: Sequence[Week], in_control: float) -> Ranking | None:
    """The weeks since which a version ranks worse than its scores promise; None where it does not.

    Args:
        weeks: Of the version, the newest last.
        in_control: Weeks between two false alarms, at least.
    """
    if not weeks:
        return None
    found = rank_scan.scan([week.evidence for week in weeks])
    if found.deviation >= -rank_scan.limit(len(weeks), in_control):
        return None
    since = measure(weeks[found.first :])
    return since if since is not None and since.expected - since.measured.value > LEAST_DECLINE else None


def measure(weeks: Sequence[Week]) -> Ranking | None:
    """ROC AUC of the events of some weeks among those at risk in them; None where there are too few of either."""
    if not weeks:
        return None
    score, chance, event = (
        np.concatenate([getattr(week, name) for week in weeks]) for name in ("score", "chance", "event")
    )
    events = int(event.sum())
    if min(events, len(event) - events) < FEWEST_EVENTS:
        return None
    codes = pd.factorize(np.concatenate([week.entity for week in weeks]))[0].astype(np.int64)
    found = area(event, score, codes, int(codes.max()) + 1)
    return Ranking(weeks[0].start, events, found.metric(), expected_area(score, chance, events))


def expected_area(score: Floats, chance: Floats, events: int) -> float:
    """ROC AUC of scores if they are probabilities, at the level of the events there were.

    Args:
        score: What ranks, shape (n,).
        chance: Probability of the event, shape (n,).
        events: How many there were.
    """
    probability = rank_scan.at_level(chance, events)
    order = np.argsort(score, kind="stable")
    ranked, positive = score[order], probability[order]
    groups = np.cumsum(np.append(True, ranked[1:] != ranked[:-1])) - 1
    positives = np.bincount(groups, positive)
    negatives = np.bincount(groups, 1 - positive)
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / (positives.sum() * negatives.sum()))
