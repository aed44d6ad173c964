"""The skew gate: no model is trained on a feature that it would not get, bit for bit, when it is served."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kfp_lifecycle.components.features.build_training_set.skew import evenly_spaced, same_bits
from kfp_lifecycle.features.online.store import OnlineStore
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import build
from tests.lending_library import some_readers_and_loans, write_project, write_tables

FEATURES = "feature_repo/features.py"
Changes = dict[str, tuple[str, str] | str | None]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("library") / "tables", *some_readers_and_loans())


def build_with(folder: Path, tables: Path, changes: Changes | None = None) -> Path:
    build(write_project(folder / "project", changes), tables, folder / "training_set")
    return folder / "training_set"


def test_the_training_set_tells_what_was_compared(tmp_path: Path, tables: Path) -> None:
    sample = {"pipeline.yaml": ("freshness_days: 7", "freshness_days: 7, skew_sample: 12")}
    built = build_with(tmp_path, tables, sample)
    description = json.loads((built / "training_set.json").read_text())
    assert description["skew"] == {"snapshot": description["snapshots"]["test"][-1], "entities": 12, "features": 6}


def test_a_function_that_looks_beyond_its_own_row_is_shown_with_both_values(tmp_path: Path, tables: Path) -> None:
    # Since the last loan of anyone who is asked for: of all readers in training, of one alone online.
    last_of_all = "pairs = [(max(t for t in inputs['last_loan_at'] if t), n) for n in inputs['request_time']]"
    changes: Changes = {FEATURES: ('pairs = zip(inputs["last_loan_at"], inputs["request_time"])', last_of_all)}
    with pytest.raises(
        ContractViolation,
        match=r"other features online than it is trained on(?s:.*)reader_id \d+: days_since_last_loan is [\d.]+ in "
        r"training and [\d.]+ online(?s:.*)Mend the definition in feature_repo",
    ):
        build_with(tmp_path, tables, changes)
    assert not (tmp_path / "training_set").exists()


def test_a_store_that_loses_precision_is_found_out(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OnlineStore.write

    def rounding(self: OnlineStore, view: str, rows: pa.RecordBatch) -> None:
        position = rows.schema.names.index("average_pages")
        rounded = rows["average_pages"].cast(pa.float32()).cast(pa.float64())
        write(self, view, rows.set_column(position, "average_pages", rounded))

    monkeypatch.setattr(OnlineStore, "write", rounding)
    with pytest.raises(ContractViolation, match=r"average_pages is \d+\.\d+ in training and \d+\.\d+ online"):
        build_with(tmp_path, tables)


def test_a_view_that_falls_silent_is_answered_online_as_in_training(tmp_path: Path, tables: Path) -> None:
    # Known for some snapshots more from an earlier value, as long as it is fresh: so it is in the online store.
    silent = ("FROM readers\nLEFT", "FROM (FROM readers WHERE $as_of <= TIMESTAMP '2025-02-16') readers\nLEFT")
    longer = ("freshness_days: 7", "freshness_days: 12")
    changes: Changes = {"feature_repo/loans_so_far.sql": silent, "pipeline.yaml": longer}
    rows = pq.read_table(build_with(tmp_path, tables, changes) / "test.parquet")
    assert rows["event_timestamp"][0].as_py().day > 16
    assert rows["loans"].null_count < len(rows)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT reader_id, if(joined_at < now(), town, NULL) AS town FROM readers", "now"),
        ("SELECT reader_id, if(joined_at < current_date, town, NULL) AS town FROM readers", "current_date"),
        ("SELECT reader_id, if(random() < 2, town, NULL) AS town FROM readers", "random"),
    ],
)
def test_sql_that_asks_the_clock_or_chance_is_refused(tmp_path: Path, tables: Path, sql: str, named: str) -> None:
    with pytest.raises(ContractViolation, match=rf"person\.sql uses {named}, so that the same data give other values"):
        build_with(tmp_path, tables, {"feature_repo/person.sql": sql})


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("now = __import__('datetime').datetime.now(then.tzinfo) if then else None", "now"),
        ("now = clock()", "time"),
    ],
)
def test_a_function_that_asks_the_clock_is_refused(tmp_path: Path, tables: Path, code: str, named: str) -> None:
    changes: Changes = {
        FEATURES: ("def recency(inputs):\n", f"def recency(inputs):\n    then = None\n    {code}\n"),
    }
    project = write_project(tmp_path / "project", changes)
    file = project / FEATURES
    file.write_text("import time\n\n\ndef clock():\n    return time.time()\n\n\n" + file.read_text())
    with pytest.raises(ContractViolation, match=rf"on-demand view recency uses {named}.*request_time"):
        build(project, tables, tmp_path / "training_set")


def test_a_sample_is_spread_over_all_rows() -> None:
    rows = pa.table({"n": range(101)})
    assert evenly_spaced(rows, 5)["n"].to_pylist() == [0, 25, 50, 75, 100]
    assert evenly_spaced(rows, 500).equals(rows)
    assert evenly_spaced(rows, 1)["n"].to_pylist() == [0]


def test_one_bit_is_a_difference() -> None:
    assert same_bits(0.1, 0.1)
    assert same_bits(None, None)
    assert not same_bits(0.1 + 0.2, 0.3)
    assert not same_bits(0.0, -0.0)
    assert not same_bits(0.0, None)
    assert not same_bits("", None)
