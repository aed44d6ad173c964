"""What `validate_data` checks in any table, how it says so, and what it leaves behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import write_dataset
from shop import GOOD_ORDERS, ORDERS, make_project, validate

from kfp_lifecycle.components.data.validate_data.profile import mass_between
from kfp_lifecycle.components.data.validate_data.schema_review import as_text, propose_schemas
from kfp_lifecycle.data.checks import Check, failures
from kfp_lifecycle.runtime.contract import ContractViolation

TABLES = {"orders": {**ORDERS, "arrival_time": "recorded_at"}}


class Shop:
    """A shop whose schema comes from good orders, to be shown others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = make_project(folder / "shop", f"duckdb:///{folder / 'shop.duckdb'}", TABLES)
        self.rules([])
        self.ingest(GOOD_ORDERS)
        for table, schema in propose_schemas(folder / "tables").items():
            (self.project / "expectations" / f"{table}.pbtxt").write_text(as_text(schema))

    def ingest(self, query: str) -> None:
        write_dataset(self.folder / "tables", orders=query)

    def rules(self, rules: list[dict[str, Any]]) -> None:
        (self.project / "expectations").mkdir(exist_ok=True)
        (self.project / "expectations" / "rules.yaml").write_text(yaml.safe_dump(rules))

    def validate(self, query: str = GOOD_ORDERS) -> list[Check]:
        self.ingest(query)
        return validate(
            self.project, self.folder / "tables", self.folder / "validated", self.folder / "report" / "report.html"
        ).checks

    def refusal(self, query: str = GOOD_ORDERS) -> str:
        with pytest.raises(ContractViolation) as violation:
            self.validate(query)
        assert not (self.folder / "validated").exists()
        return str(violation.value)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_batch_that_a_schema_was_made_from_passes_and_is_handed_on_whole(shop: Shop) -> None:
    checks = shop.validate()
    assert [check.sentence for check in checks if not check.passed] == []
    tables, validated = (shop.folder / name for name in ("tables", "validated"))
    assert {file.name for file in validated.iterdir()} - {file.name for file in tables.iterdir()} == {"validation.json"}
    assert (validated / "orders.parquet").read_bytes() == (tables / "orders.parquet").read_bytes()


TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("i // 2 AS order_id", "orders.order_id: order_id identifies a row: no two rows share it. 500 rows (50.0%)"),
        ("nullif(i, 7) AS order_id", "orders.order_id: a key is never empty. 1 rows (0.1%), such as empty"),
        (f"if(i = 7, TIMESTAMP '{TOMORROW}', ordered_at) AS ordered_at", "orders.ordered_at: no time is in the future"),
        ("if(i < 7, NULL, recorded_at) AS recorded_at", "orders.recorded_at: every row has a time. 7 rows (0.7%)"),
        ("ordered_at - INTERVAL 1 HOUR AS recorded_at", "orders.recorded_at: no row arrives before it happens"),
        ("if(i = 7, 'inf'::DOUBLE, amount) AS amount", "orders.amount: a number is finite. 1 rows (0.1%), such as inf"),
        ("if(i = 7, 'nan'::DOUBLE, amount) AS amount", "orders.amount: a number is finite. 1 rows (0.1%), such as nan"),
        ("if(i < 7, NULL, amount) AS amount", "orders.amount: it is filled in all rows. 7 rows (0.7%)"),
        ("amount::VARCHAR AS amount", "orders.amount: it holds numbers. 1,000 rows (100.0%), such as '10.0'; '11.0'"),
        ("if(i = 7, 'barter', paid_by) AS paid_by", "orders.paid_by: it is one of card, cash. 1 rows (0.1%), such as"),
    ],
)
def test_a_fault_of_any_table_is_named_with_its_rows_and_values(shop: Shop, change: str, sentence: str) -> None:
    message = shop.refusal(f"SELECT * REPLACE ({change}) FROM (SELECT *, order_id AS i FROM ({GOOD_ORDERS}))")
    assert sentence in message
    assert sentence.split(":", maxsplit=1)[0] in (shop.folder / "report" / "report.html").read_text()


def test_a_new_column_is_a_warning_and_a_missing_one_stops_the_run(shop: Shop) -> None:
    (warning,) = failures(shop.validate(f"SELECT *, 1 AS loyalty FROM ({GOOD_ORDERS})"), "warning")
    assert warning.subject == "orders.loyalty"
    assert "orders.amount: the column exists" in shop.refusal(f"SELECT * EXCLUDE (amount) FROM ({GOOD_ORDERS})")


