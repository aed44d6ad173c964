"""Drift rule: a column has drifted when it differs by more than chance, and by enough to matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.drift import Aspect, Decision, Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.statistics import (
    count_categories,
    count_numbers,
    holm,
    homogeneity,
    jensen_shannon,
    kolmogorov_smirnov,
)
from kfp_lifecycle.config.monitoring import Monitoring

SCORE = "score"
MISSING = "(missing)"


@dataclass(frozen=True)
class _Comparison:
    column: str
    aspect: Aspect
    test: str
    p_value: float
    distance: float
    sentence: str


def compare(
    reference: pd.DataFrame, current: pd.DataFrame, inputs: Sequence[Feature], rule: Monitoring
) -> list[Finding]:
    """Compare every input and the score of two samples.

    The p-values take rows for independent. A numeric column is compared by its values where both samples have any, and
    by the share that is missing where anything is; of a categorical one, missing is a category.

    Args:
        reference: What the model was trained on: a column for each input, and `score`. NaN or None is missing, in a
            categorical column the empty text too.
        current: What it predicted for, the same columns; not empty.
        inputs: The model's inputs.
        rule: `significance` and `min_effect`.

    Returns:
        The score's finding first, then those of the inputs in their order.
    """
    comparisons: list[_Comparison] = []
    for column in [Feature(SCORE, "numeric"), *inputs]:
        before, after = reference[column.name], current[column.name]
        if column.type == "categorical":
            comparisons.append(_compare_categories(column.name, "values", named(before), named(after)))
            continue
        known = before.dropna().to_numpy(np.float64), after.dropna().to_numpy(np.float64)
        if len(known[0]) and len(known[1]):
            comparisons.append(_compare_numbers(column.name, *known))
        if before.isna().any() or after.isna().any():
            comparisons.append(_compare_categories(column.name, "missing", presence(before), presence(after)))
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        Finding(
            **vars(comparison),
            corrected_p_value=p_value,
            drifted=p_value < rule.significance and comparison.distance > rule.min_effect,
        )
        for comparison, p_value in zip(comparisons, corrected, strict=True)
    ]


def decide(findings: Sequence[Finding], inputs: int, predictions: int, rule: Monitoring) -> tuple[Decision, str]:
    """What follows from the findings, and why, in a sentence.

    Args:
        findings: Of all columns; empty where too few predictions were there to compare.
        inputs: How many inputs the model has.
        predictions: How many were compared.
        rule: `min_window` and `max_drifted_share`.
    """
    if predictions < rule.min_window:
        return "undecided", (
            f"{predictions:,} predictions are too few to decide anything: monitoring.min_window is {rule.min_window:,}."
        )
    drifted = drifted_inputs(findings)
    share = len(drifted) / inputs
    moved = f"{len(drifted)} of {inputs} features drifted ({share:.0%})"
    if any(finding.column == SCORE and finding.drifted for finding in findings):
        return "retrain", f"The score drifted, and {moved}."
    if share > rule.max_drifted_share:
        return "retrain", f"{moved}, more than the {rule.max_drifted_share:.0%} of monitoring.max_drifted_share."
    return "keep", f"{moved}; the score did not drift, and {rule.max_drifted_share:.0%} may."


def drifted_inputs(findings: Sequence[Finding]) -> list[str]:
    """Names of the inputs that drifted, each once."""
    return list(dict.fromkeys(item.column for item in findings if item.drifted and item.column != SCORE))


def named(column: pd.Series) -> pd.Series:
    """A categorical column whose missing values are a category."""
    return column.astype(object).where(column.notna() & (column != ""), MISSING).astype(str)


def presence(column: pd.Series) -> pd.Series:
    """Whether each value is there, as a categorical column."""
    return column.isna().map({True: MISSING, False: "(known)"})


def _compare_numbers(column: str, before: np.ndarray, after: np.ndarray) -> _Comparison:
    return _Comparison(
        column,
        "values",
        "Kolmogorov-Smirnov",
        kolmogorov_smirnov(before, after),
        jensen_shannon(*count_numbers(before, after)),
        f"median {np.median(before):,.4g} → {np.median(after):,.4g}",
    )


def _compare_categories(column: str, aspect: Aspect, before: pd.Series, after: pd.Series) -> _Comparison:
    categories, *counts = count_categories(before, after)
    shares = [count / count.sum() for count in counts]
    # For what is missing, that share is the point; else the category that moved most is.
    most = categories.index(MISSING) if aspect == "missing" else int(np.argmax(np.abs(shares[1] - shares[0])))
    return _Comparison(
        column,
        aspect,
        "chi-square",
        homogeneity(counts[0], counts[1]),
        jensen_shannon(counts[0], counts[1]),
        f"{categories[most]} {shares[0][most]:.1%} → {shares[1][most]:.1%}",
    )
