"""Charts over time: where their marks and labels lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from kfp_lifecycle.reports.charts import SIZE, Scale

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def test_labels_of_moments_that_are_near_stand_in_rows_of_their_own() -> None:
    place = Scale([day(0), day(100)], [0.0, 1.0], True)
    marks = place.marks([(day(52), "version 3"), (day(50), "version 2"), (day(54), "alarm"), (day(90), "version 4")])
    assert [(mark.word, mark.row) for mark in marks] == [
        ("version 2", 0), ("version 3", 1), ("alarm", 2), ("version 4", 0),
    ]  # fmt: skip
    for row in range(3):
        ends = [mark.ends for mark in marks if mark.row == row]
        assert all(before[1] <= after[0] for before, after in pairwise(ends))


def test_no_label_reaches_over_the_pictures_edge() -> None:
    place = Scale([day(0), day(100)], [0.0, 1.0], True)
    marks = place.marks([(day(0), "version 1"), (day(50), "prices rise"), (day(100), "version 2")])
    assert [mark.side for mark in marks] == ["left", "", "right"]
    assert all(left >= 0 and right <= SIZE for left, right in (mark.ends for mark in marks))
    (long,) = place.marks([(day(10), "a label that is far longer than the picture is wide, as some names are")])
    assert long.side == "left"


def test_money_below_zero_is_drawn_within_the_picture() -> None:
    place = Scale([day(0), day(1)], [-50.0, 20.0], True)
    assert place.low < -50
    assert place.high > 20
    assert 0 < place.y(20) < place.y(0) < place.y(-50) < SIZE
    assert Scale([day(0), day(1)], [20.0, 30.0], True).low == 0
    assert Scale([day(0), day(1)], [0.0467, 0.0468], True).y(0.0468) > 5
    assert Scale([day(0), day(1)], [20.0, 30.0], False).low > 0
