"""The drift rule: rarely wrong where nothing moved, right where something did, and data that is broken told apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import fisher_exact, t

from kfp_lifecycle.artifacts.drift import Finding
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.change_point import change_point
from kfp_lifecycle.components.monitoring.detect_drift.detection import independent, read_predictions
from kfp_lifecycle.components.monitoring.detect_drift.distances import evidently_distance
from kfp_lifecycle.components.monitoring.detect_drift.rule import DATE, TIME, Baseline
from kfp_lifecycle.components.monitoring.detect_drift.statistics import holm, homogeneity
from kfp_lifecycle.components.monitoring.detect_drift.trend import LEVELS, trend_of
from kfp_lifecycle.components.monitoring.detect_drift.usual import (
    Mean,
    Variation,
    difference,
    inverse_trigamma,
    moderated,
    variation_of,
)
from kfp_lifecycle.components.monitoring.detect_drift.verdict import Judgement, decide
from kfp_lifecycle.config.monitoring import Monitoring

INPUTS = [
    Feature("amount", "numeric"),
    Feature("visits", "numeric"),
    Feature("refunds", "numeric"),
    Feature("colour", "categorical"),
    Feature("device", "categorical"),
]
RULE = Monitoring()
PLAIN = Monitoring(drift_rule="ks_p_value")


def window(rows: int, seed: int, wobble: float = 0.0, **changes: object) -> pd.DataFrame:
    """A window of a business that does not move, but for a wobble of each number, in standard deviations."""
    random = np.random.default_rng(seed)
    shift = wobble * random.standard_normal(3)
    columns = {
        "amount": np.exp(3 + 1.5 * random.normal(shift[0], 1, rows)),
        "visits": 20 + 5 * random.normal(shift[1], 1, rows),
        # Mostly zero.
        "refunds": np.where(random.random(rows) < 0.9, 0.0, random.lognormal(2, 1, rows)),
        "colour": random.choice(["red", "green", "größer ✓", "rare"], rows, p=[0.5, 0.3, 0.195, 0.005]),
        "device": [f"{number}" for number in random.integers(0, 10**9, rows)],
        "score": 1 / (1 + np.exp(2 - random.normal(shift[2], 1, rows))),
    }
    return pd.DataFrame({**columns, **changes})


def dates(wobble: float = 0.0, count: int = 8, seed: int = 1000) -> Baseline:
    frames = [window(2000, seed + date, wobble).assign(**{DATE: date}) for date in range(count)]
    return Baseline(pd.concat(frames), INPUTS)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return dates()


def drifted(current: pd.DataFrame, baseline: Baseline, rule: Monitoring = RULE) -> list[tuple[str, str]]:
    return [(found.column, found.aspect) for found in baseline.compare(current, rule) if found.drifted]


def judged(current: pd.DataFrame, baseline: Baseline) -> Judgement:
    return decide(baseline.compare(current, RULE), len(INPUTS), len(current), RULE)


@pytest.mark.parametrize("wobble", [0.0, 0.2, 0.3])
def test_a_year_of_unchanged_weeks_has_one_false_alarm_at_the_most(wobble: float) -> None:
    alarms = Counter[str]()
    for trained in range(4):
        champion = dates(wobble, seed=1000 * (trained + 1))
        for week in range(13):
            alarms[judged(window(1000, 100 * trained + week, wobble), champion).verdict] += 1
    assert alarms["keep"] >= 51
    assert sum(alarms.values()) == 52


def test_the_plain_test_alarms_in_most_of_the_same_weeks(baseline: Baseline) -> None:
    weeks = [window(1000, week, wobble=0.2) for week in range(10)]
    assert sum(bool(drifted(week, baseline, PLAIN)) for week in weeks) >= 8


def test_a_shift_that_matters_is_found_in_a_small_window(baseline: Baseline) -> None:
    current = window(500, 1)
    assert drifted(current.assign(amount=current.amount * 3), baseline) == [("amount", "values")]
    assert drifted(current.assign(score=current.score + 0.1), baseline) == [("score", "values")]
    assert drifted(current.assign(colour=current.colour.replace("green", "red")), baseline) == [("colour", "values")]


def test_a_tiny_shift_of_a_large_window_is_no_drift(baseline: Baseline) -> None:
    current = window(100_000, 1)
    [visits] = [
        found
        for found in baseline.compare(current.assign(visits=current.visits + 0.1), RULE)
        if found.column == "visits"
    ]
    assert not visits.drifted
    assert visits.effect == pytest.approx(0.02, abs=0.05)


def test_what_moves_between_training_dates_may_move_as_far_in_production() -> None:
    seen = [Mean(value, 10_000, 1.0) for value in (0.0, 0.4, -0.3, 0.2, -0.4, 0.3, 0.1, -0.2)]
    still = [Mean(0.0, 10_000, 1.0)] * 8
    now = Mean(0.4, 10_000, 1.0)
    assert difference(seen, now).p_value > 0.2
    assert difference(still, now).p_value < 1e-9


def columns_of_dates(sizes: np.ndarray, seed: int, count: int = 8) -> list[list[Mean]]:
    """Columns whose dates wobble by so many standard deviations each; the last of each is a window of no other kind."""
    random = np.random.default_rng(seed)
    return [[Mean(size * value, 2_000, 1.0) for value in random.standard_normal(count + 1)] for size in sizes]


def p_values(columns: list[list[Mean]], shift: float = 0.0) -> np.ndarray:
    """Of each column's last date, moved by so many standard deviations, moderated by all columns."""
    known = moderated([variation_of(column[:-1]) for column in columns])
    return np.array(
        [
            difference(column[:-1], Mean(column[-1].value + shift, 2_000, 1.0), variation=usual).p_value
            for column, usual in zip(columns, known, strict=True)
        ]
    )


