"""Two-sample tests and distances: do two samples differ, by how much, and is that more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import chi2_contingency, ks_2samp

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]

# Categories beyond the most frequent ones are counted together: a long tail of rare ones says little, and noisily.
LARGEST_CATEGORIES = 20
OTHERS = "(others)"
QUANTILES = 10
# The chi-square approximation needs this many expected rows in every cell (Cochran 1954); else rows are shuffled.
SMALLEST_EXPECTED = 5.0
SHUFFLES = 100_000


def kolmogorov_smirnov(reference: Numbers, current: Numbers) -> float:
    """P-value of the two-sided Kolmogorov-Smirnov test; with ties it is too large rather than too small.

    Args:
        reference: One sample, shape (n,), no NaN, not empty.
        current: The other, shape (m,).
    """
    return float(ks_2samp(reference, current).pvalue)


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


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance: the root of the divergence in bits (Endres and Schindelin 2003).

    Args:
        reference: Rows in each category, shape (k,).
        current: The same of the other sample; both have rows.

    Returns:
        0 (the same shares) to 1 (nothing in common).
    """
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * np.log(2))
    return float(np.sqrt(max(0.0, divergence)))


def count_numbers(reference: Numbers, current: Numbers) -> tuple[Counts, Counts]:
    """Rows of two samples between, and at, the deciles of the first.

    Deciles, since bins of equal width put nearly all of a long-tailed sample into one. A value that many rows share is
    a bin of its own, so that it is not taken for its neighbours.

    Args:
        reference: One sample, shape (n,), no NaN, not empty.
        current: The other, shape (m,).
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    bins = 2 * len(edges) + 1

    def counts(values: Numbers) -> Counts:
        position = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
        return np.bincount(position, minlength=bins)

    return counts(reference), counts(current)


def count_categories(reference: pd.Series, current: pd.Series) -> tuple[list[Any], Counts, Counts]:
    """Rows of two samples in each category, the rare ones together.

    Args:
        reference: One sample, no missing value.
        current: The other.

    Returns:
        The categories, most frequent in both first, `(others)` last where there are more than 20; and their counts.
    """
    both = pd.DataFrame({"reference": reference.value_counts(), "current": current.value_counts()})
    both = both.fillna(0).astype(np.int64)
    # Each sample has the same say, however many rows it has.
    order = (both / both.sum()).sum(axis=1).sort_values(ascending=False, kind="stable").index
    both = both.loc[order]
    if len(both) > LARGEST_CATEGORIES:
        rare = both.iloc[LARGEST_CATEGORIES:].sum()
        both = pd.concat([both.iloc[:LARGEST_CATEGORIES], pd.DataFrame([rare], index=[OTHERS])])
    return list(both.index), both["reference"].to_numpy(), both["current"].to_numpy()
