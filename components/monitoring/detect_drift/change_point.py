"""Change point: the row from which on the mean of a measure is another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The 1% point of Kolmogorov's distribution, which the largest sum of an unchanged series exceeds so seldom.
LARGEST_USUAL_SUM = 1.63


def change_point(series: NDArray[Any]) -> int | None:
    """The first row after the change, by the largest cumulative sum of what is above the mean (Page 1954).

    Args:
        series: In the order of time, shape (n,); NaN where a row has no value.

    Returns:
        Its position; None where nothing changes within the series.
    """
    known = np.flatnonzero(~np.isnan(series.astype(np.float64)))
    values = series[known].astype(np.float64)
    if len(values) < 2:
        return None
    sums = np.abs(np.cumsum(values - values.mean()))[:-1]
    last = int(sums.argmax())
    parts = values[: last + 1], values[last + 1 :]
    within = np.sqrt(sum(((part - part.mean()) ** 2).sum() for part in parts) / len(values))
    if sums[last] <= LARGEST_USUAL_SUM * within * np.sqrt(len(values)):
        return None
    return int(known[last + 1])
