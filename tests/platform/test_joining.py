"""Further tables of a new project: joined by the key to the one that has the label, and what cannot be joined."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from test_init import CUSTOMERS, answering

from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.projects.joining import JoinedTable, join
from kfp_lifecycle.projects.place import Place
from kfp_lifecycle.projects.profile import profile_of
from kfp_lifecycle.projects.questions import Answers, ask_all
from kfp_lifecycle.projects.scaffold import write_project
from kfp_lifecycle.runtime.contract import ContractViolation

BILLS = """
    SELECT 1000 + i AS customer_id, i % 7 + 0.5 AS owed, ['f', 'm'][1 + i % 2] AS gender, i % 3 AS age,
        'EUR' AS currency, hash(i) % 3 = 0 AS dunned FROM range(40, 320) numbers(i)
"""
ORDERS = (
    "SELECT i AS order_id, 1000 + i % 150 AS customer_no, i / 3 AS amount, i % 5 = 0 AS gift FROM range(900) numbers(i)"
)


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    duckdb.execute(f"COPY ({CUSTOMERS}) TO '{tmp_path / 'customers.parquet'}' (FORMAT parquet)")
    return ask_all(profile_of(tmp_path / "customers.parquet"), answering(), alone=False)


def joined(folder: Path, answers: Answers, query: str, table: str) -> JoinedTable:
    file = folder / f"{table}.parquet"
    duckdb.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
    taken = [column.name for column in answers.profile.columns]
    return join(answers, folder / "customers.parquet", Place(str(file), "", table), {}, profile_of(file), taken)


def rows(folder: Path, table: JoinedTable) -> list[tuple[object, ...]]:
    """What the table's query gives, in the order of its key."""
    source = f"(SELECT * FROM read_parquet('{folder / table.place.table}.parquet')) AS source"
    return duckdb.execute(f"{table.query.replace('FROM source', f'FROM {source}')} ORDER BY ALL").fetchall()


def test_a_table_with_a_row_for_each_is_taken_as_it_is_and_its_leaks_are_left_out(
    tmp_path: Path, answers: Answers
) -> None:
    bills = joined(tmp_path, answers, BILLS, "bills")
    # The customers have an age, too.
    assert [column.name for column in bills.features] == ["owed", "bills_age"]
    assert [column.name for column in bills.sensitive] == ["gender"]
    left_out = {column.name: why for column, why in bills.left_out}
    assert left_out.keys() == {"currency", "dunned"}
    assert "it knows churned (ROC AUC 1.000 alone)" in left_out["dunned"]
    assert bills.match_share == pytest.approx(260 / 300)
    assert bills.notes[:2] == (
        "bills has no row for 40 of 300: its features are missing there",
        "20 of 280 in bills have no label, and are not used",
    )
    assert rows(tmp_path, bills)[0] == (
        1040,
        5.5,
        "f",
        1,
        "EUR",
        duckdb.execute("SELECT hash(40) % 3 = 0").fetchall()[0][0],
    )


def test_of_a_table_with_several_rows_for_each_one_is_made_and_said(tmp_path: Path, answers: Answers) -> None:
    orders = joined(tmp_path, answers, ORDERS, "orders")
    assert [column.name for column in orders.features] == [
        "orders_rows", "sum_of_amount", "mean_of_amount", "share_of_gift",
    ]  # fmt: skip
    # The rows 0, 150, …, 750 are of the first.
    assert rows(tmp_path, orders)[0] == (1000, 6, pytest.approx(750), pytest.approx(125), 1.0)
    assert any("900 rows of 150: its query makes one row of each" in note for note in orders.notes)
    assert any("order_id of orders is not aggregated" in note for note in orders.notes)


def test_the_project_reads_each_from_its_place_and_knows_its_columns(tmp_path: Path, answers: Answers) -> None:
    tables = [joined(tmp_path, answers, BILLS, "bills"), joined(tmp_path, answers, ORDERS, "orders")]
    place = Place(str(tmp_path / "customers.parquet"), "", "customers")
    write_project(tmp_path / "shop", "shop", place, {}, answers, [], tables)
    written = load_configuration(tmp_path / "shop")
    assert written.features.tables == ["customers", "bills", "orders"]
    assert written.features.left_out("bills") == {"currency", "dunned"}
    assert written.features.sensitive == ["bills:gender"]
    assert {table.connection for table in written.source.tables.values()} == {None, "bills", "orders"}
    assert all(table.key == ["customer_id"] for table in written.source.tables.values())
    # Half of the customers have orders: 0.5 would refuse another day's data.
    assert written.features.min_match_share == 0.4
    readme = (tmp_path / "shop" / "README.md").read_text()
    assert "`orders` is joined to it by `customer_id`" in readme


def test_keys_that_are_texts_in_one_and_numbers_in_another_are_read_alike(tmp_path: Path, answers: Answers) -> None:
    as_text = f"SELECT * REPLACE (customer_id::VARCHAR AS customer_id) FROM ({BILLS})"
    assert joined(tmp_path, answers, as_text, "bills").match_share == pytest.approx(260 / 300)
    as_fraction = f"SELECT * REPLACE (customer_id::DOUBLE AS customer_id) FROM ({BILLS})"
    assert joined(tmp_path, answers, as_fraction, "bills").match_share == pytest.approx(260 / 300)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            f"SELECT * REPLACE (customer_id + 5000 AS customer_id) FROM ({BILLS})",
            "no customer_id of it is a customer_id",
        ),
        (f"SELECT * EXCLUDE (customer_id) FROM ({BILLS})", "it has no column customer_id, and none whose values are"),
    ],
)
def test_a_table_without_the_key_or_its_values_is_refused(
    tmp_path: Path, answers: Answers, query: str, words: str
) -> None:
    with pytest.raises(ContractViolation, match=words):
        joined(tmp_path, answers, query, "bills")


def test_a_table_of_events_or_without_a_key_is_joined_to_nothing(tmp_path: Path, answers: Answers) -> None:
    events = ask_all(answers.profile, answering(entity="row_id"), alone=False)
    with pytest.raises(ContractViolation, match="the first one that --from names has to hold it"):
        joined(tmp_path, events, BILLS, "bills")
