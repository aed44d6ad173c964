"""What `lifecycle schema` says of a project's tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import write_dataset
from google.protobuf import text_format
from shop import GOOD_ORDERS
from tensorflow_metadata.proto.v0 import schema_pb2

from kfp_lifecycle.components.data.validate_data.schema_review import (
    accepting_schemas,
    as_text,
    differences,
    in_words,
    main,
)
from kfp_lifecycle.runtime.contract import ContractViolation

NEWER_ORDERS = f"SELECT * REPLACE (if(order_id < 5, NULL, amount) AS amount), 'DE' AS country FROM ({GOOD_ORDERS})"


@pytest.fixture
def expectations(tmp_path: Path) -> Path:
    """The folder with the schema proposed from good orders."""
    folder = tmp_path / "expectations"
    folder.mkdir()
    proposal = main("infer", write_dataset(tmp_path / "good", orders=GOOD_ORDERS), folder, [])["orders"]
    assert isinstance(proposal, dict)
    (folder / "orders.pbtxt").write_text(proposal["text"])
    return folder


def test_a_schema_is_said_in_words(expectations: Path, tmp_path: Path) -> None:
    assert main("show", tmp_path, expectations, []) == {
        "orders": [
            "order_id: whole numbers, in every row",
            "customer_id: whole numbers, in every row",
            "ordered_at: a time, in every row",
            "recorded_at: a time, in every row",
            "amount: numbers, in every row",
            "paid_by: text, in every row, one of card, cash",
        ]
    }


def test_a_range_that_people_added_is_said_too() -> None:
    schema = text_format.Parse(
        'feature { name: "age" type: INT int_domain { min: 0 max: 120 } presence { min_fraction: 0.75 } }',
        schema_pb2.Schema(),
    )
    assert in_words(schema) == ["age: whole numbers, in at least 0.75 of rows, at least 0, at most 120"]


def test_differences_have_rows_and_what_is_accepted_has_none(expectations: Path, tmp_path: Path) -> None:
    newer = write_dataset(tmp_path / "newer", orders=NEWER_ORDERS)
    missing, new = differences(newer, expectations)["orders"]
    assert missing.startswith("orders.amount: it is filled in all rows. 5 rows (0.5%)")
    assert new.startswith("orders.country: the schema knows every column.")
    changed = accepting_schemas(newer, expectations)["orders"]
    (expectations / "orders.pbtxt").write_text(as_text(changed))
    assert differences(newer, expectations) == {"orders": []}


def test_a_table_that_is_not_there_is_named(expectations: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractViolation, match="the data has no table order; it has orders"):
        differences(write_dataset(tmp_path / "good", orders=GOOD_ORDERS), expectations, ["order"])
