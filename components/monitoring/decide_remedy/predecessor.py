"""A version held against the one before it: what the decisions of either are worth on the same predictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.components.monitoring.decide_remedy.followed import Followed, acted_upon, same_rate
from kfp_lifecycle.components.monitoring.decide_remedy.worth import Worth, worth_of_version_before
from kfp_lifecycle.config.training import Costs

# Where nobody is held out, actions are taken to work from so small a chance on that they do not.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Release:
    """A version beside the one before it, since it took over."""

    version: str
    before: str
    since: datetime
    """The first day of its predictions."""
    worth: Worth
    """Of the decisions of the version before, less those that were made."""
    actions_may_work: bool
    """Nobody is held out, and those acted upon had fewer events than the others by what was foretold of either: then
    decisions to act look worse than they were."""

    @property
    def is_worse(self) -> bool:
        """Whether it is worth less, beyond chance, however often that was asked."""
        return self.worth.metric.low > 0 and not self.actions_may_work

    @property
    def told(self) -> str:
        """That, and where it must not be believed, why."""
        what = f"{self.sentence[:1].upper()}{self.sentence[1:]}."
        if not self.actions_may_work:
            return what
        return (
            f"{what} But those acted upon had fewer events than the others, by what was foretold: so it looks when "
            "actions work. Leave a group alone to be certain."
        )

    @property
    def sentence(self) -> str:
        """How much it is worth beside the one before, in words."""
        metric, currency = self.worth.metric, self.worth.currency
        less, low, high = (
            (metric.value, metric.low, metric.high) if metric.value > 0 else (-metric.value, -metric.high, -metric.low)
        )
        return (
            f"by the costs version {self.version} was worth {less:,.0f} {currency} "
            f"{'less' if metric.value > 0 else 'more'} for 1,000 predictions than version {self.before} would have "
            f"been (95% {low:+,.0f} to {high:+,.0f}), of {metric.rows:,} since {self.since:%Y-%m-%d}"
        )


def beside(found: Followed, acted: NDArray[np.bool_], version: str, before: str, costs: Costs) -> Release | None:
    """Hold a version against the one before it.

    Args:
        found: Predictions of the version, since it took over, n of them.
        acted: Whom the one before would have acted upon, shape (n,).
        version: The version.
        before: The one before.
        costs: What decisions are worth.

    Returns:
        None where too little is known.
    """
    worth = worth_of_version_before(found, acted, costs)
    if worth is None:
        return None
    treated = acted_upon(found.rows)
    chance = same_rate(found.of(treated).ratio, found.of(~treated).ratio, "less")
    since = pd.Timestamp(found.rows["day"].min()).tz_localize(UTC).to_pydatetime()
    return Release(version, before, since, worth, chance < SIGNIFICANCE)