def test_a_drifted_column_is_a_warning_against_the_last_accepted_dataset_alone(shop: Shop) -> None:
    shop.validate()
    assert failures(shop.validate(), "warning") == []
    dearer = f"SELECT * REPLACE (amount * 3 AS amount) FROM ({GOOD_ORDERS})"
    drift, outliers = sorted(failures(shop.validate(dearer), "warning"), key=lambda check: check.rows)
    assert drift.subject == outliers.subject == "orders.amount"
    assert "distributed as in the last accepted dataset" in drift.rule
    assert "far beyond those of the last accepted dataset" in outliers.rule
    assert outliers.examples == ("30.0", "33.0", "36.0")
    assert failures(shop.validate(dearer), "warning") == [], "the dearer orders were accepted, so they are usual now"


def test_a_refused_dataset_never_becomes_what_the_next_is_compared_with(shop: Shop) -> None:
    shop.validate()
    shop.refusal(f"SELECT * REPLACE (amount * 3 AS amount, order_id // 2 AS order_id) FROM ({GOOD_ORDERS})")
    assert failures(shop.validate(), "warning") == []


def test_a_rule_counts_and_shows_the_values_that_break_it(shop: Shop) -> None:
    between = {"expectation": "expect_column_values_to_be_between", "kwargs": {"column": "amount", "max_value": 15}}
    shop.rules([{"table": "orders", "rule": "an order is small", "remedy": "Split it.", **between}])
    assert "orders.amount: an order is small. 142 rows (14.2%), such as 16.0. Split it." in shop.refusal()


def test_an_expectation_can_be_about_a_column_derived_from_the_tables(shop: Shop) -> None:
    first = "(SELECT min(amount) FROM orders o WHERE o.customer_id = orders.customer_id)"
    rule = {
        "table": "orders",
        "rule": "an order is at most 5 above the customer's smallest",
        "remedy": "Ask the customer.",
        "expectation": "expect_column_pair_values_a_to_be_greater_than_b",
        "kwargs": {"column_A": "most", "column_B": "amount", "or_equal": True},
        "derived": {"most": f"{first} + 5"},
    }
    shop.rules([rule])
    (line,) = shop.refusal().splitlines()[1:]
    assert "orders.most: an order is at most 5 above the customer's smallest. " in line
    assert "rows (" in line
    shop.rules([rule | {"derived": {"most": f"{first} + 6"}}])
    assert failures(shop.validate(), "critical") == []


@pytest.mark.parametrize(
    ("derived", "words"),
    [
        ({"most": "nothing + 1"}, "most cannot be derived: Binder Error: "),
        ({"amount": "1"}, "there is another column amount; give the derived one a name of its own"),
    ],
)
def test_a_column_that_cannot_be_derived_fails_its_rule_alone(shop: Shop, derived: dict[str, str], words: str) -> None:
    expectation = {"expectation": "expect_column_values_to_be_between", "kwargs": {"column": next(iter(derived))}}
    shop.rules([{"table": "orders", "rule": "a rule", "remedy": "None.", "derived": derived} | expectation])
    (line,) = shop.refusal().splitlines()[1:]
    assert f"a rule (it cannot be judged: {words}" in line


def test_a_warning_rule_does_not_stop_the_run_and_its_column_appears_in_the_report(shop: Shop) -> None:
    rule = {"table": "orders", "rule": "half are big", "remedy": "Wait.", "severity": "warning"}
    median = {"expectation": "expect_column_median_to_be_between", "kwargs": {"column": "amount", "min_value": 50}}
    shop.rules([rule | median])
    (warning,) = failures(shop.validate(), "warning")
    assert warning.examples == ("observed 13.0",)
    assert "half are big" in (shop.folder / "report" / "report.html").read_text()


