"""What `ingest_data` reads, and what it refuses."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from pydantic import ValidationError
from shop import GOOD_ORDERS, ORDERS, file_url, ingest, make_database, make_project, parquet_rows

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.components.data.ingest_data import ingestion
from kfp_lifecycle.config.data import Source
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.data.locate import locate
from kfp_lifecycle.data.source_version import local_source, source_version
from kfp_lifecycle.runtime.contract import ContractViolation

ROOT = Path(__file__).resolve().parents[2]
NAUGHTY = ROOT.parent / "shared" / "data" / "naughty"
naughty = pytest.mark.skipif(not NAUGHTY.is_dir(), reason=f"{NAUGHTY} is not here")

CSV_TABLES = {"orders": {**ORDERS, "query": "SELECT *, TIMESTAMP '2025-01-01' AS ordered_at FROM source"}}


def refusal(project: Path, output: Path) -> str:
    """The message that ingest refuses with; nothing may be left behind."""
    with pytest.raises(ContractViolation) as violation:
        ingest(project, output)
    assert not output.exists()
    return str(violation.value)


def test_a_database_becomes_a_parquet_file_for_each_table_and_a_manifest(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS)
    manifest = ingest(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert manifest.as_of == datetime(2025, 2, 11, 15, tzinfo=UTC)
    assert manifest.tables["orders"].rows == 1000
    assert manifest.tables["orders"].columns["ordered_at"] == "TIMESTAMP"
    assert Manifest.read(tmp_path / "tables") == manifest
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {"orders.parquet", "manifest.json"}


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("one", "i"), ("other", "hash(i)")):
        url = make_database(tmp_path / f"{name}.duckdb", orders=f"{GOOD_ORDERS} ORDER BY {order}")
        ingest(make_project(tmp_path / name / "project", url), tmp_path / name / "tables")
    for file in ("orders.parquet", "manifest.json"):
        assert (tmp_path / "one/tables" / file).read_bytes() == (tmp_path / "other/tables" / file).read_bytes()


def test_a_time_with_a_zone_becomes_utc_without_one(tmp_path: Path) -> None:
    url = make_database(
        tmp_path / "shop.duckdb", orders="SELECT 1 AS order_id, TIMESTAMPTZ '2025-06-01 12:00:00+02' AS ordered_at"
    )
    ingest(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert parquet_rows(tmp_path / "tables/orders.parquet") == [(1, datetime(2025, 6, 1, 10))]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_file_and_a_folder_of_files_read_alike(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / f"orders.{kind}"
    form = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json"}[kind]
    duckdb.execute(f"COPY ({GOOD_ORDERS}) TO '{file}' ({form})")
    for name, url in (("file", file_url(file)), ("folder", file_url(file.parent))):
        manifest = ingest(make_project(tmp_path / name, url, format=kind), tmp_path / f"{name}-tables")
        assert manifest.tables["orders"].rows == 1000
        assert manifest.tables["orders"].columns["ordered_at"] == "TIMESTAMP"
    one, other = (parquet_rows(tmp_path / f"{name}-tables" / "orders.parquet") for name in ("file", "folder"))
    assert one == other


def test_text_gives_whole_lines_for_the_query_to_take_apart(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_bytes(b'1|2025-01-01|a, "b"\t\\\r\n2|2025-01-02|c\r\n')
    query = r"""
        SELECT CAST(split_part(line, '|', 1) AS INTEGER) AS order_id, CAST(split_part(line, '|', 2) AS DATE) AS
        ordered_at, split_part(line, '|', 3) AS note FROM source  -- the end
    """
    project = make_project(tmp_path / "shop", file_url(file), {"orders": {**ORDERS, "query": query}}, format="text")
    ingest(project, tmp_path / "tables")
    assert [row[2] for row in parquet_rows(tmp_path / "tables/orders.parquet")] == ['a, "b"\t\\', "c"]


def test_the_cdnow_file_is_read_whole_from_its_package(tmp_path: Path) -> None:
    project = load_configuration(ROOT / "examples" / "cdnow")
    locations, expectations = local_locations(tmp_path / "state", "cdnow"), ROOT / "examples" / "cdnow" / "expectations"
    manifest = ingestion.ingest(project, locations, expectations, tmp_path / "tables")
    assert manifest.tables["purchases"].rows == 69_659
    assert manifest.as_of == datetime(1998, 6, 30, tzinfo=UTC)
    customers, dollars = duckdb.execute(
        "SELECT count(DISTINCT customer_id), round(sum(amount)) FROM read_parquet(?)",
        [str(tmp_path / "tables/purchases.parquet")],
    ).fetchall()[0]
    assert customers == 23_570
    assert dollars == pytest.approx(2_500_316, abs=1)


def test_names_that_look_like_sql_are_names(tmp_path: Path) -> None:
    hostile = 'amount"; DROP TABLE orders; --'
    url = make_database(
        tmp_path / "shop.duckdb",
        orders=f"""SELECT 1 AS order_id, TIMESTAMP '2025-01-01' AS ordered_at, 2 AS "{hostile.replace('"', '""')}" """,
    )
    manifest = ingest(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert list(manifest.tables["orders"].columns) == ["order_id", "ordered_at", hostile]


def test_a_renamed_key_stops_ingest_and_names_what_there_is_instead(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS.replace("AS ordered_at", "AS order_at"))
    message = refusal(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert "orders has no column ordered_at" in message
    assert "did a migration rename it? It has order_at" in message


def test_a_time_that_is_text_is_refused_with_the_cast_that_mends_it(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders="SELECT 1 AS order_id, 'soon' AS ordered_at")
    message = refusal(make_project(tmp_path / "shop", url), tmp_path / "tables")
    assert "orders.ordered_at is VARCHAR, not a time" in message
    assert 'CAST("ordered_at" AS TIMESTAMP)' in message


def test_a_missing_table_is_named_with_the_nearest(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", order="SELECT 1 AS order_id")
    assert "has no table orders; did a migration rename it? It has order" in refusal(
        make_project(tmp_path / "shop", url), tmp_path / "tables"
    )


def test_an_empty_table_is_refused_and_what_was_written_before_it_is_gone(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS, returns=f"{GOOD_ORDERS} LIMIT 0")
    project = make_project(tmp_path / "shop", url, {"orders": ORDERS, "returns": ORDERS})
    assert "returns is empty" in refusal(project, tmp_path / "tables")


def test_a_table_whose_times_are_all_empty_is_refused(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders="SELECT 1 AS order_id, NULL::TIMESTAMP AS ordered_at")
    assert "orders.ordered_at is empty in all 1 rows" in refusal(
        make_project(tmp_path / "shop", url), tmp_path / "tables"
    )


def test_a_table_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS))
    text = (project / "pipeline.yaml").read_text()
    (project / "pipeline.yaml").write_text(f"{text}validation: {{max_rows: 999}}\n")
    assert "orders has 1,000 rows, more than the 999" in refusal(project, tmp_path / "tables")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("duckdb:///nowhere.duckdb", "does not exist"),
        ("duckdb:///../secrets.duckdb", "without `..`"),
        ("package://lifetimes/../../../etc/passwd", "without `..`"),
        ("package://no_such_package/file", "which is not installed here"),
        ("file://host/file.csv", "three slashes"),
        ("file:///nowhere/orders.csv", "looked for /nowhere/orders.csv"),
        ("../orders.csv", "without `..`"),
        ("file://", "must name a file or folder"),
    ],
)
def test_a_url_that_leads_nowhere_says_what_to_write(tmp_path: Path, url: str, words: str) -> None:
    assert words in refusal(make_project(tmp_path / "shop", url), tmp_path / "tables")


