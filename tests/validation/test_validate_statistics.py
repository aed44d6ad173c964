"""The statistics layer: bounds, and the newest days beside those of the last accepted dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import yaml
from datasets import write_dataset
from scipy.spatial.distance import jensenshannon
from shop import GOOD_ORDERS, ORDERS, make_project, validate

from kfp_lifecycle.components.data.validate_data.schema_review import as_text, propose_schemas
from kfp_lifecycle.data.checks import Check, failures
from kfp_lifecycle.data.comparison import chance_of_categories, chance_of_numbers
from kfp_lifecycle.data.table_statistics import few_valued
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.runtime.contract import ContractViolation

RATED = f"SELECT *, if(order_id % 5 = 0, NULL, 1 + order_id % 3) AS stars FROM ({GOOD_ORDERS})"
# Of 1,000 hourly orders the newest 28 days hold all from this one on.
FIRST_RECENT = 328


class Shop:
    """A shop with ratings, a fifth of them missing; one dataset is accepted already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = make_project(
            folder / "shop", f"duckdb:///{folder}/shop.duckdb", {"orders": {**ORDERS, "arrival_time": "recorded_at"}}
        )
        (self.project / "expectations").mkdir()
        (self.project / "expectations" / "rules.yaml").write_text("[]")
        for table, schema in propose_schemas(write_dataset(folder / "tables", orders=RATED)).items():
            for feature in schema.feature:
                if feature.name == "stars":
                    feature.presence.min_fraction = 0
            (self.project / "expectations" / f"{table}.pbtxt").write_text(as_text(schema))
        self.validate()

    def configure(self, **validation: Any) -> None:
        text = yaml.safe_load((self.project / "pipeline.yaml").read_text())
        (self.project / "pipeline.yaml").write_text(yaml.safe_dump({**text, "validation": validation}))

    def validate(self, query: str = RATED) -> list[Check]:
        write_dataset(self.folder / "tables", orders=query)
        place = self.folder / "validated"
        return validate(self.project, self.folder / "tables", place, self.folder / "report.html").checks

    def warnings(self, query: str) -> list[str]:
        return [check.sentence for check in failures(self.validate(query), "warning")]

    def refusal(self, query: str = RATED) -> str:
        with pytest.raises(ContractViolation) as violation:
            self.validate(query)
        return str(violation.value)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_more_missing_values_than_in_the_last_accepted_dataset_stop_the_run(shop: Shop) -> None:
    lost = f"SELECT * REPLACE (if(order_id > 800, NULL, stars) AS stars) FROM ({RATED})"
    message = shop.refusal(lost)
    assert "orders.stars: it is about as often empty in the newest 28 days as in those of the last" in message
    assert "(43.8% now, 19.9% then)" in message
    shop.configure(max_null_increase=0.3)
    assert failures(shop.validate(lost), "critical") == []


def test_a_change_of_the_newest_days_is_seen_though_it_is_little_of_the_whole(shop: Shop) -> None:
    (warning,) = shop.warnings(f"SELECT * REPLACE (if(order_id > 500, 'card', paid_by) AS paid_by) FROM ({RATED})")
    assert "orders.paid_by: it is distributed as in the last accepted dataset" in warning
    assert "in the newest 28 days" in warning


def test_many_fewer_rows_in_the_newest_days_are_a_warning(shop: Shop) -> None:
    (warning,) = shop.warnings(f"SELECT * FROM ({RATED}) WHERE order_id < {FIRST_RECENT} OR hash(order_id) % 3 = 0")
    assert "orders: its newest 28 days have about as many rows" in warning
    assert "now, 672 then)" in warning


def test_an_outlier_is_a_warning_with_its_value(shop: Shop) -> None:
    warnings = shop.warnings(f"SELECT * REPLACE (if(order_id = 9, 999999, amount) AS amount) FROM ({RATED})")
    (warning,) = (warning for warning in warnings if "far beyond" in warning)
    assert "orders.amount: no value is far beyond those of the last accepted dataset (4 to 22)" in warning
    assert "1 rows (0.1%), such as 999999.0" in warning


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"min_rows": 1001}, "orders: it has at least 1,001 rows; it has 1,000"),
        ({"max_rows": 999}, "orders: it has at most 999 rows; it has 1,000"),
        ({"max_age_days": 30}, "its newest event is at most 30 days older than now"),
    ],
)
def test_a_table_out_of_its_bounds_stops_the_run(shop: Shop, bounds: dict[str, Any], words: str) -> None:
    shop.configure(bounds={"orders": bounds})
    message = shop.refusal()
    assert words in message
    assert "change validation.bounds.orders" in message


