"""Evidence of a window: all that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.outcomes import Outcomes, VersionOutcomes
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.decide_remedy.adjusting import adjustment
from kfp_lifecycle.components.monitoring.decide_remedy.followed import Followed, followed
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Week, weeks_at_risk
from kfp_lifecycle.components.monitoring.decide_remedy.worth import Worth
from kfp_lifecycle.config.training import Costs


@dataclass(frozen=True)
class Evidence:
    """What a window is judged by."""

    drift: Drift
    outcomes: Outcomes
    table: pd.DataFrame
    """Of the outcomes."""
    skew: ServingSkew
    label: str
    """Name of what is foretold."""
    costs: Costs
    ratio: float
    """`monitoring.outcome_ratio`: as far as outcomes are off, before it matters."""
    run_length: float
    """`monitoring.ranking_run_length`: weeks between two false alarms about the ranking, at least."""
    seed: int
    by_costs: bool = True
    """Whether the project's decisions are made by its costs (`training.threshold`)."""
    features: Callable[[pd.Series], pd.DataFrame | None] = lambda places: None
    """Reads what was logged of rows of the table, by their places: of all, or of a sample where they are many; None
    where features are not logged."""
    adjusted: Callable[[], bool] = lambda: False
    """Whether the version is one whose level or threshold monitoring has set."""
    decisions: Callable[[str], NDArray[np.bool_] | None] = lambda version: None
    """Whom a version would have acted upon, of each row of the table that the judged version answered; None where it
    cannot be told."""

    @property
    def own(self) -> VersionOutcomes | None:
        """What became of those whom the version predicted that the window is judged by."""
        return next((found for found in self.outcomes.versions if found.version == self.drift.version), None)

    @property
    def before(self) -> VersionOutcomes | None:
        """That of the version before it: of the older ones, the one that answered last before it first did."""
        version, made = self.table["version"], self.table["time"]
        earlier = made < made[version == self.drift.version].min()
        older = [found for found in self.outcomes.versions if _number(found.version) < _number(self.drift.version)]

        def answered_last(found: VersionOutcomes) -> tuple[bool, pd.Timestamp, tuple[int, str]]:
            last = made[earlier & (version == found.version)].max()
            return pd.notna(last), last if pd.notna(last) else made.min(), _number(found.version)

        return max(older, key=answered_last, default=None)

    def followed(self, version: str, since: datetime) -> Followed:
        """What was observed and expected of a version's predictions since a moment."""
        chosen = (self.table["version"] == version).to_numpy()
        rows = self.table[chosen].assign(place=chosen.nonzero()[0])
        return followed(rows, self.outcomes, since)

    def adjustment(self, worth: Worth | None) -> Adjustment | None:
        """A remedy of the judged version as it was measured, as `adjusting.adjustment` says."""
        return adjustment(worth, self.drift.version, self.outcomes, self.by_costs)

    def weeks(self, version: str) -> list[Week]:
        """Who was at risk in each week, of a version's predictions that nobody acted upon."""
        return weeks_at_risk(self.table, self.outcomes, version)


def _number(version: str) -> tuple[int, str]:
    return len(version), version