def test_a_file_is_named_by_its_path_in_the_project_or_in_full(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "data/orders.csv", {"orders": ORDERS})
    (project / "data").mkdir()
    (project / "data" / "orders.csv").write_text("order_id,ordered_at,amount\n1,2025-01-01,2.5\n")
    in_full = (project / "data" / "orders.csv").as_uri()
    for url in ("data/orders.csv", in_full, in_full.removeprefix("file://")):
        source = local_source(Source(url=url, tables={"orders": ORDERS}), project)
        assert source.url is not None
        assert locate(source.url) == project / "data" / "orders.csv"
    nowhere = make_project(tmp_path / "other", "data/orders.csv", {"orders": ORDERS})
    assert f"looked for {Path.cwd() / 'data' / 'orders.csv'}" in refusal(nowhere, tmp_path / "tables")


@pytest.mark.parametrize("url", ["", "postgresql:/host/db", "me:hunter2@host/db", "C:\\data.csv", "a\nb.csv"])
def test_what_is_neither_a_url_nor_a_path_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="or is a file's path") as refused:
        Source(url=url, tables={"orders": ORDERS})
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_no_database_and_one_cut_off_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("hello")
    make_database(tmp_path / "whole.duckdb", orders=GOOD_ORDERS)
    whole = (tmp_path / "whole.duckdb").read_bytes()
    (tmp_path / "cut.duckdb").write_bytes(whole[: len(whole) // 3])
    for name in ("text", "cut"):
        message = refusal(make_project(tmp_path / name, f"duckdb:///{tmp_path}/{name}.duckdb"), tmp_path / "tables")
        assert f"{name}.duckdb" in message
        assert "cannot be" in message


def test_a_query_cannot_write_the_source_nor_read_other_files(tmp_path: Path) -> None:
    url = make_database(tmp_path / "shop.duckdb", orders=GOOD_ORDERS)
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    for query in (f"SELECT * FROM read_csv('{tmp_path}/secret.csv')", "SELECT * FROM 'https://example.com/a.parquet'"):
        project = make_project(tmp_path / "shop", url, {"orders": {**ORDERS, "query": query}})
        message = refusal(project, tmp_path / "tables")
        assert "table orders of" in message
        assert "hunter2" not in message


@pytest.mark.parametrize("content", [b"order_id,b\n1,2\n3\n", b"order_id,b\n1,2\n3,4,5\n"])
def test_a_csv_row_with_the_wrong_number_of_fields_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "orders.csv").write_bytes(content)
    project = make_project(tmp_path / "shop", file_url(tmp_path / "orders.csv"), CSV_TABLES, format="csv")
    assert "orders.csv" in refusal(project, tmp_path / "tables")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_than_utf_8_is_refused_not_guessed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "orders.csv").write_bytes("order_id,name\n1,Zoë\n2,Jürgen\n".encode(encoding))
    project = make_project(tmp_path / "shop", file_url(tmp_path / "orders.csv"), CSV_TABLES, format="csv")
    refusal(project, tmp_path / "tables")


