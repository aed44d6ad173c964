"""Files on other machines are read as files here are: from S3, Google Cloud Storage, Azure and the web."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pytest
from shop import GOOD_ORDERS, ingest, make_project, parquet_rows

from kfp_lifecycle.connections import retries as attempts
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.servers import PASSWORD, web

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same orders as a file of each kind, and in parts."""
    folder = tmp_path_factory.mktemp("exports")
    for kind, form in {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json"}.items():
        duckdb.execute(f"COPY ({GOOD_ORDERS}) TO '{folder}/orders.{kind}' ({form})")
    (folder / "parts" / "orders").mkdir(parents=True)
    for part in (0, 1):
        duckdb.execute(
            f"COPY (FROM ({GOOD_ORDERS}) WHERE order_id % 2 = {part}) TO '{folder}/parts/orders/{part}.parquet'"
        )
    return folder


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, exports: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = request.getfixturevalue(request.param)
    variables = {
        "s3": {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        "gs": {"STORAGE_EMULATOR_HOST": url},
    }
    for name, value in variables[request.param].items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem(request.param, skip_instance_cache=True)
    files.mkdir("shop")
    files.put(str(exports), "shop/exports", recursive=True)
    return f"{request.param}://shop/exports"


def test_files_of_an_object_store_are_read_alike(bucket: str, tmp_path: Path) -> None:
    rows = []
    for number, (url, form) in enumerate(
        [
            (f"{bucket}/orders.parquet", None),
            (bucket, "csv"),
            (bucket, "jsonl"),
            (f"{bucket}/parts", "parquet"),
        ]
    ):
        tables = tmp_path / f"tables{number}"
        ingest(make_project(tmp_path / "shop", url, format=form), tables)
        rows.append(parquet_rows(tables / "orders.parquet"))
    assert len(rows[0]) == 1000
    assert all(other == rows[0] for other in rows[1:])
    with pytest.raises(ContractViolation, match=r"there is no orders.text"):
        ingest(make_project(tmp_path / "shop", bucket, format="text"), tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_a_file_of_the_web_is_read(exports: Path, tmp_path: Path) -> None:
    with web(exports) as url:
        manifest = ingest(make_project(tmp_path / "shop", f"{url}/orders.csv"), tmp_path / "tables")
        assert manifest.tables["orders"].rows == 1000
        with pytest.raises(ContractViolation, match="FileNotFoundError") as refusal:
            ingest(make_project(tmp_path / "shop", f"{url}/nothing.csv"), tmp_path / "tables")
        assert f"{url}/nothing.csv" in str(refusal.value)


def test_a_server_that_is_away_is_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(tmp_path / "shop", "http://127.0.0.1:1/orders.csv", attempts=2)
    with pytest.raises(ContractViolation, match="could not be read, in 2 attempts"):
        ingest(project, tmp_path / "tables")
    assert "attempt 1 of 2 failed" in capsys.readouterr().out


def test_a_file_that_is_cut_off_on_its_way_is_fetched_again(
    exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with web(exports, cut_off=2) as url:
        manifest = ingest(make_project(tmp_path / "shop", f"{url}/orders.csv"), tmp_path / "tables")
    assert manifest.tables["orders"].rows == 1000
    assert "attempt 2 of 4 failed" in capsys.readouterr().out
    with web(exports, cut_off=9) as url, pytest.raises(ContractViolation, match="could not be read, in 4 attempts"):
        ingest(make_project(tmp_path / "shop", f"{url}/orders.csv"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_web_server_that_hangs_is_left_after_its_time(exports: Path, tmp_path: Path) -> None:
    with web(exports, silent_seconds=2) as url:
        project = make_project(tmp_path / "shop", f"{url}/orders.csv", timeout_seconds=0.3)
        with pytest.raises(ContractViolation, match=r"was not read within 0\.3 s"):
            ingest(project, tmp_path / "tables")


def test_a_store_without_credentials_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No request leaves the machine: the endpoint is here, and nobody listens."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for url, words in {
        "s3://bucket/orders.parquet": "redentials",
        "az://container/orders.parquet": "account_name",
    }.items():
        with pytest.raises(ContractViolation, match=words):
            ingest(make_project(tmp_path / "shop", url, attempts=1), tmp_path / "tables")


def test_an_azure_container_is_asked_as_its_client_library_asks(
    exports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.azure_blobs import blobs

    with blobs({"exports/orders.csv": (exports / "orders.csv").read_bytes()}) as connection_string:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string)
        manifest = ingest(make_project(tmp_path / "shop", "az://shop/exports", format="csv"), tmp_path / "tables")
    assert manifest.tables["orders"].rows == 1000


def test_bigquery_is_asked_as_its_client_library_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real client against a stand-in for the service: no BigQuery was there to test with."""
    from tests.bigquery_service import bigquery_service

    fields = [("order_id", "INTEGER"), ("ordered_at", "DATETIME"), ("note", "STRING")]
    with bigquery_service(lambda *_: (fields, [(1, datetime(2025, 1, 1), "Zoë")])) as service:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", service.url)
        credentials = tmp_path / "key.json"
        credentials.write_text(json.dumps(service.credentials))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        ingest(make_project(tmp_path / "shop", "bigquery://project/shop"), tmp_path / "tables")
        assert parquet_rows(tmp_path / "tables/orders.parquet")[0][2] == "Zoë"
        assert service.statements[-1] == "SELECT * FROM `orders`"
        service.statement_type = "DELETE"
        with pytest.raises(ContractViolation, match="is a DELETE, which changes data"):
            ingest(make_project(tmp_path / "shop", "bigquery://project/shop"), tmp_path / "tables")


def test_snowflake_is_asked_as_its_driver_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real driver against a stand-in for the service: no Snowflake was there to test with."""
    from tests.snowflake_service import snowflake_service

    rows = {
        "ORDER_ID": pa.array([7, 8], pa.int64()),
        "ORDERED_AT": pa.array([1_735_689_600_000_000, None], pa.int64()),
        "NOTE": pa.array(["Zoë", None]),
    }
    with snowflake_service(rows, PASSWORD) as service:
        url = f"snowflake://me:${{DB_PASSWORD}}@account/SHOP/PUBLIC?host=127.0.0.1&port={service.port}&protocol=http"
        project = make_project(tmp_path / "shop", url)
        monkeypatch.setenv("DB_PASSWORD", PASSWORD)
        manifest = ingest(project, tmp_path / "tables")
        assert list(manifest.tables["orders"].columns) == ["order_id", "ordered_at", "note"]
        assert parquet_rows(tmp_path / "tables/orders.parquet")[0][1:] == (datetime(2025, 1, 1), "Zoë")
        assert service.statements[-1] == "SELECT * FROM orders"
        monkeypatch.setenv("DB_PASSWORD", "n0t-it")
        with pytest.raises(ContractViolation, match="Incorrect username or password") as refusal:
            ingest(project, tmp_path / "tables")
        assert "n0t-it" not in str(refusal.value)
