"""With `on_bad_rows: quarantine`, rows that break a critical check are put aside with their reasons, never lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import write_dataset
from shop import GOOD_ORDERS, ORDERS, make_project, parquet_rows, validate

from kfp_lifecycle.artifacts.tables import Load, Manifest
from kfp_lifecycle.components.data.validate_data.quarantine import Quarantine
from kfp_lifecycle.components.data.validate_data.schema_review import as_text, propose_schemas
from kfp_lifecycle.runtime.contract import ContractViolation

BUYERS = (
    "SELECT i AS customer_id, TIMESTAMP '2024-12-01' + i * INTERVAL 1 MINUTE AS joined_at FROM range(50) numbers(i)"
)
TABLES = {
    "buyers": {"key": ["customer_id"], "event_time": "joined_at"},
    "orders": {**ORDERS, "arrival_time": "recorded_at"},
}
RULES: list[dict[str, Any]] = [
    {
        "table": "orders",
        "rule": "an amount is above 0",
        "remedy": "Look for refunds.",
        "expectation": "expect_column_values_to_be_between",
        "kwargs": {"column": "amount", "min_value": 0, "strict_min": True},
    },
    {
        "table": "orders",
        "rule": "every order has a buyer",
        "remedy": "Load the buyers again.",
        "sql": "SELECT order_id FROM orders ANTI JOIN buyers USING (customer_id)",
    },
]


class Market:
    """A shop that puts bad rows aside, up to a tenth of a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = make_project(folder / "shop", f"duckdb:///{folder / 'shop.duckdb'}", TABLES)
        self.configure(max_bad_share=0.1)
        (self.project / "expectations").mkdir()
        good = write_dataset(folder / "good", orders=GOOD_ORDERS, buyers=BUYERS)
        for table, schema in propose_schemas(good).items():
            (self.project / "expectations" / f"{table}.pbtxt").write_text(as_text(schema))
        (self.project / "expectations" / "rules.yaml").write_text(yaml.safe_dump(RULES))

    def configure(self, **validation: Any) -> None:
        file = self.project / "pipeline.yaml"
        text = yaml.safe_load(file.read_text())
        text["validation"] = {"on_bad_rows": "quarantine", **validation}
        file.write_text(yaml.safe_dump(text))

    def validate(self, orders: str = GOOD_ORDERS, buyers: str = BUYERS) -> Quarantine:
        write_dataset(self.folder / "tables", orders=orders, buyers=buyers)
        return validate(self.project, self.folder / "tables", self.validated, self.folder / "report.html")

    def refusal(self, orders: str = GOOD_ORDERS, buyers: str = BUYERS) -> str:
        with pytest.raises(ContractViolation) as violation:
            self.validate(orders, buyers)
        assert not self.validated.exists()
        return str(violation.value)

    @property
    def validated(self) -> Path:
        return self.folder / "validated"

    def put_aside(self, table: str) -> dict[Any, list[str]]:
        """The reasons of each quarantined row by its first column."""
        return {row[0]: row[-1] for row in parquet_rows(self.validated / "quarantine" / f"{table}.parquet")}

    def kept(self, table: str) -> list[Any]:
        return [row[0] for row in parquet_rows(self.validated / f"{table}.parquet")]


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


def changed(change: str) -> str:
    """Good orders with some columns replaced; `i` is the order's number."""
    return f"SELECT * REPLACE ({change}) FROM (SELECT *, order_id AS i FROM ({GOOD_ORDERS}))"


def without_number(query: str) -> str:
    return f"SELECT * EXCLUDE (i) FROM ({query})"


def test_good_data_are_handed_on_whole(market: Market) -> None:
    assert market.validate().rows == {}
    assert not (market.validated / "quarantine").exists()
    assert market.kept("orders") == list(range(1000))


def test_bad_rows_of_every_layer_go_to_a_side_table_with_all_their_reasons(market: Market) -> None:
    bad = "CASE i WHEN 3 THEN -5 WHEN 4 THEN 'nan'::DOUBLE WHEN 5 THEN -1 WHEN 8 THEN NULL ELSE amount END AS amount"
    bad += ", if(i IN (5, 6), 'barter', paid_by) AS paid_by"
    bad += ", if(i = 7, TIMESTAMP '2999-01-01', ordered_at) AS ordered_at"
    bad += ", if(i = 7, TIMESTAMP '2999-01-02', recorded_at) AS recorded_at"
    outcome = market.validate(without_number(changed(bad)))
    assert outcome.rows == {"orders": 6}
    reasons = market.put_aside("orders")
    assert set(reasons) == {3, 4, 5, 6, 7, 8}
    assert reasons[3] == ["rules: orders.amount: an amount is above 0"]
    assert reasons[4] == ["statistics: orders.amount: a number is finite"]
    assert reasons[5] == [
        "rules: orders.amount: an amount is above 0",
        "schema: orders.paid_by: it is one of card, cash",
    ]
    assert reasons[8] == ["schema: orders.amount: it is filled in all rows"]
    assert any("no time is in the future" in reason for reason in reasons[7])
    assert market.kept("orders") == [i for i in range(1000) if i not in reasons]


