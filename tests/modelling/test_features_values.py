"""A value of a view is the value that its SQL gave: what a feature's type does not hold is refused, never changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_lifecycle.features.definitions import DUCKDB_TYPES, Definitions
from kfp_lifecycle.features.offline.point_in_time import checked_result, session
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import definitions_of
from tests.lending_library import START, write_project

TYPES = {str(feast_type): duckdb_type for feast_type, duckdb_type in DUCKDB_TYPES.items()}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return definitions_of(write_project(tmp_path_factory.mktemp("library") / "project"))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with session(tmp_path_factory.mktemp("tables")) as opened:
        yield opened


def result(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, rows: str, wanted: str
) -> list[dict[str, Any]]:
    """What a view with one feature of a type gives, where its SQL gives rows of a key and that feature."""
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE "query result" AS SELECT * FROM (VALUES {rows}) AS rows(reader_id, town)'
    )
    return checked_result(connection, definitions, "person.sql", {"town": TYPES[wanted]}, START).read_all().to_pylist()


@pytest.mark.parametrize(
    ("value", "wanted", "kept"),
    [
        ("3.0::DOUBLE", "Int64", 3),
        ("sum", "Int64", 3),
        ("0.0::DOUBLE", "Bool", False),
        ("TRUE", "Int64", 1),
        ("'3'", "Int64", 3),
        ("'true'", "Bool", True),
        ("3::UBIGINT", "Int32", 3),
        ("9007199254740992", "Float64", 2.0**53),
        ("0.1", "Float64", 0.1),
        ("'nan'::DOUBLE", "Float64", None),
        ("'nan'::DOUBLE", "Int64", None),
        ("NULL", "Bool", None),
        ("0.1::DOUBLE", "Float32", 0.10000000149011612),
        ("16777216", "Float32", 16777216.0),
        ("17", "String", "17"),
        ("TIMESTAMP '2025-01-02 03:04:05.6'", "UnixTimestamp", START.replace(day=2, hour=3, minute=4, second=5)),
        ("DATE '2025-01-01'", "UnixTimestamp", START),
    ],
)
def test_a_value_that_its_type_holds_is_taken(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, value: str, wanted: str, kept: Any
) -> None:
    value = "(SELECT sum(n) FROM range(3) AS numbers(n))" if value == "sum" else value
    [row] = result(connection, definitions, f"(1, {value})", wanted)
    assert row["town"] == kept


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        ("0.4::DOUBLE", "Int64", r"town is 0\.4 \(DOUBLE\) for reader_id 7, which is no Int64: it would become 0\. "),
        ("0.4", "Int64", r"is 0\.4 \(DECIMAL"),
        ("-0.5::DOUBLE", "Int32", r"is -0\.5 "),
        ("0.3::DOUBLE", "Bool", r"is 0\.3 .* no Bool: it would become true"),
        ("2", "Bool", "it would become true"),
        ("-1", "Bool", "it would become true"),
        ("2147483648", "Int32", "2147483648 .* would become nothing"),
        ("9223372036854775808", "Int64", "would become nothing"),
        ("1e19::DOUBLE", "Int64", "would become nothing"),
        ("'007'", "Int64", r"is 007 \(VARCHAR\).* would become 7"),
        ("' 3 '", "Int64", "would become 3"),
        ("'1e3'", "Int64", "would become 1000"),
        ("'2.50'", "Float64", r"would become 2\.5"),
        ("'yes'", "Bool", "would become true"),
        ("9007199254740993", "Float64", "would become 9007199254740992"),
        ("9223372036854775807", "Float64", "no Float64"),
        ("12345678901234567.12::DECIMAL(19, 2)", "Float64", "no Float64"),
        ("16777217", "Float32", "would become 16777216"),
        ("1e300::DOUBLE", "Float32", "would become nothing"),
        ("'inf'::DOUBLE", "Float64", r"person\.sql: town is infinite for reader_id 7: .*nullif"),
        ("'-inf'::DOUBLE", "Float64", "is infinite"),
        ("'inf'::FLOAT", "Float64", "is infinite"),
        ("'inf'::DOUBLE", "Int64", "is infinite"),
        ("'2025-01-01'", "UnixTimestamp", "no UnixTimestamp"),
        ("'infinity'::TIMESTAMP", "UnixTimestamp", "is infinite"),
        ("INTERVAL 1 DAY", "Int64", "no Int64"),
    ],
)
def test_a_value_that_its_type_would_change_is_refused(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, value: str, wanted: str, said: str
) -> None:
    with pytest.raises(ContractViolation, match=said):
        result(connection, definitions, f"(3, NULL), (7, {value}), (9, NULL)", wanted)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["'001'", "'1'"], r"reader_id is 001 \(VARCHAR\) for one row, which is no Int64: it would become 1"),
        (["1.4::DOUBLE", "1.0::DOUBLE"], r"reader_id is 1\.4"),
        (["' 1'", "'2'"], "reader_id is  1"),
        (["9223372036854775808", "1"], "would become nothing"),
        (["'1'", "'1'"], "returned 2 for 1"),
        (["'nan'::DOUBLE", "1.0::DOUBLE"], "returned 1 for None"),
    ],
)
def test_two_keys_never_become_one(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, keys: list[str], said: str
) -> None:
    with pytest.raises(ContractViolation, match=said):
        result(connection, definitions, ", ".join(f"({key}, 'Ulm')" for key in keys), "String")


@settings(deadline=None)
@given(value=st.floats() | st.integers(-(2**70), 2**70), wanted=st.sampled_from(["Int32", "Int64", "Float64", "Bool"]))
def test_whatever_is_taken_is_the_value_that_was_given(
    connection: duckdb.DuckDBPyConnection, definitions: Definitions, value: float, wanted: str
) -> None:
    written = f"'{value!r}'::DOUBLE" if isinstance(value, float) else f"'{value}'::HUGEINT"
    try:
        [row] = result(connection, definitions, f"(1, {written})", wanted)
    except ContractViolation:
        exact = isinstance(value, int) or math.isfinite(value)
        fits = {
            "Int32": -(2**31) <= value < 2**31 and value == int(value) if exact else False,
            "Int64": -(2**63) <= value < 2**63 and value == int(value) if exact else False,
            # A whole number beyond 53 bits may be one that a fraction holds, and is refused at the type's very end.
            "Float64": exact and abs(value) < 2**53,
            "Bool": value in (0, 1),
        }
        assert not fits[wanted], f"{value!r} was refused as {wanted}"
    else:
        missing = isinstance(value, float) and math.isnan(value)
        assert row["town"] is None if missing else row["town"] == value
