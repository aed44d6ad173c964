"""Distances of columns, computed by Evidently: how far a window's distribution is from the baseline's."""

from __future__ import annotations

import os

import pandas as pd

from kfp_lifecycle.components.monitoring.detect_drift.measures import named

METHODS = {"numeric": "wasserstein", "categorical": "jensenshannon"}


def evidently_distance(before: pd.Series, after: pd.Series, kind: str) -> float | None:
    """Evidently's distance of two columns, by its own choice for samples of thousands; None where either has no values.

    Wasserstein's distance over the standard deviation for numbers, Jensen-Shannon's, 0 to 1, for categories.
    """
    # Read by Evidently when it is imported: nothing is to leave this machine.
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently.legacy.calculations.stattests.registry import get_stattest

    if kind == "numeric":
        before, after = (column.dropna().astype("float64") for column in (before, after))
    else:
        before, after = named(before), named(after)
    if before.empty or after.empty:
        return None
    evidently_kind = "num" if kind == "numeric" else "cat"
    test = get_stattest(before, after, evidently_kind, METHODS[kind])
    return float(test(before, after, evidently_kind, 0.1).drift_score)
