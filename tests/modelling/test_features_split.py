"""Parts of the split follow each other in time, and nothing is learned from a label before it is known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kfp_lifecycle.artifacts.training_set import LabelRate
from kfp_lifecycle.components.features.build_training_set.shares import by_entity
from kfp_lifecycle.components.features.build_training_set.split import (
    Split,
    changed_on,
    refuse_few_labels,
    remedy_of,
    snapshots_before,
    split_by_time,
    told_of_change,
)
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.lending_library import PIPELINE

AS_OF = datetime(2026, 6, 30, 23, 23, 49, 500_000, tzinfo=UTC)


def configured(
    every_days: int, count: int, horizon_days: int, validation: int, test: int, more: str = ""
) -> Configuration:
    return parse_configuration(
        PIPELINE,
        [
            f"snapshots={{every_days: {every_days}, count: {count}}}",
            f"label.horizon_days={horizon_days}",
            f"split={{validation_snapshots: {validation}, test_snapshots: {test}{more}}}",
        ],
    )


@given(
    every_days=st.integers(1, 60),
    count=st.integers(4, 40),
    horizon_days=st.integers(1, 120),
    validation=st.integers(1, 3),
    test=st.integers(1, 3),
)
def test_every_label_is_known_before_the_next_part_begins(
    every_days: int, count: int, horizon_days: int, validation: int, test: int
) -> None:
    assume(count > validation + test)
    configuration = configured(every_days, count, horizon_days, validation, test)
    horizon = timedelta(days=horizon_days)
    snapshots = snapshots_before(AS_OF, configuration)
    assert all(snapshot + horizon <= AS_OF for snapshot in snapshots)
    try:
        split = split_by_time(snapshots, configuration)
    except ContractViolation:
        # Only where there is truly no room: the test part, the validation part and the gaps before each take it all.
        steps = -(-horizon_days // every_days)
        assert count < test + validation + 1 + 2 * (steps - 1)
        return
    assert max(split.train) + horizon <= min(split.validation)
    assert max(split.validation) + horizon <= min(split.test)
    assert (len(split.validation), len(split.test)) == (validation, test)
    assert sorted((*split.used, *split.left_out)) == snapshots


def test_snapshots_that_touch_the_horizon_lose_nothing() -> None:
    split = split_by_time(snapshots_before(AS_OF, c := configured(30, 12, 30, 2, 2)), c)
    assert [len(part) for part in (split.train, split.validation, split.test, split.left_out)] == [8, 2, 2, 0]
    assert split.test[-1] == datetime(2026, 5, 31, 23, 23, 49, tzinfo=UTC)


def test_a_long_horizon_leaves_snapshots_out_and_names_them() -> None:
    split: Split = split_by_time(snapshots_before(AS_OF, c := configured(30, 12, 90, 2, 2)), c)
    assert [len(part) for part in (split.train, split.validation, split.test, split.left_out)] == [4, 2, 2, 4]


def test_a_history_too_short_for_the_gaps_is_refused_with_the_numbers() -> None:
    configuration = configured(30, 6, 90, 2, 2)
    with pytest.raises(ContractViolation, match=r"6 snapshots.*too few for 2 to test, 2 to validate and 1 to train"):
        split_by_time(snapshots_before(AS_OF, configuration), configuration)


MONTHLY = configured(30, 12, 30, 2, 2)
"""As the reference project: dates 30 days apart, labels known after 30."""


@pytest.mark.parametrize(
    ("days_after", "learned_from", "divided"),
    [(20, 0, False), (31, 1, True), (55, 1, True), (100, 3, True), (145, 4, True), (160, 1, False), (220, 3, False)],
)
def test_a_retrain_learns_from_dates_after_a_change_as_soon_as_labels_of_them_exist(
    days_after: int, learned_from: int, divided: bool
) -> None:
    since = (AS_OF - timedelta(days=days_after)).date()
    split = split_by_time(snapshots_before(AS_OF, MONTHLY), MONTHLY, since)
    assert sum(moment.date() >= since for moment in split.train) == learned_from
    assert (split.divided_since is not None) == divided
    if divided:
        # What is judged and calibrated is of the new world alone; what came before it is learned from, too.
        assert min(split.test + split.validation) == split.divided_since
        assert len(split.train) == 12
    else:
        assert split == split_by_time(snapshots_before(AS_OF, MONTHLY), MONTHLY)
    told = told_of_change(split, since, MONTHLY)
    assert ("figures say nothing of later months" in told) == divided
    if not learned_from:
        assert "no label of a date since then is known before 2026-07-10" in told


def test_an_entity_is_in_one_part_at_every_date_and_in_every_run() -> None:
    parts = by_entity(range(10_000), MONTHLY.split)
    assert by_entity(reversed(range(10_000)), MONTHLY.split) == parts[::-1]
    assert [round(parts.count(part) / 10_000, 1) for part in ("train", "validation", "test")] == [0.6, 0.2, 0.2]


def test_the_training_window_slides_or_begins_with_the_change() -> None:
    snapshots = snapshots_before(AS_OF, MONTHLY)
    expanding = split_by_time(snapshots, MONTHLY)
    sliding = split_by_time(snapshots, c := configured(30, 12, 30, 2, 2, ", window: sliding, window_days: 90"))
    assert sliding.train == expanding.train[-4:]
    assert sliding.left_out == expanding.train[:-4]
    assert (sliding.validation, sliding.test) == (expanding.validation, expanding.test)

    configuration = configured(30, 12, 30, 2, 2, ", window: since_change")
    assert split_by_time(snapshots, configuration) == expanding
    fresh = split_by_time(snapshots, configuration, (AS_OF - timedelta(days=100)).date())
    assert fresh.train == fresh.validation == fresh.test == tuple(snapshots[-3:])
    old = split_by_time(snapshots, configuration, (AS_OF - timedelta(days=220)).date())
    assert old.train == expanding.train[-3:]
    assert c.split.since is None


def test_the_day_of_a_change_is_a_day_that_has_come() -> None:
    configuration = configured(30, 12, 30, 2, 2, "")
    assert changed_on("", configuration) is None
    assert changed_on("2026-05-02", configuration) == changed_on("2026-05-02T06:00:00Z", configuration)
    assert changed_on("2026-05-02", configuration) == date(2026, 5, 2)
    with pytest.raises(ContractViolation, match="since is 'last May', and it has to be the day of a change"):
        changed_on("last May", configuration)
    with pytest.raises(ContractViolation, match="since is 2999-01-01, and that day has not come"):
        changed_on("2999-01-01", configuration)


RECALIBRATE = TrainingRemedy.recalibrate


@pytest.mark.parametrize(("days_after", "dates", "divided"), [(31, 1, True), (100, 3, True), (145, 4, False)])
def test_a_recalibration_is_fitted_and_judged_on_dates_since_the_change_and_trains_nothing_on_them(
    days_after: int, dates: int, divided: bool
) -> None:
    since = (AS_OF - timedelta(days=days_after)).date()
    split = split_by_time(snapshots_before(AS_OF, MONTHLY), MONTHLY, since, RECALIBRATE)
    fitted = {*split.validation, *split.test}
    assert (len(fitted), min(fitted).date() >= since) == (dates, True)
    assert (split.divided_since is not None) == divided
    assert not split.learns_from_change
    if divided:
        assert max(split.train) < min(fitted)
        assert "train nothing" in told_of_change(split, since, MONTHLY)
    else:
        # Dates enough: they follow each other as they always do, a label's horizon apart.
        assert split == split_by_time(snapshots_before(AS_OF, MONTHLY), MONTHLY)


def test_who_tests_a_recalibration_never_fits_it_and_all_take_part() -> None:
    parts = by_entity(range(10_000), MONTHLY.split, train=False)
    assert {part: round(parts.count(part) / 10_000, 1) for part in parts} == {"validation": 0.5, "test": 0.5}


def test_too_few_labels_since_a_change_are_counted_beside_those_that_are_needed() -> None:
    rates = [LabelRate(snapshot=day, rows=400, positives=10) for day in ("2026-03-31", "2026-04-30", "2026-05-15")]
    told = (
        r"To recalibrate, labels since 2026-05-02 are too few: 400 rows of 1 date, of which 10 have idle = 1; "
        r"30 of either kind are needed.*the first since then on 2026-06-01: wait.*lifecycle run training --parameter "
        r"since=2026-05-02"
    )
    with pytest.raises(ContractViolation, match=told):
        refuse_few_labels(rates, date(2026, 5, 2), RECALIBRATE, MONTHLY)
    refuse_few_labels(rates, date(2026, 3, 1), RECALIBRATE, MONTHLY)


def test_a_remedy_is_one_that_a_training_knows() -> None:
    assert remedy_of("set the threshold") is TrainingRemedy.threshold
    with pytest.raises(ContractViolation, match=r"remedy is 'calibrate', and a training can retrain, recalibrate, set"):
        remedy_of("calibrate")
