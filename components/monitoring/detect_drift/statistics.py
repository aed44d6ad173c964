"""Two-sample tests: do two samples differ by more than chance, and among how many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]

KS_SIGNIFICANCE = 0.05
"""Of the plain test that `monitoring.drift_rule: ks_p_value` asks for."""
# The chi-square approximation needs this many expected rows in every cell (Cochran 1954); else rows are shuffled.
SMALLEST_EXPECTED = 5.0
SHUFFLES = 100_000


def kolmogorov_smirnov(reference: Numbers, current: Numbers) -> float:
    """P-value of the two-sided Kolmogorov-Smirnov test; with ties it is too large rather than too small.

    Args:
        reference: One sample, shape (n,), no NaN. Where either is empty, 1.
        current: The other, shape (m,).
    """
    # It takes a while to import, and is needed for `monitoring.drift_rule: ks_p_value` alone.
    from scipy.stats import ks_2samp

    return float(ks_2samp(reference, current).pvalue) if len(reference) and len(current) else 1.0


def homogeneity(reference: Counts, current: Counts, seed: int = 0) -> float:
    """P-value of the chi-square test that both samples come from one distribution over categories.

    Both samples count as random, unlike in a goodness-of-fit test, which takes the reference for exact and alarms too
    often. Where an expected count is below 5, the p-value comes from 100,000 random divisions of all rows into two
    samples of these sizes (a permutation test: Good 2005), and is 1e-5 at least.

    Args:
        reference: Rows in each category, shape (k,).
        current: The same of the other sample; both have rows.
        seed: Of the random divisions.
    """
    from scipy.stats import chi2_contingency

    table = np.array([reference, current])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    result = chi2_contingency(table, correction=False)
    if result.expected_freq.min() >= SMALLEST_EXPECTED:
        return float(result.pvalue)
    totals, expected = table.sum(axis=0), result.expected_freq
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        totals, int(table[1].sum()), size=SHUFFLES, method="marginals"
    )
    # A division is told by its second sample alone: the first is what is left of the totals.
    weights = 1 / expected[0] + 1 / expected[1]
    statistics = ((drawn - expected[1]) ** 2) @ weights
    return float((1 + (statistics >= result.statistic * (1 - 1e-9)).sum()) / (1 + SHUFFLES))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Holm 1979).

    Rejecting those below a level rejects a true hypothesis, any at all, with at most that probability, whatever the
    tests have to do with each other.

    Args:
        p_values: Each in [0, 1].

    Returns:
        As many, in the same order, each in [0, 1].
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected
