"""A value may not change on the way: it arrives as it was, or is refused with its column, row and value."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import sqlite3
import string
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shop import ORDERS, file_url, ingest, make_database, make_project, parquet_rows

from kfp_lifecycle.runtime.contract import ContractViolation

DAY = "2025-01-01"
PROPERTY = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def read(folder: Path, content: str | bytes, kind: str = "csv", **table: Any) -> list[dict[str, Any]]:
    """The rows of one file, as the table orders."""
    file = folder / f"orders.{kind}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ingested(folder, file_url(file), **table)


def ingested(folder: Path, url: str, **table: Any) -> list[dict[str, Any]]:
    project = make_project(folder / "shop", url, {"orders": {**ORDERS, **table}})
    manifest = ingest(project, folder / "tables")
    names = list(manifest.tables["orders"].columns)
    return [dict(zip(names, row, strict=True)) for row in parquet_rows(folder / "tables" / "orders.parquet")]


def refusal(folder: Path, content: str | bytes, kind: str = "csv", **table: Any) -> str:
    with pytest.raises(ContractViolation) as violation:
        read(folder, content, kind, **table)
    return str(violation.value)


def cells(folder: Path, *values: str) -> list[Any]:
    """What becomes of the cells of one CSV column."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(
        [("order_id", "ordered_at", "x"), *((i, DAY, value) for i, value in enumerate(values))]
    )
    return [row["x"] for row in read(folder, text.getvalue())]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("2.5", ""), [2.5, None]),
        (("", "", "3"), [None, None, 3]),
        (("2025-01-02", ""), [date(2025, 1, 2), None]),
        (("true", "", "FALSE"), [True, None, False]),
        (("", ""), [None, None]),
        # Codes, not powers of ten.
        (("12E4", "120"), ["12E4", "120"]),
        (("1E5", "7"), ["1E5", "7"]),
        (("1e5", "0.5"), [1e5, 0.5]),
        (("1e-05", "3"), [1e-05, 3.0]),
        (("9007199254740993", "1"), [9007199254740993, 1]),
        (("9007199254740993", "0.5"), ["9007199254740993", "0.5"]),
        (("9007199254740992", "0.5"), [9007199254740992.0, 0.5]),
        (("123456789012345678901234", "1"), ["123456789012345678901234", "1"]),
        (("0.30000000000000004", "0.1"), [0.30000000000000004, 0.1]),
        (("0.1234567890123456789", "0.1"), ["0.1234567890123456789", "0.1"]),
        (("1e999", "1.5"), ["1e999", "1.5"]),
        (("1e-999", "1.5"), ["1e-999", "1.5"]),
        (("-0", "0"), [-0.0, 0.0]),
        (("+1", "2"), ["+1", "2"]),
        (("1_000", "2"), ["1_000", "2"]),
        ((" 3 ", "4"), [" 3 ", "4"]),
        (("３", "4"), ["３", "4"]),
        (("0000-01-01", "2025-01-01"), ["0000-01-01", "2025-01-01"]),
        (("2025-01-01 00:00:00.1234567", "2025-01-01"), ["2025-01-01 00:00:00.1234567", "2025-01-01"]),
        (("2025-01-01 00:00:00.123456000", ""), [datetime(2025, 1, 1, 0, 0, 0, 123456), None]),
    ],
)
def test_a_csv_cell_is_what_it_was(tmp_path: Path, values: tuple[str, ...], expected: list[Any]) -> None:
    found = cells(tmp_path, *values)
    assert [(value, type(value)) for value in found] == [(value, type(value)) for value in expected]


def test_keys_that_are_different_texts_stay_different(tmp_path: Path) -> None:
    rows = read(tmp_path, f"order_id,ordered_at\n1.10,{DAY}\n1.1,{DAY}\n")
    assert sorted(row["order_id"] for row in rows) == ["1.1", "1.10"]
    rows = read(tmp_path, f"order_id,ordered_at\n1.5,{DAY}\n2.0,{DAY}\n")
    assert sorted(row["order_id"] for row in rows) == [1.5, 2.0]


