"""Standard errors by influence functions, and max-T correction, without resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric

Floats = NDArray[np.float64]

# Of the normal distribution: 95% are within this many standard errors.
NORMAL_95 = 1.959963984540054
DRAWS = 5_000


def standard_error(contributions: Floats) -> Floats:
    """Standard errors of estimates: the root of the sum of squares over independent entities.

    The variance of the influence function (Hampel 1974, "The influence curve and its role in robust estimation"), by
    entity instead of by row where rows repeat one, as Liang and Zeger (1986) do it.

    Args:
        contributions: Of each entity to each estimate, shape (entities,) or (entities, k); each sums to about 0.

    Returns:
        Shape () or (k,).
    """
    error: Floats = np.sqrt((contributions**2).sum(axis=0))
    return error


def normal_interval(value: float, contributions: Floats, rows: int) -> Metric:
    """An estimate with the interval of the normal distribution: value and 1.96 standard errors to both sides."""
    reach = NORMAL_95 * float(standard_error(contributions))
    return Metric(value, value - reach, value + reach, rows)


@dataclass(frozen=True)
class Simultaneous:
    """Several estimates judged at once.

    Attributes:
        critical: Standard errors within which all of them are at once in 95% of samples, where there is no effect.
        p_values: For each the chance that, without any effect, the largest of all would be as large, shape (k,).
    """

    critical: float
    p_values: Floats


def simultaneous(deviations: Floats, covariance: Floats, seed: int, contrasts: Floats | None = None) -> Simultaneous:
    """Correct for how many estimates are looked at, by the distribution of their largest (max-T).

    Westfall and Young 1993, "Resampling-based multiple testing", by draws from the normal distribution with the
    estimates' own covariance (Hothorn, Bretz and Westfall 2008, "Simultaneous inference in general parametric
    models"), so that estimates that say nearly the same are not punished as if they were many.

    Args:
        deviations: Each estimate's distance from what no effect would give, in standard errors, shape (k,).
        covariance: Of the estimates, or of what they are made of, shape (m, m).
        seed: Chooses the draws.
        contrasts: How the estimates are made of it, shape (k, m); without it they are the same.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    if contrasts is not None:
        root = contrasts @ root
    scale = np.sqrt((root**2).sum(axis=1, keepdims=True))
    root = root / np.where(scale > 0, scale, 1.0)
    drawn = np.random.default_rng(seed).standard_normal((DRAWS, root.shape[1])) @ root.T
    largest = np.sort(np.abs(drawn).max(axis=1))
    above = DRAWS - np.searchsorted(largest, np.abs(deviations), side="left")
    # One more than counted: the sample itself is one of the draws, and no chance is nil.
    return Simultaneous(float(np.quantile(largest, 0.95)), (above + 1) / (DRAWS + 1))