def test_where_columns_wobble_alike_a_shift_is_seen_that_eight_dates_of_one_column_do_not_show() -> None:
    limit = RULE.significance / 30
    alone, together = [], []
    for seed in range(20):
        columns = columns_of_dates(np.full(20, 0.2), seed)
        together.append((p_values(columns, shift=1.0) < limit).mean())
        alone.append(np.mean([
            difference(column[:-1], Mean(column[-1].value + 1.0, 2_000, 1.0)).p_value < limit for column in columns
        ]))  # fmt: skip
    assert np.mean(together) > 0.3
    assert np.mean(alone) < 0.15


@pytest.mark.parametrize("uneven", [0.0, 0.5, 1.0])
def test_p_values_are_true_however_much_columns_wobble_alike(uneven: float) -> None:
    sizes = 0.2 * np.exp(uneven * np.linspace(-1.5, 1.5, 20))
    found = np.concatenate([p_values(columns_of_dates(sizes, seed)) for seed in range(200)])
    assert (found < 0.01).mean() < 0.015
    # Neither are the restless ones taken for quiet.
    restless = np.concatenate([p_values(columns_of_dates(sizes, seed))[-5:] for seed in range(200)])
    assert (restless < 0.001).mean() < 0.006


def test_few_columns_and_those_that_never_vary_are_judged_by_themselves() -> None:
    still, restless = Variation(0.0, 7), Variation(0.04, 7)
    assert moderated([still, restless, None]) == [still, restless, None]
    found = moderated([still, *[restless] * 9])
    assert found[0] == still
    assert found[1] == Variation(pytest.approx(0.04, rel=0.2), math.inf)


@given(st.floats(0.01, 100))
def test_the_trigamma_function_is_inverted(value: float) -> None:
    assert float(polygamma(1, inverse_trigamma(value))) == pytest.approx(value, rel=1e-6)


def test_where_dates_tell_all_the_p_value_is_students() -> None:
    values = [0.0, 0.4, -0.3, 0.2, -0.4, 0.3]
    found = difference([Mean(value, 10**12, 1.0) for value in values], Mean(1.0, 10**12, 1.0))
    assert found.p_value == pytest.approx(2 * t.sf(1 / np.sqrt(2 * np.var(values, ddof=1)), 5), rel=1e-3)