SCHEMA = """
feature { name: "order_id" type: INT } feature { name: "x" type: FLOAT }
feature { name: "ordered_at" type: INT time_domain { integer_format: UNIX_SECONDS } }
"""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("9007199254740993", "'9007199254740993'"),
        ("0.1234567890123456789", "'0.1234567890123456789'"),
        ("abc", "'abc'"),
    ],
)
def test_a_value_that_the_schemas_type_does_not_keep_is_refused_with_its_row(
    tmp_path: Path, value: str, told: str
) -> None:
    folder = tmp_path / "shop" / "expectations"
    folder.mkdir(parents=True)
    (folder / "orders.pbtxt").write_text(SCHEMA)
    message = refusal(tmp_path, f"order_id,ordered_at,x\n1,{DAY},0.5\n2,{DAY},\n3,{DAY},{value}\n")
    assert f"holds {told} in the column x, which is DOUBLE by the schema orders.pbtxt (row 3)" in message


def test_a_schemas_column_with_an_empty_cell_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "expectations"
    folder.mkdir(parents=True)
    (folder / "orders.pbtxt").write_text(SCHEMA)
    assert [row["x"] for row in read(tmp_path, f"order_id,ordered_at,x\n1,{DAY},2.5\n2,{DAY},\n")] == [2.5, None]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("2.7::DOUBLE AS x", "3::BIGINT AS x", "the column x is BIGINT in 2.parquet, and DOUBLE in 1.parquet"),
        ("7::BIGINT AS x", "'007' AS x", "the column x is VARCHAR in 2.parquet, and BIGINT in 1.parquet"),
        ("DATE '2025-01-01' AS x", "TIMESTAMP '2025-01-01 10:00:00' AS x", "x is TIMESTAMP in 2.parquet"),
        ("1.5::DECIMAL(9,1) AS x", "1.25::DECIMAL(9,2) AS x", "x is DECIMAL(9,2) in 2.parquet"),
        ("1 AS x", "1 AS x, 2 AS y", "2.parquet has y besides, compared with 1.parquet"),
        ("1 AS x, 2 AS y", "1 AS x", "2.parquet lacks y, compared with 1.parquet"),
    ],
)
def test_parts_that_disagree_are_refused(tmp_path: Path, first: str, second: str, words: str) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    for number, column in enumerate((first, second), start=1):
        duckdb.execute(
            f"COPY (SELECT {number} AS order_id, DATE '{DAY}' AS ordered_at, {column}) "
            f"TO '{folder / f'{number}.parquet'}'"
        )
    project = make_project(tmp_path / "shop", file_url(folder.parent), format="parquet")
    with pytest.raises(ContractViolation) as violation:
        ingest(project, tmp_path / "tables")
    assert words in str(violation.value)


