"""A log as it is found where disks fill up, clocks are wrong and others write too: what can be read is read, what
cannot be is named, and the same window is the same whenever it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from kfp_lifecycle.artifacts.predictions import LogTable
from kfp_lifecycle.config.cron import Cron
from kfp_lifecycle.monitoring.log_files import Span, log_files, window_ending
from kfp_lifecycle.monitoring.log_window import OpenLog, read_log, write_table
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.test_prediction_window import END, HOUR, INPUTS, customers, keyless, read, write
from tests.prediction_logs import logged

DAY = timedelta(days=1)


def reasons(found: LogTable) -> dict[str, str]:
    return {Path(flaw.file).name: flaw.reason for flaw in found.broken.examples}


def test_a_file_that_is_damaged_in_its_middle_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, customers(30))
    damaged = write(tmp_path, customers(3000, first=100), "2-damaged")
    content = bytearray(damaged.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 200] = bytes(byte ^ 255 for byte in content[middle : middle + 200])
    damaged.write_bytes(content)
    # Its end, which says what is in it, is whole.
    assert parquet.read_metadata(damaged).num_rows == 3000
    found, table = read(tmp_path)
    assert (found.predictions, len(table), found.broken.files) == (30, 30, 1)
    assert reasons(found)["11-2-damaged.parquet"].startswith("it is no file of a log (")
    assert read(tmp_path, name="again")[0] == found


def test_a_file_that_is_removed_while_it_is_read_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, customers(30))
    going = write(tmp_path, customers(30, first=50), "2-going")
    window = window_ending("", 7, END)
    times = []

    def look(log: OpenLog) -> LogTable:
        going.unlink(missing_ok=True)
        times.append(len(log.sources))
        return write_table(log, INPUTS, window, tmp_path / "predictions.parquet")

    files = log_files(str(tmp_path / "log"), "devices", window, tmp_path)
    found = read_log(files, tmp_path / "scratch", look, writable=tmp_path)
    assert (found.predictions, found.broken.files, times) == (30, 0, [2, 1])


def test_what_fails_however_often_it_is_tried_stops_the_step(tmp_path: Path) -> None:
    write(tmp_path, customers(3))
    files = log_files(str(tmp_path / "log"), "devices", window_ending("", 7, END), tmp_path)
    with pytest.raises(ContractViolation, match=r"The prediction log cannot be read: .*no_such_table.*Mend or move"):
        read_log(files, tmp_path / "scratch", lambda log: log.connection.execute("FROM no_such_table"))


def test_empty_files_folders_links_and_files_of_others_stand_in_nobody_s_way(tmp_path: Path) -> None:
    file = write(tmp_path, customers(30))
    # A server has only just begun it.
    file.with_name("11-new.arrows").touch()
    file.with_name("11-empty.parquet").touch()
    file.with_name("11-folder.parquet").mkdir()
    file.with_name("11-lines.json").write_text('{"time": "2026-05')
    file.with_name("11-link.parquet").symlink_to("gone.parquet")
    rows = parquet.read_table(file)
    for name, column, values in (
        ("versions", "version", pa.array([{"major": 1}] * 30)),
        ("keys", "entity", pa.array([[1, 2]] * 30)),
        ("numbers", "features", pa.array([0.5] * 30)),
        ("lists", "features", pa.array([{"age": [1.0], "plan": "pro"}] * 30)),
    ):
        place = rows.schema.get_field_index(column)
        parquet.write_table(rows.set_column(place, column, values), file.with_name(f"11-{name}.parquet"))
    found, table = read(tmp_path)
    assert (found.predictions, len(table), found.broken.files) == (30, 30, 5)
    assert reasons(found)["11-empty.parquet"] == "it is no file of a log (Parquet file size is 0 bytes)"
    assert reasons(found)["11-versions.parquet"] == "it is no file of a log (its version is struct<major: int64>)"
    assert reasons(found)["11-numbers.parquet"] == "it is no file of a log (its features are double)"
    assert reasons(found)["11-lists.parquet"] == "it is no file of a log (its age is list<element: double>)"


def test_columns_without_a_value_are_typed_by_nothing_and_read_all_the_same(tmp_path: Path) -> None:
    file = write(tmp_path, customers(5))
    rows = parquet.read_table(file)
    place = rows.schema.get_field_index("features")
    nothing = pa.StructArray.from_arrays([pa.nulls(5), pa.nulls(5)], names=["age", "plan"])
    parquet.write_table(rows.set_column(place, "features", nothing), file)
    write(tmp_path, customers(5, first=9), "2-others")
    found, table = read(tmp_path)
    assert (found.rows, found.broken.rows) == (10, 0)
    assert sorted(row["age"] is None for row in table["features"]) == [False] * 5 + [True] * 5


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, -0.1])
def test_a_score_that_is_no_probability_counts_as_broken_and_not_as_a_prediction(
    tmp_path: Path, score: float | None
) -> None:
    write(tmp_path, [*customers(5), *customers(7, first=10, score=score)])
    found, table = read(tmp_path)
    assert (found.predictions, len(table), found.broken.rows) == (5, 5, 7)
    assert set(reasons(found).values()) == {"their score is no probability"}


@pytest.mark.parametrize(
    "ahead", [timedelta(minutes=5), timedelta(days=3), datetime(2099, 1, 1, tzinfo=UTC) - END], ids=str
)
def test_a_clock_that_is_ahead_changes_no_window_that_is_over(tmp_path: Path, ahead: timedelta) -> None:
    write(tmp_path, customers(20))
    write(tmp_path, customers(5, at=END + ahead, first=100), "2-ahead")
    found, table = read(tmp_path)
    assert (found.predictions, len(table), found.left_out.future) == (20, 20, 5)
    late, again = read(tmp_path, as_of=END.isoformat(), now=END + 30 * DAY, name="late")
    assert (late.predictions, late.versions, late.broken) == (found.predictions, found.versions, found.broken)
    pd.testing.assert_frame_equal(table, again)


def test_an_entity_that_is_asked_about_a_thousand_times_is_one(tmp_path: Path) -> None:
    often = [logged({"age": 1.0, "plan": "pro"}, END - HOUR + timedelta(seconds=n), entity="5") for n in range(1000)]
    write(tmp_path, [*customers(4), *often])
    found, table = read(tmp_path)
    assert (found.predictions, found.rows, found.left_out.repeated) == (1004, 5, 999)
    assert table.set_index("entity").loc["5", "requests"] == 1000


def test_versions_that_take_turns_are_told_apart_request_by_request(tmp_path: Path) -> None:
    rows = [
        logged({"age": float(number), "plan": "pro"}, END - HOUR + timedelta(seconds=number),
               entity=str(number // 2), version=str(1 + number % 2), score=0.1 + 0.8 * (number % 2))
        for number in range(400)
    ]  # fmt: skip
    write(tmp_path, rows)
    found, table = read(tmp_path)
    assert [(item.version, item.counted, item.entities) for item in found.versions] == [
        ("1", 200, 200),
        ("2", 200, 200),
    ]
    assert table.groupby("version")["score"].unique().map(list).to_dict() == {"1": [0.1], "2": [0.9]}


def test_a_year_of_windows_of_an_empty_log_reads_nothing_and_is_the_same_twice(tmp_path: Path) -> None:
    ends = [END - 73 * DAY * number for number in range(6)]
    found = [read(tmp_path, as_of=end.isoformat(), name="year")[0] for end in ends]
    assert {(item.predictions, item.rows, item.broken.files) for item in found} == {(0, 0, 0)}
    assert read(tmp_path, as_of=ends[-1].isoformat(), name="again")[0] == found[-1]


def test_a_span_that_is_past_looks_at_its_own_days_alone(tmp_path: Path) -> None:
    """So that what happens to the log afterwards changes neither what is read nor what is told."""
    for days in (0, 7, 8, 30):
        write(tmp_path, customers(3, at=END - days * DAY))
    write(tmp_path, customers(3, at=datetime(2099, 1, 1, tzinfo=UTC)))
    found = log_files(str(tmp_path / "log"), "devices", Span(END - 8 * DAY, END - 7 * DAY), tmp_path)
    assert [file.parent.name for file in found] == ["2026-05-12", "2026-05-13"]


def test_requests_of_nobody_that_are_many_and_alike_are_one_beside_a_few_customers(tmp_path: Path) -> None:
    write(tmp_path, [*customers(10), *keyless(990)])
    found, table = read(tmp_path)
    assert (found.predictions, len(table), found.probes) == (1000, 11, 1)


@pytest.mark.parametrize(("zone", "spring", "autumn"), [("Europe/Berlin", 3, 10), ("America/New_York", 3, 11)])
def test_windows_have_as_many_hours_in_the_weeks_in_which_clocks_change(zone: str, spring: int, autumn: int) -> None:
    """A weekly schedule follows its zone's clocks, and a window does not: in spring one hour is looked at twice, in
    autumn one is looked at by no window of features."""
    year = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)]
    due = list(Cron.parse("0 6 * * 1").between(*year, ZoneInfo(zone)))
    windows = [window_ending(moment.isoformat(), 7, END + 365 * DAY) for moment in due]
    assert {window.end - window.start for window in windows} == {7 * DAY}
    between = {later.month: later - earlier for earlier, later in pairwise(due) if later - earlier != 7 * DAY}
    assert between[spring] == 167 * HOUR
    assert list(between.values()) == [167 * HOUR, 169 * HOUR]
    gaps = [later.start - earlier.end for earlier, later in pairwise(windows)]
    assert sorted(set(gaps)) == [-HOUR, timedelta(), HOUR]
    assert due[gaps.index(HOUR)].month in (autumn - 1, autumn)
    # An hour that the clocks show twice is due once, and names one window.
    assert len(set(due)) == len(due) == 52


def test_a_window_ends_at_the_same_moment_however_its_zone_writes_it(tmp_path: Path) -> None:
    write(tmp_path, customers(10, at=END - HOUR))
    first = read(tmp_path, as_of=END.isoformat(), now=END + DAY)
    for name, zone in (("berlin", "Europe/Berlin"), ("new-york", "America/New_York")):
        as_of = END.astimezone(ZoneInfo(zone)).isoformat()
        again = read(tmp_path, as_of=as_of, now=END + DAY, name=name)
        assert again[0] == first[0]
        pd.testing.assert_frame_equal(again[1], first[1])