Breaks = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.mark.parametrize("rows", [150, 5000])
@pytest.mark.parametrize(
    ("breaks", "column", "fault"),
    [
        (lambda frame: frame.assign(amount=np.nan), "amount", "missing"),
        (lambda frame: frame.assign(colour=None), "colour", "missing"),
        (lambda frame: frame.assign(visits=frame.visits.where(frame.index % 3 > 0)), "visits", "missing"),
        (lambda frame: frame.assign(amount=frame.amount * 100), "amount", "unit"),
        (lambda frame: frame.assign(refunds=frame.refunds * 100), "refunds", "unit"),
        (lambda frame: frame.assign(visits=frame.visits / 60), "visits", "unit"),
        (lambda frame: frame.assign(amount=frame.visits, visits=frame.amount), "visits", "swapped"),
        (lambda frame: frame.assign(visits=20.0), "visits", "constant"),
        (lambda frame: frame.assign(colour="v2:" + frame.colour), "colour", "new categories"),
    ],
    ids=["all missing", "all missing, text", "a third missing", "x100", "x100, mostly zero", "minutes as hours",
         "swapped", "stuck", "new names"],
)  # fmt: skip
def test_a_broken_feature_is_found_in_its_first_window_and_is_no_reason_to_retrain(
    baseline: Baseline, breaks: Breaks, column: str, fault: str, rows: int
) -> None:
    broken = breaks(window(rows, 7))
    found = baseline.compare(broken, RULE)
    assert (column, fault) in [(item.column, item.fault) for item in found]
    verdict = judged(broken, baseline)
    assert (verdict.verdict, verdict.decision) == ("broken data", "repair")
    assert column in verdict.sentence


def test_new_identifiers_rare_categories_and_constants_are_usual(baseline: Baseline) -> None:
    assert drifted(window(5000, 1), baseline) == []
    flat = pd.concat([window(2000, date, visits=5.0, amount=np.nan).assign(**{DATE: date}) for date in range(5)])
    assert drifted(window(500, 9, visits=5.0, amount=np.nan), Baseline(flat, INPUTS)) == []
    assert drifted(window(500, 9, visits=4.0, amount=np.nan), Baseline(flat, INPUTS)) == [("visits", "values")]


def test_a_number_is_the_same_in_a_baseline_of_32_bits_and_in_a_log_of_64() -> None:
    def discounts(rows: int, seed: int, rate: float) -> np.ndarray:
        return np.where(np.random.default_rng(seed).random(rows) < 0.1, rate, 0.0)

    learned = [
        window(2000, date, refunds=discounts(2000, date, 0.2).astype(np.float32), **{DATE: date}) for date in range(5)
    ]
    champion = Baseline(pd.concat(learned), INPUTS)
    assert drifted(window(500, 9, refunds=discounts(500, 9, 0.2)), champion) == []
    # Of those that are not zero each was like the others, and is another now: a distance that can be written down.
    lower = champion.compare(window(500, 9, refunds=discounts(500, 9, 0.1)), RULE)
    assert [found.column for found in lower if found.drifted] == ["refunds"]
    assert all(math.isfinite(found.effect) for found in lower)


def test_missing_values_as_many_as_before_are_no_drift() -> None:
    def holed(rows: int, seed: int) -> pd.DataFrame:
        frame = window(rows, seed)
        return frame.assign(amount=frame.amount.where(frame.index % 5 > 0))

    champion = Baseline(pd.concat([holed(2000, date).assign(**{DATE: date}) for date in range(5)]), INPUTS)
    assert drifted(holed(400, 9), champion) == []


def test_a_baseline_of_one_date_asks_for_more_before_it_alarms() -> None:
    champion = Baseline(window(5000, 0), INPUTS)
    current = window(5000, 1)
    assert drifted(current.assign(visits=current.visits + 1.5), champion) == []
    assert drifted(current.assign(visits=current.visits + 5), champion) == [("visits", "values")]