def test_parts_whose_types_hold_each_other_or_stand_in_another_order_are_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    rows = (f"1 AS order_id, DATE '{DAY}' AS ordered_at, 7::TINYINT AS x", "5000000000::BIGINT AS x, "
            f"2 AS order_id, DATE '{DAY}' AS ordered_at")  # fmt: skip
    for number, columns in enumerate(rows):
        duckdb.execute(f"COPY (SELECT {columns}) TO '{folder / f'{number}.parquet'}'")
    project = make_project(tmp_path / "shop", file_url(folder.parent), format="parquet")
    assert ingest(project, tmp_path / "tables").tables["orders"].columns["x"] == "BIGINT"
    assert [row[2] for row in parquet_rows(tmp_path / "tables" / "orders.parquet")] == [7, 5_000_000_000]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_folders_name_is_no_column(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "x=9" / "year=2025"
    folder.mkdir(parents=True)
    form = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json"}[kind]
    file = folder / f"orders.{kind}"
    duckdb.execute(f"COPY (SELECT 1 AS order_id, DATE '{DAY}' AS ordered_at, 5 AS x) TO '{file}' ({form})")
    assert ingested(tmp_path, file_url(file)) == [{"order_id": 1, "ordered_at": datetime(2025, 1, 1), "x": 5}]


@pytest.mark.parametrize("left", ["2.csv.tmp", "1.csv.bak", "1.csv.gz", "old", "1.csv~"])
def test_what_is_left_beside_the_parts_of_a_table_is_named(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    text = f"order_id,ordered_at\n1,{DAY}\n"
    (folder / "1.csv").write_text(text)
    (folder / "_SUCCESS").touch()
    (folder / ".1.csv.crc").touch()
    project = make_project(tmp_path / "shop", file_url(folder.parent), format="csv")
    assert ingest(project, tmp_path / "tables").tables["orders"].rows == 1
    if left == "old":
        (folder / left).mkdir()
    else:
        (folder / left).write_bytes(gzip.compress(text.encode()) if left.endswith(".gz") else text.encode())
    with pytest.raises(ContractViolation, match=left):
        ingest(project, tmp_path / "tables")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["null"], "holds null in place of an object in its row 2"),
        (["[1]"], "holds a value of type ARRAY in place of an object in its row 2"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "x": 1, "x": 2}'], "row 2 of orders.jsonl has the column 'x'"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "X": 2}'], "'x' and 'X', whose names differ in case alone"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "x": "a"}'], "x is 1 in row 1, which has another type"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "x": 123456789012345678901234}'], "row 2, which has more than"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "x": 0.1234567890123456789}'], "in row 2, which has more than"),
        (['{"order_id": 2, "ordered_at": "2025-01-01", "x": 9007199254740993}',
          '{"order_id": 3, "ordered_at": "2025-01-01", "x": 0.5}'], "x is 9007199254740993 in row 2"),
    ],
)  # fmt: skip
def test_a_json_line_that_would_change_is_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    first = '{"order_id": 1, "ordered_at": "2025-01-01", "x": 1}'
    assert words in refusal(tmp_path, "\n".join([first, *lines]) + "\n", "jsonl")


def test_a_json_array_is_refused_in_words(tmp_path: Path) -> None:
    assert "is one JSON array, and not an object in each line" in refusal(tmp_path, '[\n{"order_id": 1}\n]\n', "jsonl")


def test_integers_wider_than_bigint_keep_their_digits(tmp_path: Path) -> None:
    url = make_database(
        tmp_path / "shop.duckdb",
        orders=f"SELECT 1 AS order_id, DATE '{DAY}' AS ordered_at, 123456789012345678901234::HUGEINT AS wide, "
        "5::HUGEINT AS narrow, 18446744073709551615::UBIGINT AS unsigned",
    )
    (row,) = ingested(tmp_path, url)
    assert (row["wide"], row["narrow"], row["unsigned"]) == (Decimal(123456789012345678901234), 5, 2**64 - 1)


@pytest.mark.parametrize(
    "value", ["TIMETZ '10:00:00+02'", "[1::HUGEINT]", "170141183460469231731687303715884105727::HUGEINT"]
)
def test_a_type_that_parquet_would_change_is_refused(tmp_path: Path, value: str) -> None:
    url = make_database(tmp_path / "a.duckdb", orders=f"SELECT 1 AS order_id, DATE '{DAY}' AS ordered_at, {value} AS x")
    with pytest.raises(ContractViolation, match=r"orders\.x is .*[cC]ast it"):
        ingested(tmp_path, url)


@pytest.mark.parametrize("moment", ["0001-01-01 (BC)", "12000-01-01", "0044-03-15 (BC)"])
@pytest.mark.parametrize("column", ["ordered_at", "seen"])
def test_years_that_programs_cannot_hold_are_refused(tmp_path: Path, moment: str, column: str) -> None:
    times = {"ordered_at": f"TIMESTAMP '{DAY}'", "seen": f"DATE '{DAY}'", column: f"TIMESTAMP '{moment}'"}
    selected = ", ".join(f"{value} AS {name}" for name, value in times.items())
    duckdb.execute(f"COPY (SELECT 7 AS order_id, {selected}) TO '{tmp_path / 'orders.parquet'}'")
    with pytest.raises(ContractViolation, match=rf"orders\.{column} is .* where order_id is '7'"):
        ingested(tmp_path, file_url(tmp_path / "orders.parquet"))