def test_what_is_handed_on_describes_itself_and_the_dataset_stays_as_it_was(market: Market) -> None:
    orders = without_number(changed("if(i >= 990, -1, amount) AS amount"))
    dataset = market.folder / "tables"
    outcome = market.validate(orders)
    manifest = Manifest.read(market.validated)
    assert manifest.tables["orders"].rows == 990 == outcome.metadata()["rows"]["orders"]
    assert manifest.as_of == max(row[2] for row in parquet_rows(market.validated / "orders.parquet")).replace(
        tzinfo=manifest.as_of.tzinfo
    )
    assert Manifest.read(dataset).tables["orders"].rows == 1000 == len(parquet_rows(dataset / "orders.parquet"))
    assert outcome.metadata()["quarantined"] == 10
    written = json.loads((market.validated / "validation.json").read_text())
    assert written["quarantined"] == {"orders": 10}
    assert [check["rule"] for check in written["checks"] if check["quarantined"]] == ["an amount is above 0"]
    report = (market.folder / "report.html").read_text()
    assert "10 rows that were put in quarantine" in report
    assert "quarantine/orders.parquet" in report


def test_what_is_handed_on_still_says_which_loads_made_it(market: Market) -> None:
    orders = without_number(changed("if(i >= 990, -1, amount) AS amount"))
    dataset = write_dataset(market.folder / "tables", orders=orders, buyers=BUYERS)
    loads = [Load(at=datetime(2025, 2, 12, tzinfo=UTC), since=None, added=1000, changed=0, removed=0)]
    manifest = Manifest.read(dataset)
    manifest.tables["orders"].loads.extend(loads)
    manifest.write(dataset)
    validate(market.project, dataset, market.validated, market.folder / "report.html")
    assert Manifest.read(market.validated).tables["orders"].rows == 990
    assert Manifest.read(market.validated).tables["orders"].loads == loads


def test_rows_that_depend_on_a_quarantined_row_follow_it(market: Market) -> None:
    twice = f"{BUYERS} UNION ALL SELECT 49, TIMESTAMP '2024-12-05'"
    assert market.validate(buyers=twice).rows == {"buyers": 2, "orders": 20}, "nobody knows which buyer 49 is right"
    assert set(market.put_aside("orders")) == {i for i in range(1000) if i % 50 == 49}
    (reason,) = market.put_aside("orders")[49]
    assert reason == "rules: orders: every order has a buyer (once other rows were put aside)"


def test_rows_that_break_an_expectation_on_a_derived_column_are_put_aside(market: Market) -> None:
    joined = "(SELECT min(joined_at) FROM buyers WHERE buyers.customer_id = orders.customer_id)"
    rule = {
        "table": "orders",
        "rule": "nobody orders before joining",
        "remedy": "Look at the clocks.",
        "expectation": "expect_column_values_to_be_between",
        "kwargs": {"column": "days_since_joining", "min_value": 0},
        "derived": {"days_since_joining": f"date_diff('day', {joined}, ordered_at)"},
    }
    (market.project / "expectations" / "rules.yaml").write_text(yaml.safe_dump([rule]))
    early = "if(i IN (3, 4), TIMESTAMP '2024-11-01', ordered_at) AS ordered_at"
    assert market.validate(without_number(changed(early))).rows == {"orders": 2}
    assert set(market.put_aside("orders")) == {3, 4}


def test_of_equal_rows_one_is_kept(market: Market) -> None:
    twice = f"{GOOD_ORDERS} UNION ALL (FROM ({GOOD_ORDERS}) LIMIT 5)"
    assert market.validate(twice).rows == {"orders": 5}
    assert sorted(market.kept("orders")) == list(range(1000))


def test_beyond_the_max_share_the_run_stops(market: Market) -> None:
    message = market.refusal(without_number(changed("if(i < 101, -1, amount) AS amount")))
    assert "orders: at most 10.0% of its rows are put in quarantine, and not all. 101 rows (10.1%)" in message
    assert "validation.max_bad_share" in message
    assert market.validate(without_number(changed("if(i < 100, -1, amount) AS amount"))).rows == {"orders": 100}


def test_what_no_row_is_to_blame_for_stops_the_run(market: Market) -> None:
    assert "orders.amount: the column exists" in market.refusal(f"SELECT * EXCLUDE (amount) FROM ({GOOD_ORDERS})")


def test_the_next_dataset_is_compared_with_what_was_handed_on(market: Market) -> None:
    market.validate(without_number(changed("if(i < 50, -1000000, amount) AS amount")))
    warnings = [check for check in market.validate().checks if not check.passed]
    assert warnings == [], "the quarantined amounts are not what is usual"