@pytest.mark.parametrize(
    ("share", "score", "fault", "rows", "expected"),
    [
        (0.0, False, "", 500, ("keep", "keep")),
        (0.2, False, "", 500, ("world moved", "recalibrate")),
        (0.5, False, "", 500, ("world moved", "retrain")),
        (0.0, True, "", 500, ("world moved", "retrain")),
        (0.5, True, "unit", 500, ("broken data", "repair")),
        (1.0, True, "unit", 99, ("undecided", "undecided")),
    ],
)
def test_the_verdict_and_its_remedy(
    share: float, score: bool, fault: str, rows: int, expected: tuple[str, str]
) -> None:
    def finding(column: str, drifted: bool) -> Finding:
        return Finding(
            column=column,
            aspect="values",
            measure="level",
            test="",
            p_value=0.0,
            corrected_p_value=0.0,
            effect=0.5,
            distance=0.5,
            drifted=drifted,
            sentence="median 3 → 9",
            fault=fault if drifted and column != "score" else "",
        )

    findings = [finding("score", score), *(finding(f"f{i}", i < 10 * share) for i in range(10))]
    found = decide(findings, 10, rows, RULE)
    assert (found.verdict, found.decision) == expected
    assert ("f0" in found.sentence) == (share > 0 and rows >= 100)


# Evidently takes seven seconds to import.
@pytest.mark.slow
def test_evidentlys_distance_is_reported() -> None:
    before, after = window(3000, 1), window(3000, 2)
    near = evidently_distance(before.amount, after.amount, "numeric")
    far = evidently_distance(before.amount, after.amount * 3, "numeric")
    assert near is not None
    assert far is not None
    assert near < 0.1 < far
    assert evidently_distance(before.colour, after.colour, "categorical") == pytest.approx(0, abs=0.05)
    assert evidently_distance(before.amount, after.amount * np.nan, "numeric") is None


def test_a_change_point_is_where_the_mean_changes() -> None:
    random = np.random.default_rng(0)
    series = np.concatenate([random.normal(0, 1, 400), random.normal(2, 1, 200)])
    series[10] = np.nan
    assert change_point(series) == pytest.approx(400, abs=5)
    assert change_point(series[:400]) is None


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    assert sorted(corrected) == [corrected[i] for i in np.argsort(p_values, kind="stable")]


def test_a_rare_category_is_judged_by_shuffling_rows_and_agrees_with_fishers_exact_test() -> None:
    one_new, five_new = (
        homogeneity(np.array([2000, 0]), np.array([99, 1])),
        homogeneity(np.array([2000, 0]), np.array([95, 5])),
    )
    assert one_new == pytest.approx(fisher_exact([[2000, 0], [99, 1]]).pvalue, rel=0.1)
    assert five_new < 1e-4


FIRST = pd.Timestamp("2026-01-01", tz="UTC")


def customers(day: int, seed: int, rows: int = 1200, **changes: float) -> pd.DataFrame:
    """A young business, as of so many days after the first training date: two fifths of its customers came in its first
    forty days, and the others by and by; some leave, and how much they pay changes nothing."""
    random = np.random.default_rng([seed, day])
    age = 320 + day
    founders = random.random(rows) < 0.4
    tenure = np.where(founders, age - 40 * random.random(rows), age * random.random(rows) ** 1.3)
    frame = pd.DataFrame({"tenure": tenure + changes.get("later", 0.0), "pays": random.lognormal(3, 0.5, rows)})
    return frame.assign(
        score=1 / (1 + np.exp(2 + random.standard_normal(rows))), **{TIME: FIRST + pd.Timedelta(days=day)}
    )


def of_customers(tenure: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame) -> Baseline:
    """Eight training dates, fifteen days apart."""
    frames = [tenure(customers(15 * date, seed=0)).rename(columns={TIME: DATE}) for date in range(8)]
    return Baseline(pd.concat(frames), [Feature("tenure", "numeric"), Feature("pays", "numeric")])


def test_what_has_grown_steadily_goes_on_growing_and_is_no_drift() -> None:
    """For as long as the dates reach back; where nobody knows of time, the same weeks are another world."""
    known = of_customers()
    weeks = [customers(105 + 7 * week, seed=1) for week in range(1, 15)]
    assert not any(drifted(week, known) for week in weeks)
    assert abs(known.compare(weeks[-1], RULE)[1].effect) < 0.2
    assert known.compare(weeks[-1].drop(columns=TIME), RULE)[1].effect > 1


def test_what_moves_otherwise_than_it_did_is_drift() -> None:
    """Customers who have been there four months longer than they can: a unit, a join or a clock is wrong."""
    assert ("tenure", "values") in drifted(customers(119, seed=1, later=120.0), of_customers())