def test_nanoseconds_of_an_event_are_refused_and_others_kept(tmp_path: Path) -> None:
    fine = "TIMESTAMP_NS '2025-01-01 00:00:00.123456789'"
    url = make_database(tmp_path / "a.duckdb", orders=f"SELECT 1 AS order_id, DATE '{DAY}' AS ordered_at, {fine} AS x")
    ingested(tmp_path, url)
    (text,) = duckdb.execute(f"SELECT x::VARCHAR FROM '{tmp_path / 'tables' / 'orders.parquet'}'").fetchall()[0]
    assert text == "2025-01-01 00:00:00.123456789"
    url = make_database(tmp_path / "b.duckdb", orders=f"SELECT 1 AS order_id, {fine} AS ordered_at")
    with pytest.raises(ContractViolation, match=r"finer than the microseconds"):
        ingested(tmp_path, url)


@pytest.mark.parametrize("kind", ["parquet", "csv", "duckdb"])
def test_names_in_capitals_can_be_a_key(tmp_path: Path, kind: str) -> None:
    rows = f'SELECT 1 AS "ORDER_ID", DATE \'{DAY}\' AS "ORDERED_AT", 2 AS "X_1"'
    if kind == "duckdb":
        url = make_database(tmp_path / "shop.duckdb", orders=rows)
    else:
        form = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER"}[kind]
        duckdb.execute(f"COPY ({rows}) TO '{tmp_path / f'orders.{kind}'}' ({form})")
        url = file_url(tmp_path / f"orders.{kind}")
    assert ingested(tmp_path, url) == [{"order_id": 1, "ordered_at": datetime(2025, 1, 1), "x_1": 2}]


def test_names_that_differ_in_case_alone_are_refused_in_words(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table([[1], [2]], names=["x", "X"]), tmp_path / "orders.parquet")
    with pytest.raises(ContractViolation, match=r"'x' and 'X', whose names differ in case alone"):
        ingested(tmp_path, file_url(tmp_path / "orders.parquet"))
    assert "'x' and 'X', whose names differ in case alone" in refusal(
        tmp_path, f"order_id,ordered_at,x,X\n1,{DAY},2,3\n"
    )


def test_a_day_is_the_same_moment_whether_others_have_an_hour(tmp_path: Path) -> None:
    zone = "America/New_York"
    days = read(tmp_path, "order_id,ordered_at\n1,2025-01-01\n2,2025-07-01\n", time_zone=zone)
    mixed = read(tmp_path, "order_id,ordered_at\n1,2025-01-01\n2,2025-07-01 00:00\n", time_zone=zone)
    assert days == mixed
    assert [row["ordered_at"] for row in days] == [datetime(2025, 1, 1, 5), datetime(2025, 7, 1, 4)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_flipped_bit_in_a_compressed_file_is_seen(tmp_path: Path, kind: str) -> None:
    line = {"csv": "1,2025-01-01,250.00\n", "txt": "1|250.00\n"}.get(
        kind, '{"order_id": 1, "ordered_at": "2025-01-01"}\n'
    )
    content = bytearray(gzip.compress((("order_id,ordered_at,x\n" if kind == "csv" else "") + line).encode(), 0))
    content[-10] ^= 0x04
    query = {"query": f"SELECT 1 AS order_id, DATE '{DAY}' AS ordered_at, line FROM source"} if kind == "txt" else {}
    assert f"orders.{kind}.gz is damaged or was cut off" in refusal(tmp_path, bytes(content), f"{kind}.gz", **query)


@pytest.mark.parametrize(("content", "words"), [("1,2.7", "no line end after its last row")])
def test_a_file_that_ends_in_the_middle_of_a_number_is_refused(tmp_path: Path, content: str, words: str) -> None:
    text = f"order_id,x,ordered_at\n1,2.5,{DAY}\n2,2.75,{DAY[:-1]}"
    assert words in refusal(tmp_path, text)


def test_a_refusal_quotes_the_cell_and_not_its_row(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "expectations"
    folder.mkdir(parents=True)
    (folder / "orders.pbtxt").write_text(
        SCHEMA.replace('"x" type: FLOAT', '"x" type: FLOAT } feature { name: "who" type: BYTES')
    )
    for row in (
        "3,{day},abc,Jane Doe of Main Street",
        '3,{day},1,"Jane Doe of Main Street',
        "3,{day},1,Jane Doe of Main Street,2",
    ):
        message = refusal(tmp_path, f"order_id,ordered_at,x,who\n{row.format(day=DAY)}\n")
        assert "Jane" not in message
    assert "Jane" not in refusal(tmp_path, '{"order_id": 1, "x": 2, "x": 3, "who": "Jane"}\n', "jsonl")
    assert "Jane" not in refusal(tmp_path, '{"order_id": 1, "who": "Jane"\n', "jsonl")


# What a cell of a CSV file may look like: anything, and what looks like a number, a time or a code.
LOOKS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12),
    st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?\Z"),
    st.from_regex(
        r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|\+02)?)?\Z"
    ),
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", "true", "False", "nan", "inf", "-0", "007", "1.10", "1.1"]),
)


