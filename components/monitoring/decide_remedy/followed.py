"""Observed and expected events of followed predictions in a span of time, by the compensator of a counting process.

An event is expected by the hazard that a prediction's score and the timing of events foretell, for as long as it had
none (Aalen 1978, "Nonparametric inference for a family of counting processes"): so events count before horizons are
over, and observed less expected is zero on average where scores are calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.monitoring import treatment

Floats = NDArray[np.float64]
# A probability of one has no finite hazard.
LARGEST_PROBABILITY = 1 - 1e-9
LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True)
class Ratio:
    """Observed over expected, with the exact 95% interval of a Poisson count (Garwood 1936)."""

    observed: int
    expected: float

    @property
    def value(self) -> float:
        """1 is as foretold."""
        return self.observed / self.expected if self.expected else np.nan

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return float(chi2.ppf(LOW, 2 * self.observed) / 2 / self.expected) if self.observed else 0.0

    @property
    def high(self) -> float:
        """Upper end."""
        return float(chi2.ppf(HIGH, 2 * self.observed + 2) / 2 / self.expected)


def same_rate(one: Ratio, other: Ratio, alternative: Literal["two-sided", "less"] = "two-sided") -> float:
    """P-value of "events come as often of the one as of the other, by what was foretold": given both, those of the one
    are a binomial count (the conditional test of two Poisson rates: Przyborowski and Wilenski 1940)."""
    both = one.observed + other.observed
    if not both or not one.expected:
        return 1.0
    share = one.expected / (one.expected + other.expected)
    return float(binomtest(one.observed, both, share, alternative=alternative).pvalue)


@dataclass(frozen=True)
class Followed:
    """Predictions that were at risk in a span of time, n of them.

    Attributes:
        rows: What the outcomes' table says of them: `version`, `entity`, `time`, `score`, `decision`, `complete`, ….
        observed: 1 where the event came in the span, shape (n,).
        expected: Events expected of each while it was at risk in the span, shape (n,).
        planned: The same, had none come before the span's end, shape (n,).
        whole: Events expected of each in its whole horizon, on the same scale (its cumulative hazard), shape (n,).
        absence: Whether the label is that no event comes.
        weight: How many predictions each stands for, shape (n,).
    """

    rows: pd.DataFrame
    observed: Floats
    expected: Floats
    planned: Floats
    whole: Floats
    absence: bool
    weight: Floats

    def of(self, chosen: NDArray[np.bool_]) -> Followed:
        """Some of them."""
        return Followed(
            self.rows[chosen].reset_index(drop=True),
            self.observed[chosen],
            self.expected[chosen],
            self.planned[chosen],
            self.whole[chosen],
            self.absence,
            self.weight[chosen],
        )

    @property
    def chance(self) -> Floats:
        """Probability of the event in the span, of each that had none at its start, shape (n,)."""
        none: Floats = np.exp(-self.planned)
        return 1 - none

    @property
    def ratio(self) -> Ratio:
        """Observed over expected of them all."""
        return Ratio(int(self.observed.sum()), float(self.expected.sum()))


def acted_upon(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Who was acted upon, as far as anybody knows: whose score said so, and who is not held out."""
    return treatment.acted_upon(*(table[name].eq(True).to_numpy(np.bool_) for name in ("decision", "hold_out")))


def followed(table: pd.DataFrame, outcomes: Outcomes, start: datetime, end: datetime | None = None) -> Followed:
    """What was observed and expected of each prediction in a span of time.

    Where a version holds somebody out, whoever was acted upon is left out, as in its chart, and the held out stand for
    all whom the score says to act upon.

    Args:
        table: The outcomes' table.
        outcomes: How long the horizon is, what settles an outcome early, and when within the horizon events come.
        start: Of the span; it begins with a week of the chart.
        end: Of the span, that of a week likewise; when what is known of outcomes ends, by default.
    """
    last = pd.Timestamp(outcomes.until if end is None else end)
    absence = outcomes.told == "by its absence"
    event = table["label"] == (0 if absence else 1)
    # An event without a week came before the chart begins: whoever had it is at risk no more.
    ours = table["known"] & ~(event & table["event_by"].isna())
    weight = np.ones(len(table))
    held_out = (table["hold_out"].eq(True) & table["decision"].eq(True)).to_numpy(np.bool_)
    if held_out.any():
        weight[held_out] = table["decision"].eq(True).sum() / held_out.sum()
        ours &= ~acted_upon(table)
    weight = weight[ours]
    table = table[ours].reset_index(drop=True)
    begun = pd.to_datetime(table["day"], utc=True)
    # An event that came by the span's start is none of it.
    over = table["event_by"].fillna(last).clip(upper=last)
    horizon = timedelta(days=outcomes.horizon_days)
    parts = np.array([point.elapsed for point in outcomes.timing])
    happened_by = np.array([point.share for point in outcomes.timing])
    score = np.clip(table["score"].to_numpy(np.float64), 0, LARGEST_PROBABILITY)
    probability = np.clip(1 - score, 0, LARGEST_PROBABILITY) if absence else score

    def hazard(moment: pd.Series | datetime) -> Floats:
        elapsed = np.clip(((moment - begun) / horizon).to_numpy(np.float64), 0, 1)
        found: Floats = -np.log1p(-probability * np.interp(elapsed, parts, happened_by))
        return found

    before = hazard(pd.Timestamp(start))
    planned = np.maximum(hazard(last) - before, 0)
    expected = np.maximum(hazard(over) - before, 0)
    observed = ((table["event_by"] > pd.Timestamp(start)) & (table["event_by"] <= last)).to_numpy(np.float64)
    found = Followed(table, observed, expected, planned, -np.log1p(-probability), absence, weight)
    at_risk = (over > pd.Timestamp(start)).to_numpy() & (planned > 0)
    return found.of(at_risk)
