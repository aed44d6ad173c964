"""A table that is read incrementally comes out whole in every run, and its manifest says which rows came when."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from shop import ORDERS, ingest, make_database, make_project, parquet_rows

from kfp_lifecycle.artifacts.tables import Load, Manifest
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.servers import Server

NOON = datetime(2025, 6, 1, 12)


class Shop:
    """A table of orders that changes between runs, in DuckDB."""

    def __init__(self, folder: Path, **table: Any):
        self.folder = folder
        self.file = folder / "shop.duckdb"
        columns = "order_id BIGINT, ordered_at TIMESTAMP, updated_at TIMESTAMP, amount DOUBLE"
        make_database(self.file, other="SELECT 1 AS one")
        self.run(f"CREATE TABLE orders ({columns})")
        self.table = {**ORDERS, "incremental": {"watermark": "updated_at", "look_back_hours": 2}, **table}
        self.ingested = 0

    def run(self, statement: str) -> None:
        with duckdb.connect(str(self.file)) as connection:
            connection.execute(statement)

    def add(self, order: int, updated: datetime, amount: float = 1.0) -> None:
        self.run(f"INSERT INTO orders VALUES ({order}, '{NOON}', '{updated}', {amount})")

    def ingest(self) -> Manifest:
        project = make_project(self.folder / "project", f"duckdb:///{self.file}", {"orders": self.table})
        self.ingested += 1
        return ingest(project, self.folder / f"tables{self.ingested}")

    def amounts(self) -> dict[int, float]:
        """The last run's amounts by order."""
        rows = parquet_rows(self.folder / f"tables{self.ingested}" / "orders.parquet")
        return {row[0]: row[3] for row in rows}


def changes(load: Load) -> tuple[int, int, int]:
    return load.added, load.changed, load.removed


def hour(number: float) -> datetime:
    return NOON + timedelta(hours=number)


