"""A file that is not what its author meant is refused, with its name, the table, the column and what to do."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from shop import GOOD_ORDERS, ORDERS, file_url, ingest, make_project, parquet_rows

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.runtime.contract import ContractViolation

HEADER = "order_id,ordered_at,amount\n"
GOOD = f"{HEADER}1,2025-01-01,2.5\n2,2025-01-02,3\n"


def read(
    tmp_path: Path, content: bytes | str, kind: str = "csv", **table: Any
) -> tuple[Manifest, list[dict[str, Any]]]:
    """Ingest one file as the table orders: its manifest and rows."""
    file = tmp_path / f"orders.{kind}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    project = make_project(tmp_path / "shop", file_url(file), {"orders": {**ORDERS, **table}})
    manifest = ingest(project, tmp_path / "tables")
    names = list(manifest.tables["orders"].columns)
    rows = parquet_rows(tmp_path / "tables" / "orders.parquet")
    return manifest, [dict(zip(names, row, strict=True)) for row in rows]


def refusal(tmp_path: Path, content: bytes | str, kind: str = "csv", **table: Any) -> str:
    with pytest.raises(ContractViolation) as violation:
        read(tmp_path, content, kind, **table)
    assert not (tmp_path / "tables").exists()
    message = str(violation.value)
    assert "order" in message
    # The same project works once the file is mended.
    (tmp_path / "shop" / "expectations").mkdir(exist_ok=True)
    read(tmp_path, GOOD)
    return message


def amounts(*others: str) -> str:
    """Orders whose amounts are numbers, save for some."""
    cells = [*(f"{number}.5" for number in range(1, 20)), *others]
    return HEADER + "".join(f"{number},2025-01-01,{cell}\n" for number, cell in enumerate(cells, start=1))


@pytest.mark.parametrize("mark", [" ", "NA", "n/a", "?", "-", "NULL"])
def test_a_column_of_numbers_is_not_read_as_text_for_a_few_marks_of_missing_values(tmp_path: Path, mark: str) -> None:
    message = refusal(tmp_path, amounts(mark, mark))
    assert f"has {mark!r} in 2 cells of the column amount, whose other values are numbers or times" in message
    assert f'source.missing: ["{mark}"]' in message


def test_a_mark_that_the_project_names_is_a_missing_value(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(amounts(" ", "?", ""))
    project = make_project(tmp_path / "shop", file_url(tmp_path / "orders.csv"), {"orders": ORDERS}, missing=[" ", "?"])
    assert ingest(project, tmp_path / "tables").tables["orders"].columns["amount"] == "DOUBLE"
    rows = parquet_rows(tmp_path / "tables" / "orders.parquet")
    assert [row[2] for row in rows[-4:]] == [19.5, None, None, None]


GERMAN = "order_id;ordered_at;amount;city\n1;2025-01-01;2,5;Köln\n2;2025-01-02;-0,25;Zürich\n3;2025-01-03;1200;\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16"])
def test_decimal_commas_and_other_encodings_are_read_where_the_project_says_so(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "orders.csv").write_bytes(GERMAN.encode(encoding))
    url = file_url(tmp_path / "orders.csv")
    project = make_project(tmp_path / "shop", url, {"orders": ORDERS}, decimal=",", encoding=encoding)
    assert ingest(project, tmp_path / "tables").tables["orders"].columns["amount"] == "DOUBLE"
    rows = parquet_rows(tmp_path / "tables" / "orders.parquet")
    assert [row[2:] for row in rows] == [(2.5, "Köln"), (-0.25, "Zürich"), (1200.0, None)]


def test_a_decimal_comma_that_nobody_named_is_told(tmp_path: Path) -> None:
    message = refusal(tmp_path, GERMAN)
    assert "has numbers with a decimal comma, such as '2,5', in the column amount" in message
    assert 'source.decimal: ","' in message


def test_points_are_no_part_of_numbers_with_a_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(
        "order_id;ordered_at;amount\n1;2025-01-01;1.200,5\n2;2025-01-01 10:00:00.5;1.5\n"
    )
    url = file_url(tmp_path / "orders.csv")
    project = make_project(tmp_path / "shop", url, {"orders": ORDERS}, decimal=",")
    assert ingest(project, tmp_path / "tables").tables["orders"].columns["amount"] == "VARCHAR"


def test_a_file_in_another_encoding_than_the_project_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(GERMAN.encode("latin-1"))
    url = file_url(tmp_path / "orders.csv")
    project = make_project(tmp_path / "shop", url, {"orders": ORDERS}, decimal=",", encoding="utf-16")
    with pytest.raises(ContractViolation, match=r"orders\.csv is no text in utf-16, as source\.encoding says"):
        ingest(project, tmp_path / "tables")


def test_a_first_column_without_a_name_holds_the_names_of_rows(tmp_path: Path) -> None:
    manifest, rows = read(tmp_path, f",{HEADER}a,1,2025-01-01,2.5\n")
    assert next(iter(manifest.tables["orders"].columns)) == "row_name"
    assert rows[0]["row_name"] == "a"


@pytest.mark.parametrize("text", ["K", "A1", "express"])
def test_a_column_of_numbers_and_words_is_text(tmp_path: Path, text: str) -> None:
    manifest, _ = read(tmp_path, amounts(text))
    assert manifest.tables["orders"].columns["amount"] == "VARCHAR"


def a_parquet_file(folder: Path) -> bytes:
    file = folder / "whole.parquet"
    duckdb.execute(f"COPY ({GOOD_ORDERS}) TO '{file}'")
    return file.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "orders.csv of file:///"),
        ("\n", "lacks even a header"),
        (HEADER, "orders is empty"),
        (HEADER + "1,2025-01-01\n", "has 2 fields in line 2, and 3 names in its header"),
        (HEADER + "1,2025-01-01,2,3\n", "has 4 fields in line 2, and 3 names in its header"),
        (HEADER + '1,2025-01-01,"2\n', "nterminated quote"),
        ("order_id,ordered_at,ordered_at\n1,2025-01-01,2\n", "orders.csv has the column 'ordered_at' twice"),
        ("order_id,ordered_at,\n1,2025-01-01,2\n", "a column without a name"),
        ("Order_ID,ordered_at,x\n1,2025-01-01,2\n", "orders has no column order_id"),
        ("order_id,ordered_at,name\n1,2025-01-01,Zoë\n".encode("latin-1"), "UTF-8"),
        ("order_id,ordered_at,name\n1,2025-01-01,Zoë\n".encode("utf-16"), "UTF-8"),
        ("order_id,ordered_at,name\n1,2025-01-01,a\x00b\nééé\n", "has 1 fields in line 3"),
        (HEADER + "1,01/02/2025,1\n2,02/01/2025,2\n", "it holds '01/02/2025', '02/01/2025'"),
        (HEADER + "1,2025-01-02,\n2,3.1.2025,\n3,20250104,\n4,Jan 5 2025,\n5,1735689600,\n", "it holds '1735689600'"),
        (HEADER + "1,2025-01-02 10:00:00,1\n2,2025-01-02 10:00:00+02,1\n", "1 of 2 values have a time zone"),
        (HEADER + "1,2025-02-30,1\n", "it holds '2025-02-30'"),
    ],
)  # fmt: skip
def test_a_csv_that_could_be_misread_is_refused(tmp_path: Path, content: bytes | str, words: str) -> None:
    assert words in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("kind", "words"), [("parquet", "orders.parquet"), ("jsonl", "orders.jsonl"), ("csv.gz", "orders.csv.gz")]
)
def test_a_file_that_is_cut_off_or_empty_is_refused(tmp_path: Path, kind: str, words: str) -> None:
    lines = "".join(json.dumps({"order_id": i, "ordered_at": "2025-01-01"}) + "\n" for i in range(100))
    whole = {
        "parquet": a_parquet_file(tmp_path),
        "jsonl": lines.encode(),
        "csv.gz": gzip.compress(GOOD.encode() * 100),
    }[kind]
    for content in (b"", whole[: len(whole) // 2 + 3]):
        message = refusal(tmp_path, content, kind)
        assert words in message
        assert "table orders" in message


def test_a_column_is_a_number_or_a_time_only_if_all_its_values_are(tmp_path: Path) -> None:
    header = "order_id,ordered_at,zip,phone,long,number,mixed,huge,flag,when,day,empty,text\n"
    first = '1,2025-01-01,00712,+491701,12345678901234567890,1,1,1e308,true,2025-01-01T10:00:00Z,0001-01-01,,"a,\nb"\n'
    second = "2,2025-01-02 03:04:05.678,10115,0170,1,nan,x,-inf,FALSE,2025-01-01 10:00+02:00,9999-12-31,,🎉\u202e\n"
    manifest, rows = read(tmp_path, "\ufeff" + header + first + second)
    assert manifest.tables["orders"].columns == {
        "order_id": "BIGINT",
        "ordered_at": "TIMESTAMP",
        **dict.fromkeys(("zip", "phone", "long"), "VARCHAR"),
        "number": "DOUBLE",
        "mixed": "VARCHAR",
        "huge": "DOUBLE",
        "flag": "BOOLEAN",
        "when": "TIMESTAMP",
        "day": "DATE",
        "empty": "VARCHAR",
        "text": "VARCHAR",
    }
    assert rows[0]["zip"] == "00712"
    assert rows[0]["huge"] == 1e308
    assert rows[1]["huge"] == float("-inf")
    assert rows[0]["when"] == datetime(2025, 1, 1, 10)
    assert rows[1]["when"] == datetime(2025, 1, 1, 8)
    assert (rows[0]["day"], rows[1]["day"]) == (date(1, 1, 1), date(9999, 12, 31))
    assert (rows[0]["text"], rows[1]["text"]) == ("a,\nb", "🎉\u202e")


def test_a_json_text_that_looks_like_a_date_of_some_country_stays_text(tmp_path: Path) -> None:
    line = json.dumps({"order_id": 1, "ordered_at": "2025-01-02 03:04:05", "day": "01-02-2025", "code": "007"})
    manifest, rows = read(tmp_path, line + "\n", "jsonl")
    assert manifest.tables["orders"].columns["ordered_at"] == "TIMESTAMP"
    assert (rows[0]["day"], rows[0]["code"]) == ("01-02-2025", "007")


def test_large_cells_and_many_columns_arrive_whole(tmp_path: Path) -> None:
    long = "ü" * 100_000
    _, rows = read(tmp_path, f'order_id,ordered_at,text\n1,2025-01-01,"{long}"\n')
    assert rows[0]["text"] == long


def wide(columns: int, rows: int) -> str:
    """A CSV file of many numbers beside the key and the time."""
    header = ",".join(f"c{number}" for number in range(columns))
    numbers = ",".join(map(str, range(columns)))
    lines = [f"{row},2025-01-01,{numbers}" for row in range(rows)]
    return "\n".join([f"order_id,ordered_at,{header}", *lines]) + "\n"


@pytest.mark.parametrize("columns", [1000, pytest.param(3500, marks=pytest.mark.slow)])
def test_thousands_of_columns_arrive_whole(tmp_path: Path, columns: int) -> None:
    manifest, rows = read(tmp_path, wide(columns, rows=50))
    assert len(manifest.tables["orders"].columns) == columns + 2
    assert rows[0][f"c{columns - 1}"] == columns - 1


@pytest.mark.slow
def test_more_columns_than_can_be_held_are_refused_and_those_that_a_query_names_are_read(tmp_path: Path) -> None:
    message = refusal(tmp_path, wide(10_000, rows=1))
    assert "orders.csv has 10,002 columns, more than the 4,000 that are read" in message
    assert "name the columns that features need in source.tables.orders.query" in message
    query = "SELECT order_id, ordered_at, c9999 FROM source"
    manifest, rows = read(tmp_path, wide(10_000, rows=200), query=query)
    assert list(manifest.tables["orders"].columns) == ["order_id", "ordered_at", "c9999"]
    assert [row["c9999"] for row in rows] == [9999] * 200


def test_times_that_a_zone_never_had_are_refused_and_others_become_utc(tmp_path: Path) -> None:
    zone = "Europe/Berlin"
    _, rows = read(tmp_path, f"{HEADER}1,2025-03-30 01:30:00,1\n2,2025-07-01 12:00:00,1\n", time_zone=zone)
    assert [row["ordered_at"] for row in rows] == [datetime(2025, 3, 30, 0, 30), datetime(2025, 7, 1, 10)]
    message = refusal(tmp_path, f"{HEADER}1,2025-03-30 02:30:00,1\n", time_zone=zone)
    assert "orders.ordered_at holds times that Europe/Berlin never had" in message
    assert "2025-03-30 02:30:00" in message
    assert "is no time zone" in refusal(tmp_path, GOOD, time_zone="Mars/Base")


SCHEMA = """
feature {{ name: "order_id" type: INT presence {{ min_fraction: 1.0 min_count: 1 }} }}
feature {{ name: "ordered_at" type: INT presence {{ min_count: 1 }} time_domain {{ integer_format: UNIX_SECONDS }} }}
feature {{ name: "amount" type: {amount} presence {{ min_count: 1 }} }}
feature {{ name: "coupon" type: BYTES }}
{constraints}
"""


def with_schema(tmp_path: Path, amount: str = "FLOAT", constraints: str = "") -> None:
    folder = tmp_path / "shop" / "expectations"
    folder.mkdir(parents=True)
    (folder / "orders.pbtxt").write_text(SCHEMA.format(amount=amount, constraints=constraints))


def test_the_projects_schema_says_what_a_column_is(tmp_path: Path) -> None:
    with_schema(tmp_path, amount="FLOAT")
    manifest, rows = read(tmp_path, "order_id,ordered_at,amount,coupon\n1,2025-01-01,2,2025\n")
    assert (rows[0]["amount"], rows[0]["coupon"]) == (2.0, "2025")
    assert manifest.tables["orders"].columns["amount"] == "DOUBLE"


@pytest.mark.parametrize(
    ("amount", "constraints", "content", "words"),
    [
        ("INT", "", GOOD, "holds '2.5' in the column amount, which is BIGINT by the schema orders.pbtxt"),
        ("FLOAT", "", GOOD.replace("2.5", '"2,5"'), "holds '2,5' in the column amount"),
        ("FLOAT", "", GOOD.replace("2025-01-01", "01.01.2025"), "holds '01.01.2025' in the column ordered_at"),
        ("FLOAT", "", GOOD.replace("2025-01-01", "2025-01-01 10:00Z"), "times with a zone and times without"),
        ("FLOAT", "", "order_id,ordered_at\n1,2025-01-01\n", "lacks amount"),
        ("FLOAT", "", "order_id,ordered_at,amount,extra\n1,2025-01-01,2,3\n", "has extra besides"),
        (
            "FLOAT",
            "dataset_constraints { min_examples_count: 3 }",
            GOOD,
            "has 2 rows; the schema orders.pbtxt allows 3",
        ),
        ("FLOAT", "dataset_constraints { max_examples_count: 1 }", GOOD, "allows 0 to 1"),
        ("FLOAT", "nonsense {", GOOD, "orders.pbtxt cannot be read as a TFDV schema"),
    ],
)
def test_a_csv_is_held_against_the_projects_schema(
    tmp_path: Path, amount: str, constraints: str, content: str, words: str
) -> None:
    with_schema(tmp_path, amount, constraints)
    with pytest.raises(ContractViolation) as violation:
        read(tmp_path, content)
    assert words in str(violation.value)
    assert not (tmp_path / "tables").exists()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(GOOD)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "orders.csv").symlink_to("../secret.csv")
    project = make_project(tmp_path / "shop", file_url(folder), format="csv")
    with pytest.raises(ContractViolation, match=r"holds orders.csv for the table orders, which is a link out"):
        ingest(project, tmp_path / "tables")
    (folder / "orders.csv").unlink()
    (folder / "real.csv").write_text(GOOD)
    (folder / "orders.csv").symlink_to("real.csv")
    assert ingest(project, tmp_path / "tables").tables["orders"].rows == 2


def test_the_parts_of_a_table_are_one_table_and_must_agree(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    (folder / "1.csv").write_text(GOOD)
    (folder / "2.csv").write_text(f"{HEADER}3,2025-01-03,1\n")
    project = make_project(tmp_path / "shop", file_url(folder.parent), format="csv")
    assert ingest(project, tmp_path / "tables").tables["orders"].rows == 3
    (folder / "3.csv").write_text("order_id,amount,ordered_at\n3,1,2025-01-03\n")
    with pytest.raises(ContractViolation, match=r"3.csv has other columns than 1.csv"):
        ingest(project, tmp_path / "tables")


def test_a_table_cannot_be_named_like_sql(tmp_path: Path) -> None:
    from kfp_lifecycle.config.errors import ConfigurationError

    for name in ("orders; DROP TABLE x", 'orders"', "../orders", "or'ders", "Orders"):
        project = make_project(tmp_path / "shop", "sqlite:///a.db", {name: ORDERS})
        with pytest.raises(ConfigurationError, match=r"source\.tables"):
            ingest(project, tmp_path / "tables")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"url": "file:///data/orders"}, "does not say what its files are"),
        ({"url": "file:///orders.csv", "tables": {"orders": {**ORDERS, "extract": "SELECT 1"}}}, "DuckDB's dialect"),
        ({"url": "s3://bucket/shop.duckdb"}, "is read from this machine only"),
        ({"url": "sqlite:///data"}, "is a folder, and a database is a file"),
    ],
)
def test_a_source_that_does_not_fit_itself_is_refused(tmp_path: Path, source: dict[str, Any], words: str) -> None:
    (tmp_path / "data" / "orders").mkdir(parents=True)
    (tmp_path / "orders.csv").write_text(GOOD)
    url = source["url"].replace(":///", f":///{tmp_path}/")
    project = make_project(tmp_path / "shop", url, source.get("tables"))
    with pytest.raises(ContractViolation, match=words):
        ingest(project, tmp_path / "tables")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"tables": {"orders": ORDERS}}, "names no connection, and there is no url"),
        ({"url": "sqlite:///a.db", "tables": {"orders": {**ORDERS, "connection": "web"}}}, "connections has none"),
    ],
)
def test_a_table_without_a_place_is_refused(tmp_path: Path, source: dict[str, Any], words: str) -> None:
    import yaml

    from kfp_lifecycle.config.errors import ConfigurationError
    from kfp_lifecycle.config.loading import load_configuration

    project = make_project(tmp_path / "shop", "sqlite:///a.db")
    configuration = yaml.safe_load((project / "pipeline.yaml").read_text()) | {"source": source}
    (project / "pipeline.yaml").write_text(yaml.safe_dump(configuration))
    with pytest.raises(ConfigurationError, match=words):
        load_configuration(project)