def test_a_rule_in_sql_sees_every_table_and_shows_what_it_found(shop: Shop) -> None:
    sql = "SELECT order_id, amount FROM orders WHERE order_id < 2 ORDER BY ALL;"
    shop.rules([{"table": "orders", "rule": "orders begin at 2", "remedy": "Renumber.", "sql": sql}])
    assert (
        "orders: orders begin at 2. 2 found, such as order_id 0, amount 10.0; order_id 1, amount 11.0. Renumber."
        in (shop.refusal())
    )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"expectation": "expect_column_values_to_be_betwen"}, "Did you mean expect_column_values_to_be_between"),
        ({"expectation": "expect_column_values_to_be_between", "kwargs": {"colum": "amount"}}, "does not take"),
        ({"table": "order", "sql": "SELECT 1"}, "Did you mean orders"),
        ({"sql": "SELECT nothing FROM orders"}, "cannot be run"),
        ({"sql": "SELECT 1", "expectation": "expect_column_to_exist"}, "either an expectation or sql"),
        ({"sql": "SELECT 1", "severty": "warning"}, "severty"),
    ],
)
def test_a_rule_that_cannot_be_understood_says_how_to_correct_it(shop: Shop, rule: dict[str, Any], words: str) -> None:
    shop.rules([{"table": "orders", "rule": "a rule", "remedy": "None."} | rule])
    message = shop.refusal()
    assert words in message
    assert "rules.yaml" in message


def test_a_rule_in_sql_reads_nothing_but_the_tables(shop: Shop) -> None:
    rule = {"table": "orders", "rule": "a rule", "remedy": "None.", "sql": "SELECT * FROM read_text('/etc/hostname')"}
    shop.rules([rule])
    assert "cannot be run" in shop.refusal()


def test_a_missing_schema_and_a_broken_one_are_named(shop: Shop) -> None:
    schema = shop.project / "expectations" / "orders.pbtxt"
    schema.write_text("feature { nonsense }")
    assert "expectations/orders.pbtxt is not a TFDV schema" in shop.refusal()
    schema.unlink()
    assert "no schema for the table orders" in shop.refusal()


def test_a_large_table_is_judged_by_a_sample_and_the_report_says_so(shop: Shop) -> None:
    text = (shop.project / "pipeline.yaml").read_text()
    (shop.project / "pipeline.yaml").write_text(f"{text}validation: {{sample_rows: 1000, expectation_rows: 1000}}\n")
    many = GOOD_ORDERS.replace("range(1000)", "range(5000)").replace("INTERVAL 1 HOUR", "INTERVAL 1 MINUTE")
    assert failures(shop.validate(many), "critical") == []
    assert "at a sample of orders" in (shop.folder / "report" / "report.html").read_text()
    repeated = f"SELECT * REPLACE (if(order_id = 4999, 4998, order_id) AS order_id) FROM ({many})"
    assert "no two rows share it. 1 rows" in shop.refusal(repeated), "keys are checked in every row"


def test_what_the_data_hold_is_text_in_the_report_and_one_line_in_the_message(shop: Shop) -> None:
    attack = "<script>alert(1)</script>"
    message = shop.refusal(f"SELECT * REPLACE ('{attack}' || chr(10) || 'x' AS paid_by) FROM ({GOOD_ORDERS})")
    assert len(message.splitlines()) == 2
    assert attack in message
    report = (shop.folder / "report" / "report.html").read_text()
    assert attack not in report
    assert "&lt;script&gt;" in report
    assert "http" not in report.replace("http-equiv", ""), "the report needs no network"


def test_no_place_on_the_machine_and_no_secret_is_in_what_is_handed_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    shop.validate()
    for file in (shop.folder / "report" / "report.html", shop.folder / "validated" / "validation.json"):
        assert str(shop.folder) not in file.read_text()
        assert "hunter2" not in file.read_text()


def test_checks_are_written_as_the_contract_says(shop: Shop) -> None:
    shop.validate()
    (first, *_) = json.loads((shop.folder / "validated/validation.json").read_text())["checks"]
    keys = ["table", "column", "layer", "rule", "severity", "passed", "rows", "share", "examples", "remedy"]
    assert list(first) == [*keys, "recent", "quarantined"]


def test_a_histogram_is_cut_without_loss() -> None:
    edges, counts = [0.0, 1.0, 3.0, 3.0], [4.0, 8.0, 5.0]
    assert mass_between(edges, counts, 0, 1) == pytest.approx(4)
    assert mass_between(edges, counts, 0.5, 2) == pytest.approx(2 + 4)
    assert sum(mass_between(edges, counts, low, low + 0.5) for low in (0, 0.5, 1, 1.5, 2, 2.5, 3)) == pytest.approx(17)