@naughty
def test_odd_but_valid_csv_files_are_read_as_they_are(tmp_path: Path) -> None:
    expected = {"comma_in_quotes": "120 any st.", "newlines": "Once upon \na time", "utf8": "ʤ", "json": '{"type"'}
    for file in sorted((NAUGHTY / "csv").glob("*.csv")):
        query = "SELECT row_number() OVER () AS order_id, DATE '2025-01-01' AS ordered_at, * FROM source"
        tables = {"orders": {**ORDERS, "query": query}}
        project = make_project(tmp_path / "shop", file_url(file), tables, format="csv", last_line_may_be_open=True)
        if file.stem == "location_coordinates":
            assert "has a quote in the middle of a field in line 2" in refusal(project, tmp_path / "tables")
            continue
        ingest(project, tmp_path / "tables")
        cells = [str(cell) for row in parquet_rows(tmp_path / "tables/orders.parquet") for cell in row]
        assert any(expected.get(file.stem, "") in cell for cell in cells), file.name


@naughty
def test_a_broken_parquet_file_is_refused_by_name_or_read_whole(tmp_path: Path) -> None:
    query = "SELECT row_number() OVER () AS order_id, DATE '2025-01-01' AS ordered_at, * FROM source"
    refused: dict[str, str] = {}
    leftovers: list[Path] = []
    for file in sorted((NAUGHTY / "parquet").glob("*.parquet")):
        copy = tmp_path / file.name
        shutil.copy(file, copy)
        project = make_project(
            tmp_path / "shop", file_url(copy), {"orders": {**ORDERS, "query": query}}, format="parquet"
        )
        try:
            manifest = ingest(project, tmp_path / "tables")
        except ContractViolation as violation:
            refused[file.name] = str(violation)
            leftovers += list(tmp_path.glob("tables*"))
        else:
            assert manifest.tables["orders"].rows == len(parquet_rows(tmp_path / "tables/orders.parquet"))
    assert len(refused) >= 22
    assert [name for name, message in refused.items() if name not in message] == []
    assert leftovers == []


@naughty
def test_naughty_strings_arrive_unchanged(tmp_path: Path) -> None:
    lines = (NAUGHTY / "blns.txt").read_text(encoding="utf-8").split("\n")
    strings = [line for line in lines if line and not line.startswith("#")]
    file = tmp_path / "orders.jsonl"
    rows = ({"order_id": i, "ordered_at": "2025-01-01 00:00:00", "text": text} for i, text in enumerate(strings))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ingest(make_project(tmp_path / "shop", file_url(file), format="jsonl"), tmp_path / "tables")
    assert [row[2] for row in parquet_rows(tmp_path / "tables/orders.parquet")] == strings


def test_the_fingerprint_of_a_source_changes_with_its_files_and_is_unknown_of_a_server(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("order_id,ordered_at\n1,2025-01-01\n")
    source = load_configuration(make_project(tmp_path / "shop", file_url(file))).source
    first = source_version(source)
    assert len(first) == 12
    assert source_version(source) == first
    file.write_text("order_id,ordered_at\n1,2025-01-01\n2,2025-01-02\n")
    assert source_version(source) not in (first, "")
    connections = {"billing": {"url": "postgresql://127.0.0.1/billing"}}
    tables = {"orders": ORDERS, "bills": {**ORDERS, "connection": "billing"}}
    mixed = make_project(tmp_path / "mixed", file_url(file), tables, connections=connections)
    assert source_version(load_configuration(mixed).source) == ""
