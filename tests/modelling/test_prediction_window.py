"""A window of the prediction log: nobody decides by asking often, and whenever it is read, it is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import LogTable
from kfp_lifecycle.components.monitoring.collect_predictions.collection import judged_version, notes_on
from kfp_lifecycle.monitoring import log_window
from kfp_lifecycle.monitoring.log_files import Window, log_files, window_ending
from kfp_lifecycle.monitoring.log_window import open_log, read_log, served_versions, write_table
from tests.prediction_logs import Row, logged, write_log

INPUTS = [Feature("age", "numeric"), Feature("plan", "categorical")]
END = datetime(2026, 5, 20, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def customers(count: int, at: datetime = END - HOUR, first: int = 0, **changes: object) -> list[Row]:
    """A prediction for each of so many customers, each with features of its own."""
    return [
        logged({"age": float(number), "plan": "basic"}, at, entity=str(number), **changes)
        for number in range(first, first + count)
    ]


def keyless(count: int, age: float = 1e6, at: datetime = END - HOUR) -> list[Row]:
    return [logged({"age": age, "plan": "?"}, at + timedelta(seconds=number)) for number in range(count)]


def write(place: Path, rows: Sequence[Row], name: str = "1-host-1-77") -> Path:
    return write_log(place / "log" / "devices", rows, INPUTS, name)


def read(place: Path, as_of: str = "", now: datetime = END, name: str = "found") -> tuple[LogTable, pd.DataFrame]:
    window = window_ending(as_of, 7, now)
    scratch = place / name
    scratch.mkdir(exist_ok=True)
    files = log_files(str(place / "log"), "devices", window, scratch)
    table = scratch / "predictions.parquet"
    found = read_log(files, scratch, lambda log: write_table(log, INPUTS, window, table), writable=scratch)
    return found, pd.read_parquet(table)


def test_a_probe_counts_once_and_is_marked_however_often_it_asks(tmp_path: Path) -> None:
    write(tmp_path, [*customers(1559), *keyless(100), *keyless(2, age=5.5)])
    found, table = read(tmp_path)
    assert (found.predictions, found.rows, found.probes, found.left_out.identical) == (1661, 1561, 1, 100)
    probe = table[table["probe"]]
    assert [row["age"] for row in probe["features"]] == [1e6]
    assert probe["requests"].tolist() == [100]
    assert table["requests"].sum() == found.predictions


def test_of_an_entity_the_newest_prediction_counts_however_rows_are_ordered(tmp_path: Path) -> None:
    asked = [logged({"age": float(hour), "plan": "pro"}, END - hour * HOUR, entity="7") for hour in (3, 1, 2)]
    write(tmp_path, [*asked, *customers(3)])
    found, table = read(tmp_path)
    [row] = table[table["entity"] == "7"].to_dict("records")
    assert (row["features"]["age"], row["requests"]) == (1.0, 3)
    assert found.left_out.repeated == 2


def test_a_file_that_is_there_twice_changes_nothing_but_what_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, [*customers(20), *keyless(3)])
    _, once = read(tmp_path)
    shutil.copy(file, file.with_name("11-a-copy.parquet"))
    found, twice = read(tmp_path)
    assert found.rows == len(once)
    assert (found.left_out.repeated, found.left_out.identical) == (20, 5)
    pd.testing.assert_frame_equal(twice.drop(columns=["requests", "probe"]), once.drop(columns=["requests", "probe"]))


def test_who_asked_is_read_where_the_log_says_it_and_logs_of_before_are_read_beside(tmp_path: Path) -> None:
    write(tmp_path, customers(3, caller="3f2a9c01b7de"))
    old = write(tmp_path, customers(2, first=3), "0-old")
    parquet.write_table(parquet.read_table(old).drop_columns(["caller"]), old)
    found, table = read(tmp_path)
    assert found.broken.files == 0
    assert dict(table["caller"].value_counts(dropna=False)) == {"3f2a9c01b7de": 3, None: 2}
    for file in (tmp_path / "log").rglob("*-1-host-*.parquet"):
        file.unlink()
    assert read(tmp_path)[1]["caller"].isna().all()


def test_a_late_or_repeated_run_of_a_window_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path, [*customers(50, END - 30 * HOUR), *keyless(12, at=END - 40 * HOUR)])
    first, _ = read(tmp_path, as_of="2026-05-20T12:30:00Z", name="first")
    write(tmp_path, customers(50, END + 30 * HOUR), "2-later")
    again, _ = read(tmp_path, as_of="2026-05-20T12:30:00Z", now=END + timedelta(days=20), name="again")
    assert again == first
    bytes_of = [(tmp_path / name / "predictions.parquet").read_bytes() for name in ("first", "again")]
    assert bytes_of[0] == bytes_of[1]


def test_the_end_that_is_written_down_names_the_same_window(tmp_path: Path) -> None:
    now = END.replace(microsecond=700_000)
    written = window_ending("", 7, now).end
    assert window_ending(written.isoformat(), 7, now + timedelta(days=3)).end == written


def test_a_window_that_spans_a_release_tells_its_versions_apart(tmp_path: Path) -> None:
    write(tmp_path, customers(30, END - 5 * HOUR))
    write(tmp_path, customers(12, END - 2 * HOUR, version="2"), "2-host")
    found, table = read(tmp_path)
    assert [(item.version, item.counted, item.entities) for item in found.versions] == [("1", 30, 30), ("2", 12, 12)]
    assert found.versions[1].first == END - 2 * HOUR
    # An entity that both answered for has a row of each.
    assert table.groupby("version").size().to_dict() == {"1": 30, "2": 12}
    assert any("Several versions" in note for note in notes_on(Window(END - HOUR, END, END), found, 10, []))


def test_a_window_is_judged_by_the_champion_or_else_by_who_served(tmp_path: Path) -> None:
    write(tmp_path, [*customers(30), *customers(12, version="2")])
    found, _ = read(tmp_path)
    assert judged_version("2", found, enough=10, unknown=[]) == "2"
    assert judged_version("2", found, enough=20, unknown=[]) == "1"
    assert judged_version("9", found, enough=10, unknown=[]) == "1"
    assert judged_version("9", found, enough=10, unknown=["1"]) == "2"
    nobody = found.model_copy(update={"versions": []})
    assert judged_version("9", nobody, enough=10, unknown=[]) == "9"


def test_empty_and_tiny_windows_and_those_that_are_not_over_say_so(tmp_path: Path) -> None:
    window = Window(END - HOUR, END, END)
    assert "The window is empty" in notes_on(window, read(tmp_path)[0], 100, [])[0]
    write(tmp_path, customers(5))
    [note] = notes_on(window, read(tmp_path)[0], 100, [])
    assert note == "The window is small: 5 predictions count, and monitoring.min_window is 100."
    [early, _] = notes_on(Window(END - HOUR, END, END - HOUR), read(tmp_path)[0], 100, [])
    assert "not over" in early


def test_many_entities_are_sampled_and_the_same_ones_each_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_window, "LARGEST_SAMPLE", 200)
    write(tmp_path, customers(1000))
    write(tmp_path, customers(1000, END + timedelta(days=7) - HOUR))
    found, week = read(tmp_path)
    _, next_week = read(tmp_path, now=END + timedelta(days=7))
    assert 150 < len(week) < 250
    assert found.left_out.unsampled == 1000 - len(week)
    assert sorted(week["entity"]) == sorted(next_week["entity"])


class Explained:
    """A session that notes of each scan of a log whether it reads features."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.scans: list[bool] = []

    def execute(self, sql: str, *values: Any) -> duckdb.DuckDBPyConnection:
        if "read_parquet" in sql:
            [(_, plan)] = self._connection.execute(f"EXPLAIN (FORMAT json) {sql}", *values).fetchall()
            self._note(json.loads(plan))
        return self._connection.execute(sql, *values)

    def _note(self, nodes: list[dict[str, Any]]) -> None:
        for node in nodes:
            told = node["extra_info"]
            if told.get("Function") == "READ_PARQUET":
                self.scans.append("features" in str(told["Projections"]))
            self._note(node["children"])


