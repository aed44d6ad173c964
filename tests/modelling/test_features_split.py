"""Parts of the split follow each other in time, and nothing is learned from a label before it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kfp_lifecycle.components.features.build_training_set.split import Split, snapshots_before, split_by_time
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.lending_library import PIPELINE

AS_OF = datetime(2026, 6, 30, 23, 23, 49, 500_000, tzinfo=UTC)


def configured(every_days: int, count: int, horizon_days: int, validation: int, test: int) -> Configuration:
    return parse_configuration(
        PIPELINE,
        [
            f"snapshots={{every_days: {every_days}, count: {count}}}",
            f"label.horizon_days={horizon_days}",
            f"split={{validation_snapshots: {validation}, test_snapshots: {test}}}",
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