def gives_back(text: str, value: Any) -> bool:
    """Whether a typed value is what the text says."""
    if value is None or isinstance(value, str):
        return (value or "") == text
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, int):
        return text == str(value)
    if isinstance(value, float):
        return (
            math.isnan(value) and "nan" in text.lower() if math.isnan(value) else Decimal(text) == Decimal(repr(value))
        )
    if isinstance(value, datetime):
        moment = text.rstrip("Z").removesuffix("+02")
        moment, _, fraction = moment.partition(".")
        told = datetime.fromisoformat(moment) + timedelta(microseconds=int(fraction[:6].ljust(6, "0") or 0))
        return not fraction[6:].strip("0") and value == told - timedelta(hours=2 * text.endswith("+02"))
    return value.isoformat() == text


@pytest.mark.slow
@PROPERTY
@given(st.lists(LOOKS, min_size=1, max_size=4))
@example(["24:00", "2025-01-01 24:00"])
def test_property_a_csv_cell_gives_back_its_text(values: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        try:
            found = cells(Path(name), *values)
        except ContractViolation:
            return
        assert len(found) == len(values)
        for text, value in zip(values, found, strict=True):
            assert gives_back(text, value) or text.endswith("24:00"), (text, value)


PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
TYPES: dict[str, st.SearchStrategy[Any]] = {
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "UBIGINT": st.integers(0, 2**64 - 1),
    "HUGEINT": st.integers(-(10**38) + 1, 10**38 - 1),
    "DOUBLE": st.floats(),
    "FLOAT": st.floats(width=32),
    "DECIMAL(18,3)": st.decimals(-(10**14), 10**14, places=3),
    "VARCHAR": PLAIN_TEXT,
    "BOOLEAN": st.booleans(),
    "DATE": st.dates(),
    "TIMESTAMP": MOMENTS,
    "TIMESTAMP WITH TIME ZONE": st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),
    "TIME": st.times(),
    "BLOB": st.binary(max_size=8),
    "VARCHAR[]": st.lists(PLAIN_TEXT, max_size=3),
    "STRUCT(a BIGINT, b VARCHAR)": st.fixed_dictionaries({"a": st.integers(-9, 9), "b": PLAIN_TEXT}),
}


