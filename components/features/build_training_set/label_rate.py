"""Structural break in the label's rate: a snapshot from which on the event is far more, or far less, common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from kfp_lifecycle.artifacts.training_set import LabelRate

# A break changes the odds of the event by this factor or more between two neighbouring snapshots …
ODDS_RATIO = 2.0
# … and is so many standard errors away: chance does so once in 10,000 training sets of 12 snapshots.
STANDARD_ERRORS = 4.5


def breaks(rates: Sequence[LabelRate], label_query: str) -> list[str]:
    """Name the breaks in the label's rate.

    Each snapshot is held against the one before it: by the odds ratio, with half a row added to each count so that a
    rate of 0 has odds too, and by the two-proportion z-test with pooled variance (Agresti, Categorical Data Analysis,
    3.1.1 and 3.1.3).

    Args:
        rates: Of all snapshots with a label, oldest first.
        label_query: What messages call the label's query.
    """
    notes = []
    for before, after in pairwise(rates):
        ratio = abs(log_odds(after) - log_odds(before))
        if ratio >= math.log(ODDS_RATIO) and abs(standard_errors(before, after)) >= STANDARD_ERRORS:
            notes.append(
                f"The label's rate breaks at {after.snapshot}: {after.rate:.1%} of {after.rows:,} rows have the event, "
                f"and {before.rate:.1%} of {before.rows:,} had it at {before.snapshot}. Where that is not what "
                f"happened, rows are missing or mean something else from then on: look at the tables of {label_query}."
            )
    return notes


def label_rate(snapshot: datetime, rows: int, positives: int) -> LabelRate:
    """The rate of one snapshot."""
    return LabelRate(snapshot=f"{snapshot:%Y-%m-%d}", rows=rows, positives=positives)


def log_odds(rate: LabelRate) -> float:
    """Logarithm of the event's odds."""
    return math.log((rate.positives + 0.5) / (rate.rows - rate.positives + 0.5))


def standard_errors(before: LabelRate, after: LabelRate) -> float:
    """How many standard errors two rates are apart, if one rate were behind both."""
    pooled = (before.positives + after.positives) / (before.rows + after.rows)
    variance = pooled * (1 - pooled) * (1 / before.rows + 1 / after.rows)
    return (after.rate - before.rate) / math.sqrt(variance) if variance else 0.0
