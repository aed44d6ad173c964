"""The drift rule: rarely wrong where nothing moved, right where something did; its formulas against other ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import fisher_exact

from kfp_lifecycle.artifacts.drift import Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.rule import compare, decide, drifted_inputs
from kfp_lifecycle.components.monitoring.detect_drift.statistics import (
    count_categories,
    count_numbers,
    holm,
    homogeneity,
    jensen_shannon,
)
from kfp_lifecycle.config.monitoring import Monitoring

INPUTS = [Feature("amount", "numeric"), Feature("visits", "numeric"), Feature("colour", "categorical")]
RULE = Monitoring()


def sample(rows: int, seed: int = 0, **changes: object) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns = {
        "amount": random.lognormal(3, 1.5, rows),
        "visits": random.poisson(1, rows).astype(float),
        "colour": random.choice(["red", "green", "größer ✓"], rows),
        "score": random.beta(2, 8, rows),
    }
    return pd.DataFrame({**columns, **changes})


def drifted(current: pd.DataFrame, reference: pd.DataFrame | None = None) -> list[tuple[str, str]]:
    findings = compare(sample(3000) if reference is None else reference, current, INPUTS, RULE)
    return [(finding.column, finding.aspect) for finding in findings if finding.drifted]


def test_without_drift_the_rule_is_silent_in_100_windows() -> None:
    reference = sample(3000)
    alarms = [bool(drifted(sample(rows, seed), reference)) for rows in (100, 500) for seed in range(1, 51)]
    # At most 1 in 100 is allowed by the significance; the distance has to agree too.
    assert sum(alarms) <= 3


def test_a_shift_that_matters_is_found_in_a_small_window() -> None:
    current = sample(500, 1)
    assert drifted(current.assign(amount=current.amount * 3)) == [("amount", "values")]
    assert drifted(current.assign(score=current.score + 0.1)) == [("score", "values")]
    assert drifted(current.assign(colour="red")) == [("colour", "values")]


def test_a_significant_but_tiny_shift_of_a_large_window_is_no_drift() -> None:
    current = sample(200_000, 1)
    current = current.assign(score=current.score + 0.003)
    [score] = [f for f in compare(sample(200_000), current, INPUTS, RULE) if f.column == "score"]
    assert score.corrected_p_value < RULE.significance
    assert not score.drifted


def test_a_feature_that_goes_missing_has_drifted_even_where_no_value_is_left() -> None:
    assert drifted(sample(300, 1, amount=np.nan)) == [("amount", "missing")]
    assert drifted(sample(300, 1, colour="")) == [("colour", "values")]
    assert drifted(sample(300, 1, colour=None)) == [("colour", "values")]


def test_missing_values_as_many_as_before_are_no_drift() -> None:
    reference, current = sample(3000), sample(400, 1)
    reference.loc[::5, "amount"] = np.nan
    current.loc[::5, "amount"] = np.nan
    assert drifted(current, reference) == []


def test_one_value_for_all_is_told_from_another_one() -> None:
    reference, current = sample(3000, visits=5.0), sample(300, 1, visits=4.0)
    assert drifted(current, reference) == [("visits", "values")]
    assert drifted(sample(300, 1, visits=5.0), reference) == []


def test_a_distance_does_not_lose_a_shift_to_a_long_tail() -> None:
    reference = np.random.default_rng(0).lognormal(0, 1, 5000)
    reference[0] = 1e9
    assert jensen_shannon(*count_numbers(reference, reference * 2)) > 0.2


@pytest.mark.parametrize(
    ("share", "score", "rows", "expected"),
    [
        (0.0, False, 500, "keep"),
        (0.5, False, 500, "retrain"),
        (0.0, True, 500, "retrain"),
        (1.0, True, 99, "undecided"),
    ],
)
def test_the_decision_follows_the_share_of_features_and_the_score(
    share: float, score: bool, rows: int, expected: str
) -> None:
    def finding(column: str, drifted: bool) -> Finding:
        return Finding(
            column=column,
            aspect="values",
            test="",
            p_value=0.0,
            corrected_p_value=0.0,
            distance=0.5,
            drifted=drifted,
            sentence="",
        )

    findings = [finding("score", score), *(finding(f"f{i}", i < 10 * share) for i in range(10))]
    decision, sentence = decide(findings, 10, rows, RULE)
    assert decision == expected
    assert len(drifted_inputs(findings)) == 10 * share
    assert sentence


def test_nothing_to_compare_decides_nothing_and_says_so() -> None:
    assert decide([], 3, 0, RULE) == (
        "undecided",
        "0 predictions are too few to decide anything: monitoring.min_window is 100.",
    )


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    assert sorted(corrected) == [corrected[i] for i in np.argsort(p_values, kind="stable")]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_the_distance_is_scipys(counts: list[tuple[int, int]]) -> None:
    p, q = np.array(counts).T
    p[0], q[-1] = p[0] + 1, q[-1] + 1
    assert jensen_shannon(p, q) == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2)), abs=1e-6)


def test_a_rare_category_is_judged_by_shuffling_rows_and_agrees_with_fishers_exact_test() -> None:
    one_new, five_new = (
        homogeneity(np.array([2000, 0]), np.array([99, 1])),
        homogeneity(np.array([2000, 0]), np.array([95, 5])),
    )
    assert one_new == pytest.approx(fisher_exact([[2000, 0], [99, 1]]).pvalue, rel=0.1)
    assert five_new < 1e-4


def test_many_categories_are_counted_together_beyond_the_frequent_ones() -> None:
    random = np.random.default_rng(0)
    names, before, after = count_categories(
        pd.Series(random.integers(0, 500, 5000).astype(str)), pd.Series(random.integers(0, 500, 300).astype(str))
    )
    assert names[-1] == "(others)"
    assert len(names) == 21
    assert (before.sum(), after.sum()) == (5000, 300)