def comparable(value: Any) -> Any:
    """A value that equals what it should equal: of a float also its kind of nothing, of a time its moment in UTC."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


@pytest.mark.parametrize(
    ("source", "kind"),
    # A Parquet file has no HUGEINT.
    [(source, kind) for source in ("duckdb", "parquet") for kind in TYPES if (source, kind) != ("parquet", "HUGEINT")],
)
@pytest.mark.slow
def test_property_every_type_reads_writes_and_reads_again_the_same(source: str, kind: str) -> None:
    @settings(PROPERTY, max_examples=12)
    @given(st.lists(st.one_of(st.none(), TYPES[kind]), min_size=1, max_size=4))
    def holds(values: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with duckdb.connect(str(folder / "shop.duckdb")) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute(f"CREATE TABLE orders (order_id BIGINT, ordered_at DATE, x {kind})")
                for number, value in enumerate(values):
                    connection.execute(f"INSERT INTO orders VALUES (?, DATE '{DAY}', ?)", [number, value])
                connection.execute(f"COPY orders TO '{folder / 'orders.parquet'}'")
            url = f"duckdb:///{folder / 'shop.duckdb'}" if source == "duckdb" else file_url(folder / "orders.parquet")
            once = [row["x"] for row in ingested(folder, url)]
            (folder / "tables" / "orders.parquet").rename(folder / "again.parquet")
            again = [row["x"] for row in ingested(folder, file_url(folder / "again.parquet"))]
        assert [comparable(value) for value in once] == [comparable(value) for value in values]
        assert [comparable(value) for value in again] == [comparable(value) for value in values]

    holds()


JSON_VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.integers()), min_size=1, max_size=4),
    st.lists(
        st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=4
    ),
    st.lists(st.one_of(st.none(), LOOKS), min_size=1, max_size=4),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=4),
    st.lists(st.one_of(st.integers(), PLAIN_TEXT, st.booleans()), min_size=2, max_size=4),
)


@pytest.mark.slow
@PROPERTY
@given(JSON_VALUES)
@example([1, "1"])
@example([2**53 + 1, 0.5])
def test_property_a_json_value_arrives_as_it_was(values: list[Any]) -> None:
    lines = [json.dumps({"order_id": i, "ordered_at": DAY, "x": value}) for i, value in enumerate(values)]
    with tempfile.TemporaryDirectory() as name:
        try:
            rows = read(Path(name), "\n".join(lines) + "\n", "jsonl")
        except ContractViolation:
            return
    for value, row in zip(values, rows, strict=True):
        found = row["x"]
        if isinstance(value, str) and not isinstance(found, str):
            assert gives_back(value, found) or value.endswith("24:00"), (value, found)
        elif isinstance(value, bool) or value is None or isinstance(value, str):
            assert (found, type(found)) == (value, type(value))
        else:
            assert isinstance(found, (int, float))
            assert not isinstance(found, bool)
            assert Decimal(found) == Decimal(value)


@pytest.mark.slow
@PROPERTY
@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=4),
        st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), min_size=1, max_size=4),
        st.lists(st.one_of(st.none(), PLAIN_TEXT), min_size=1, max_size=4),
        st.lists(st.one_of(st.none(), st.binary(max_size=6)), min_size=1, max_size=4),
        st.lists(st.one_of(st.integers(0, 9), PLAIN_TEXT), min_size=1, max_size=4),
    )
)
@example([2**53 + 1, 0.5])
def test_property_a_value_of_sqlite_arrives_as_it_was(values: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "shop.db"
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE orders (order_id, ordered_at, x)")
            connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(i, DAY, v) for i, v in enumerate(values)])
            connection.commit()
        query = "SELECT * REPLACE (CAST(ordered_at AS TIMESTAMP) AS ordered_at) FROM source"
        try:
            rows = ingested(Path(name), f"sqlite:///{file}", query=query)
        except ContractViolation:
            return
    assert [comparable(row["x"]) for row in rows] == [comparable(value) for value in values] or [
        row["x"] for row in rows
    ] == [float(value) for value in values]
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, int) and isinstance(row["x"], float):
            assert int(row["x"]) == value


def test_the_letters_of_sql_are_letters(tmp_path: Path) -> None:
    names = ["a'b", 'a"b', "a;b", "{a}", "a\\b", "%s", "ü", "a b"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    (row,) = read(tmp_path, f"order_id,ordered_at,{header}\n1,{DAY},{','.join(string.ascii_lowercase[: len(names)])}\n")
    assert list(row)[2:] == names


def test_numbers_with_exponents_of_every_length_are_numbers(tmp_path: Path) -> None:
    texts = [f"{number!r}" for number in (1.2e-05, 1.25e-05, 1e-05, 12345.5e-10, -1.5e-07, 1.5e20, 1e22)]
    assert cells(tmp_path, *texts) == [float(text) for text in texts]