def scans(place: Path) -> list[bool]:
    """Of each scan of the log, as the step reads a window, whether it reads features."""
    window = window_ending("", 7, END)
    with open_log(log_files(str(place / "log"), "devices", window, place), place, writable=place) as log:
        explained = Explained(log.connection)
        watched = replace(log, connection=cast("duckdb.DuckDBPyConnection", explained))
        assert served_versions(watched, window) == ["1"]
        write_table(watched, INPUTS, window, place / "predictions.parquet")
    return explained.scans


def test_a_log_is_scanned_three_times_and_features_are_read_twice_only_where_they_tell_requests_apart(
    tmp_path: Path,
) -> None:
    write(tmp_path, customers(30))
    # Who served, which rows count, and those rows.
    assert scans(tmp_path) == [False, False, True]
    write(tmp_path, [*customers(3), *keyless(2)], "2-probed")
    # The second of them reads the features of the one file that needs it.
    assert sorted(scans(tmp_path)) == [False, False, True, True]


@pytest.mark.parametrize("told", [True, False], ids=["with statistics", "without statistics"])
def test_what_a_file_says_of_itself_spares_a_scan_and_changes_nothing(tmp_path: Path, told: bool) -> None:
    odd = {"a": float("inf"), "b": -1e300, "c": float("nan"), "d": None}
    rows = [logged({"age": age, "plan": "pro"}, END - HOUR, entity=key) for key, age in odd.items()]
    nothing = [logged({"age": None, "plan": None}, END - HOUR, entity="e")]
    for file in (write(tmp_path, customers(9)), write(tmp_path, rows, "2-odd"), write(tmp_path, nothing, "3-nothing")):
        parquet.write_table(parquet.read_table(file), file, write_statistics=told)
    found, table = read(tmp_path)
    assert (found.rows, found.broken.rows) == (12, 2)
    assert {flaw.reason for flaw in found.broken.examples} == {"their age is no finite number"}
    assert set(table["entity"]) == {*map(str, range(9)), "c", "d", "e"}
    # With them, the odd file alone is read twice.
    assert len(scans(tmp_path)) == (4 if told else 3)


def test_an_entity_is_the_same_however_a_file_types_it(tmp_path: Path) -> None:
    write(tmp_path, customers(5))
    file = write(tmp_path, customers(5, END - 2 * HOUR), "2-foreign")
    rows = parquet.read_table(file)
    position = rows.schema.get_field_index("entity")
    parquet.write_table(rows.set_column(position, "entity", rows["entity"].cast(pa.int64())), file)
    found, table = read(tmp_path)
    assert (found.rows, found.left_out.repeated) == (5, 5)
    assert (table["time"] == END - HOUR).all()
