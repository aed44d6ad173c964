"""Sequential tests that may be looked at at any time: evidence of a regression grows, or it does not.

An e-process is a bet against "the candidate is no worse": a quantity that starts at 1 and, while that is true, exceeds
`1 / alpha` at any moment with a probability of at most `alpha` (Ville's inequality), however often it is looked at and
whenever sampling stops.

Sources: A. Wald, "Sequential Tests of Statistical Hypotheses", Ann. Math. Statist. 16 (1945); H. Robbins, "Statistical
methods related to the law of the iterated logarithm", Ann. Math. Statist. 41 (1970), for mixtures; M. Lindon and
A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, for errors of two arms of a release;
I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", Ann. Statist. 52 (2024), for means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

# How many times likelier an event may be with a worse candidate: a bet on each, in equal parts.
ODDS = (1.5, 2.0, 4.0, 10.0, 100.0)


@dataclass
class EventTest:
    """Mixture SPRT of "of all events of one kind, the candidate has no more than its share".

    Events are errors, or answers slower than a bound. Given that one happened, it is the candidate's with a
    probability of the candidate's share of the requests, where it is no worse; a bet on odds multiplied by `r` gains
    `r / (1 + (r - 1) share)` if it is the candidate's and loses to `1 / (1 + (r - 1) share)` if not. The share may
    change from moment to moment. No rate has to be known.
    """

    wealth: list[float] = field(default_factory=lambda: [0.0] * len(ODDS))
    """Logarithm of each bet's."""
    candidates: int = 0
    """Events of the candidate."""
    champions: int = 0

    def add(self, candidate: int, champion: int, share: float) -> None:
        """Events since the last look.

        Args:
            candidate: Of the candidate.
            champion: Of the champion.
            share: Of the candidate in all requests of the time, 0 to 1.
        """
        if not 0 < share < 1:
            return
        self.candidates += candidate
        self.champions += champion
        for place, ratio in enumerate(ODDS):
            at_stake = math.log1p((ratio - 1) * share)
            self.wealth[place] += candidate * math.log(ratio) - (candidate + champion) * at_stake

    @property
    def evidence(self) -> float:
        """The e-process: 1 says nothing, more speaks against the candidate, less for it."""
        return sum(math.exp(min(wealth, 700.0)) for wealth in self.wealth) / len(ODDS)


@dataclass
class MeanTest:
    """Confidence sequence of the mean of differences, by Robbins' normal mixture with the variance as estimated.

    It holds for all times at once, and asymptotically: not before some dozens of differences.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations (Welford)."""

    def add(self, differences: Iterable[float]) -> None:
        """More differences, candidate less champion."""
        for difference in differences:
            self.count += 1
            step = difference - self.mean
            self.mean += step / self.count
            self.squares += step * (difference - self.mean)

    def radius(self, alpha: float, tightest_at: int = 200) -> float:
        """Half the width of the interval around the mean; infinite below two differences.

        Args:
            alpha: Probability that the interval ever misses the mean.
            tightest_at: Number of differences at which it is about as narrow as it can be.
        """
        if self.count < 2:
            return math.inf
        variance = self.squares / (self.count - 1)
        # Eq. 9 of Waudby-Smith et al.: rho that is best at one time.
        level = -2 * math.log(alpha)
        rho = (level + math.log(level + 1)) / tightest_at
        scaled = self.count * rho
        return math.sqrt(variance * (1 + 1 / scaled) * (math.log1p(scaled) - 2 * math.log(alpha)) / self.count)

    def exceeds(self, limit: float, alpha: float) -> bool:
        """Whether the mean is surely farther from zero than a limit."""
        return abs(self.mean) - self.radius(alpha) > limit