def test_bounds_that_hold_are_checks_too(shop: Shop) -> None:
    shop.configure(bounds={"orders": {"min_rows": 1000, "max_rows": 1000, "max_lag_days": 0}})
    rules = [check.rule for check in shop.validate() if check.passed and check.column is None]
    assert {"it has at least 1,000 rows", "it has at most 1,000 rows"} <= set(rules)


def test_bounds_of_a_table_that_is_not_there_are_a_mistake(shop: Shop) -> None:
    shop.configure(bounds={"order": {"min_rows": 1}})
    assert "validation.bounds names the table order, which is unknown. Did you mean orders?" in shop.refusal()


def test_chance_allows_less_the_more_rows_there_are() -> None:
    few, many = (chance_of_categories(rows, rows) for rows in (100, 10_000))
    assert few == pytest.approx(10 * many)
    assert many == pytest.approx(3 * 0.5 * (2 / 10_000) ** 0.5)


def test_two_samples_of_one_distribution_are_hardly_ever_farther_apart_than_chance_allows() -> None:
    random, farther = np.random.default_rng(1), 0
    for _ in range(500):
        one, other = (random.multinomial(200, np.full(20, 0.05)) / 200 for _ in range(2))
        farther += jensenshannon(one, other, base=2) ** 2 > chance_of_numbers(200, 200, 20)
    assert 0 <= farther < 10, "three standard errors of a chi-squared variable"


def test_a_column_without_any_value_is_named_and_breaks_nothing_else(shop: Shop) -> None:
    message = shop.refusal(f"SELECT * REPLACE (NULL::DOUBLE AS amount) FROM ({RATED})")
    assert "orders.amount: " in message
    assert "1,000 rows (100.0%)" in message
    assert "no value at all" in (shop.folder / "report.html").read_text()


def test_a_schema_of_a_column_that_is_not_there_is_a_missing_column(shop: Shop) -> None:
    schema = shop.project / "expectations" / "orders.pbtxt"
    schema.write_text(schema.read_text() + 'feature { name: "coupon" type: BYTES presence { min_count: 1 } }')
    assert "orders.coupon: the column exists" in shop.refusal()


def test_a_rule_on_a_column_that_is_not_there_is_not_passed_over(shop: Shop) -> None:
    rule: dict[str, Any] = {"table": "orders", "rule": "coupons are short", "remedy": "Cut them."}
    rule |= {"expectation": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "coupon", "max_value": 9}}
    (shop.project / "expectations" / "rules.yaml").write_text(yaml.safe_dump([rule]))
    assert "coupons are short (it cannot be judged: the table has no column coupon)" in shop.refusal()


@pytest.mark.slow
def test_a_hundred_columns_are_checked_each_and_drawn_in_part(shop: Shop) -> None:
    columns = ", ".join(f"order_id % {2 + i % 7} + 0.5 AS c{i}" for i in range(100))
    unknown = failures(shop.validate(f"SELECT *, {columns} FROM ({RATED})"), "warning")
    assert len(unknown) == 100
    report = (shop.folder / "report.html").read_text()
    assert "60 of 107 columns are drawn" in report


@pytest.mark.slow
def test_numbers_of_three_hundred_columns_are_counted_within_a_steps_memory(tmp_path: Path) -> None:
    # DuckDB gives each distinct count megabytes on each thread: all at once they needed more than a step may have.
    columns = {f"column_{number}": "DOUBLE" for number in range(300)}
    values = [f"hash(i, {number}) % {40 if number < 3 else 1_000_000}::DOUBLE" for number in range(len(columns))]
    named = ", ".join(f"{value} AS {name}" for value, name in zip(values, columns, strict=True))
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {named} FROM range(2000) AS rows(i)) TO '{tmp_path / 'wide.parquet'}'")
    with tables_database(tmp_path, ["wide"]) as connection:
        assert few_valued(connection, "wide", columns, "true") == {"column_0", "column_1", "column_2"}