def test_neither_dates_that_wobble_nor_counts_have_a_trend() -> None:
    random, days = np.random.default_rng(0), [-15.0 * date for date in range(8)]
    found = [trend_of([random.normal(0.2 * random.standard_normal(), 1, 1000) for _ in days], days) for _ in range(40)]
    assert sum(trend is not None for trend in found) <= 1
    assert trend_of([np.floor(random.normal(3 + day / 50, 1, 1000)) for day in days], days) is None
    assert trend_of([random.normal(day, 1, 1000) for day in days[:4]], days[:4]) is None, "four dates show no line"


def test_a_window_is_moved_back_by_how_far_each_quantile_has_moved() -> None:
    days = [-10.0 * date for date in range(6)]
    spread = np.linspace(0, 1, 201)
    trend = trend_of([(100 + day) * spread for day in days], days)
    assert trend is not None
    np.testing.assert_allclose(trend.slopes, LEVELS, atol=1e-9)
    np.testing.assert_allclose(trend.back(107 * spread, 7.0), 100 * spread, atol=1e-9)
    # Not for longer than the dates reach back, and missing stays missing.
    np.testing.assert_allclose(trend.back(np.array([200.0, np.nan]), 100.0), [150.0, np.nan])


@pytest.mark.parametrize("name", ["entity", "time", "caller", "version"])
def test_a_feature_may_be_called_as_a_column_of_the_log_is(tmp_path: Path, name: str) -> None:
    """Six hundred customers, each with one of five values of it, are as many predictions, asked for in ten hours."""
    random, rows, inputs = np.random.default_rng(0), 600, [Feature(name, "numeric")]
    times = [FIRST.to_pydatetime() + timedelta(minutes=minute) for minute in range(rows)]
    values = random.integers(0, 5, rows).astype(float)
    table = {
        "version": ["1"] * rows, "time": times, "entity": [f"{number}" for number in range(rows)],
        "score": random.random(rows), "features": [{name: value} for value in values], "caller": ["a"] * rows,
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "predictions.parquet")
    found = independent(read_predictions(tmp_path / "predictions.parquet", inputs, "1"), seed=0)
    assert found[name].tolist() == values.tolist()
    assert found[TIME].tolist() == times


@pytest.mark.parametrize("value", [0.0, -1.0, 20.0])
def test_a_value_that_was_filled_in_is_broken_data(baseline: Baseline, value: float) -> None:
    """A loader that knows no amount of every third customer, and writes a number instead."""
    current = window(600, seed=1)
    current.loc[::3, "amount"] = value
    found = judged(current, baseline)
    assert found.verdict == "broken data"
    assert f"amount has one value, {value:g}, in 33.3% of the rows" in found.sentence


def test_more_of_a_value_that_many_always_had_is_the_worlds_doing(baseline: Baseline) -> None:
    current = window(600, seed=1)
    current["refunds"] = np.where(np.random.default_rng(0).random(600) < 0.5, 0.0, 20 * np.arange(600) ** 0.3)
    assert judged(current, baseline).verdict == "world moved"


def test_one_score_for_all_is_broken_data_and_no_reason_to_retrain(baseline: Baseline) -> None:
    """Features are what they were: then it is what serves the model that answers nothing."""
    found = judged(window(1000, 3, score=0.5), baseline)
    assert (found.verdict, found.decision) == ("broken data", "repair")
    assert found.sentence.startswith("Broken data: score has one value for all, 0.5")
    assert found.sentence.endswith("Repair what serves the model; learn nothing from this window.")
    # Scores that are others for a world that moved are no fault.
    assert judged(window(1000, 3, score=np.resize([0.5, 0.6], 1000)), baseline).decision == "retrain"


def test_columns_that_never_had_a_value_or_always_the_same_are_quiet_while_they_go_on_so() -> None:
    nothing = {"amount": np.nan, "visits": 5.0, "colour": None, "device": "phone"}
    frames = [window(500, 1000 + date, **nothing).assign(**{DATE: date}) for date in range(8)]
    known = Baseline(pd.concat(frames), INPUTS)
    assert judged(window(500, 9, **nothing), known).decision == "keep"
    for change in ({"amount": 3.0}, {"visits": 6.0}, {"colour": "red"}, {"device": ""}):
        assert judged(window(500, 9, **{**nothing, **change}), known).decision != "keep"