def test_new_rows_are_added_and_the_manifest_says_when(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.add(2, hour(5))
    first = shop.ingest().tables["orders"]
    assert [(load.since, changes(load)) for load in first.loads] == [(None, (2, 0, 0))]
    shop.add(3, hour(7))
    second = shop.ingest().tables["orders"]
    assert shop.amounts() == {1: 1.0, 2: 1.0, 3: 1.0}
    assert second.loads[0] == first.loads[0]
    assert [(load.since, changes(load)) for load in second.loads[1:]] == [(hour(3), (1, 0, 0))]


def test_only_what_is_new_is_asked_for(tmp_path: Path) -> None:
    """A row that went away before the span that is asked for shows that nobody looked there."""
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.add(2, hour(5))
    shop.ingest()
    shop.run("DELETE FROM orders WHERE order_id = 1")
    shop.ingest()
    assert set(shop.amounts()) == {1, 2}


def test_late_rows_corrections_and_deletions_within_the_look_back_are_followed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for order, updated in {1: 0, 2: 8.5, 3: 9, 4: 10}.items():
        shop.add(order, hour(updated))
    shop.ingest()
    shop.add(5, hour(8.2))
    shop.run("DELETE FROM orders WHERE order_id = 2")
    shop.run("UPDATE orders SET amount = 7 WHERE order_id = 3")
    loads = shop.ingest().tables["orders"].loads
    assert shop.amounts() == {1: 1.0, 3: 7.0, 4: 1.0, 5: 1.0}
    assert changes(loads[-1]) == (1, 1, 1)


def test_a_changed_row_takes_the_place_of_the_old_one_however_old(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.add(2, hour(10))
    shop.ingest()
    shop.run(f"UPDATE orders SET amount = 9, updated_at = '{hour(11)}' WHERE order_id = 1")
    loads = shop.ingest().tables["orders"].loads
    assert shop.amounts() == {1: 9.0, 2: 1.0}
    assert changes(loads[-1]) == (0, 1, 0)


def test_a_run_that_finds_nothing_new_gives_the_same_bytes(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    shop.ingest()
    for file in ("orders.parquet", "manifest.json"):
        assert (tmp_path / "tables1" / file).read_bytes() == (tmp_path / "tables2" / file).read_bytes()


def test_the_result_is_what_reading_everything_would_give(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    whole = {**shop.table, "incremental": None}
    for round_of_changes in range(4):
        for order in range(5):
            shop.add(10 * round_of_changes + order, hour(3 * round_of_changes + order / 5), order)
        shop.ingest()
    incremental = parquet_rows(tmp_path / "tables4" / "orders.parquet")
    shop.table = whole
    shop.ingest()
    assert parquet_rows(tmp_path / "tables5" / "orders.parquet") == incremental


def test_a_longer_look_back_for_one_run_mends_an_older_mistake(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0), amount=-1)
    shop.add(2, hour(90))
    shop.ingest()
    shop.run("UPDATE orders SET amount = 1 WHERE order_id = 1")
    shop.ingest()
    assert shop.amounts()[1] == -1
    shop.table["incremental"] = {"watermark": "updated_at", "look_back_hours": 100}
    shop.ingest()
    assert shop.amounts()[1] == 1


@pytest.mark.parametrize(
    "change", [{"query": "SELECT * FROM orders WHERE amount > 0"}, {"key": ["order_id", "amount"]}], ids=str
)
def test_a_table_that_is_defined_anew_is_read_in_full(tmp_path: Path, change: dict[str, Any]) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    shop.table |= change
    assert [load.since for load in shop.ingest().tables["orders"].loads] == [None]


def test_a_table_with_a_new_column_is_read_in_full(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    shop.run("ALTER TABLE orders ADD COLUMN channel TEXT DEFAULT 'web'")
    manifest = shop.ingest()
    assert "channel" in manifest.tables["orders"].columns
    assert [load.since for load in manifest.tables["orders"].loads] == [None]


def test_a_failed_run_leaves_no_trace_in_what_the_next_one_reads(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    good = shop.table
    project = make_project(tmp_path / "project", f"duckdb:///{shop.file}", {"orders": good, "returns": ORDERS})
    with pytest.raises(ContractViolation, match="no table returns"):
        ingest(project, tmp_path / "failed")
    shop.run("DELETE FROM orders")
    shop.add(2, hour(9))
    shop.ingest()
    assert set(shop.amounts()) == {2}


def test_a_watermark_in_the_future_does_not_hide_what_comes_after(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.add(2, datetime(9999, 1, 1))
    shop.ingest()
    shop.add(3, hour(1))
    shop.ingest()
    assert set(shop.amounts()) == {1, 2, 3}


def test_a_table_that_lost_all_its_rows_is_refused_and_forgets_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    shop.run("DELETE FROM orders")
    with pytest.raises(ContractViolation, match="orders is empty"):
        shop.ingest()
    shop.add(2, hour(1))
    assert [load.since for load in shop.ingest().tables["orders"].loads] == [None, hour(-2)]


def test_an_empty_watermark_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    shop.run(f"INSERT INTO orders VALUES (2, '{NOON}', NULL, 1)")
    with pytest.raises(ContractViolation, match=r"orders.updated_at is empty in 1 rows"):
        shop.ingest()


def test_a_watermark_that_is_no_column_or_no_time_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    for watermark, words in {
        "changed_at": "orders has no column changed_at",
        "amount": "is DOUBLE, not a time",
    }.items():
        shop.table["incremental"] = {"watermark": watermark}
        with pytest.raises(ContractViolation, match=words):
            shop.ingest()


@pytest.mark.slow
def test_a_database_sends_only_what_is_new(postgres: Server, password: str, tmp_path: Path) -> None:
    from test_ingest_databases import PG, ask_postgres

    ask_postgres(
        postgres,
        password,
        "CREATE TABLE visits AS SELECT i AS order_id, timestamptz '2025-06-01 00:00+00' + i * interval '1 hour' AS "
        "ordered_at FROM generate_series(1, 100) i",
    )
    visits = {**ORDERS, "incremental": {"watermark": "ordered_at", "look_back_hours": 10}}
    project = make_project(tmp_path / "shop", PG % postgres.port, {"visits": visits})
    ingest(project, tmp_path / "tables")
    ask_postgres(
        postgres,
        password,
        "INSERT INTO visits VALUES (101, '2025-06-05 06:00+02')",
        # Would stop the query, were the old rows asked for.
        "ALTER TABLE visits RENAME TO all_visits",
        "CREATE VIEW visits AS SELECT order_id + 0 / (order_id - 1) AS order_id, ordered_at FROM all_visits",
    )
    manifest = ingest(project, tmp_path / "tables")
    assert manifest.tables["visits"].rows == 101
    assert changes(manifest.tables["visits"].loads[-1]) == (1, 0, 0)


def test_what_was_ingested_before_and_is_damaged_is_named_with_the_remedy(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(1, hour(0))
    shop.ingest()
    state = next((tmp_path / "state" / "datasets" / "shop" / "ingested" / "orders").rglob("state.json"))
    state.write_text("{")
    with pytest.raises(ContractViolation, match=r"(?s)what was ingested of orders before .* Remove that folder"):
        shop.ingest()
    shutil.rmtree(state.parent)
    assert shop.ingest().tables["orders"].rows == 1
    for file in state.parent.glob("*.parquet"):
        file.unlink()
    with pytest.raises(ContractViolation, match=r"what was ingested of orders before"):
        shop.ingest()


def test_two_runs_leave_the_last_two_states_and_no_drafts(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for order in range(4):
        shop.add(order, hour(order))
        shop.ingest()
    state = next((tmp_path / "state" / "datasets" / "shop" / "ingested" / "orders").rglob("state.json"))
    assert len(list(state.parent.glob("*.parquet"))) == 2
    assert len(list(state.parent.iterdir())) == 3


@pytest.mark.slow
def test_a_watermark_by_a_clock_west_of_utc_loses_no_row(postgres: Server, password: str, tmp_path: Path) -> None:
    from test_ingest_databases import PG, ask_postgres

    ask_postgres(
        postgres,
        password,
        "CREATE TABLE local_visits AS SELECT i AS order_id, timestamp '2025-10-25 00:00' + i * interval '1 hour' AS "
        "ordered_at FROM generate_series(1, 400) i WHERE i <> 26",
    )
    visits = {**ORDERS, "time_zone": "America/New_York", "incremental": {"watermark": "ordered_at"}}
    project = make_project(tmp_path / "shop", PG % postgres.port, {"local_visits": visits})
    before = ingest(project, tmp_path / "tables").tables["local_visits"]
    ask_postgres(
        postgres,
        password,
        "INSERT INTO local_visits SELECT i, timestamp '2025-10-25 00:00' + i * interval '1 hour' "
        "FROM generate_series(401, 407) i",
    )
    after = ingest(project, tmp_path / "tables").tables["local_visits"]
    assert after.rows == before.rows + 7
    assert changes(after.loads[-1]) == (7, 0, 0)
