"""A warehouse computes the same definitions to the same values, leaves nothing behind, and fails in plain words."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from sqlglot import exp

from kfp_lifecycle.components.features.build_training_set.skew import nearly_same
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.features.offline import store as offline_store
from kfp_lifecycle.features.offline.store import compute_view_values
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.ports import free_ports
from tests.bigquery_service import Fields, Rows, Service, bigquery_service
from tests.feature_steps import build
from tests.lending_library import START, some_readers_and_loans, write_project, write_tables
from tests.projects import load_locations, read_project, save_locations
from tests.servers import PASSWORD, fakesnow, running, spark_connect

# A view of all that is understood alike, beside the two of the library.
HABITS = """
WITH numbered AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY reader_id ORDER BY lent_at DESC, loan_id DESC) AS age,
        lag(lent_at) OVER (PARTITION BY reader_id ORDER BY lent_at, loan_id) AS before,
        sum(pages) OVER (PARTITION BY reader_id ORDER BY lent_at, loan_id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s
    FROM loans
    WHERE lent_at > $as_of - INTERVAL 40 DAY
),
habits AS (
    SELECT
        reader_id,
        count(*) FILTER (lent_at > $as_of - INTERVAL 7 DAY AND genre IN ('crime', 'poetry')) AS recent,
        count(DISTINCT lent_at::DATE) FILTER (pages IS NOT NULL) AS days,
        count(*) / 3 AS thirds,
        avg(loan_id) AS mean_id,
        avg(pages) FILTER (age <= 4) AS mean_pages,
        arg_max(pages, lent_at) FILTER (age > 1) AS pages_before,
        arg_min(pages, loan_id) AS first_pages,
        max(genre) FILTER (age = 1) AS newest_genre,
        stddev_samp(pages) AS spread,
        max(date_diff('day', before, lent_at)) AS longest_pause,
        bool_and(genre = 'crime') AS crime_only,
        sum(CASE WHEN s > 300 THEN 1 ELSE 0 END) AS heavy,
        max(year(lent_at) * 100 + month(lent_at)) AS month,
        max(date_trunc('month', lent_at)) AS month_start,
        min(round(ln(1 + pages), 3)) AS least,
        count(*) FILTER (genre LIKE 'p%' OR lower(genre) = 'none') AS p_count
    FROM numbered
    GROUP BY reader_id
)
SELECT
    r.reader_id,
    coalesce(recent, 0) AS recent,
    days, thirds, mean_id, mean_pages, pages_before, first_pages, newest_genre, spread, longest_pause, crime_only,
    heavy, month, month_start, least, p_count,
    2 * recent / nullif(days, 0) - 1 AS trend,
    (length(upper(town) || coalesce(newest_genre, '')))::BIGINT AS letters,
    extract(hour FROM joined_at) AS hour
FROM readers AS r
SEMI JOIN loans USING (reader_id)
LEFT JOIN habits ON habits.reader_id = r.reader_id
ANTI JOIN (SELECT reader_id FROM loans GROUP BY ALL HAVING count(*) > 50) AS eager ON eager.reader_id = r.reader_id
"""
HABITS_VIEW = """
habits = view(
    "habits",
    recent=Int64, days=Int64, thirds=Float64, mean_id=Float64, mean_pages=Float64, pages_before=Float64,
    first_pages=Float64, newest_genre=String, spread=Float64, longest_pause=Int64, crime_only=Bool, heavy=Int64,
    month=Int64, month_start=UnixTimestamp, least=Float64, p_count=Int64, trend=Float64, letters=Int64, hour=Int64,
)
"""
CHANGES: dict[str, Any] = {
    "feature_repo/loans_so_far.sql": ("max_by(genre, (lent_at, loan_id))", "max_by(genre, loan_id)"),
    "feature_repo/features.py": ("person = view", HABITS_VIEW + "person = view"),
}
VIEWS = ["loans_so_far", "person", "habits"]
MOMENTS = [START + timedelta(days=days, hours=5) for days in (3, 60)]


BIGQUERY = "bigquery://project/shop?location=EU"
SNOWFLAKE = "snowflake://me:${{DB_PASSWORD}}@account/SHOP/PUBLIC?host=127.0.0.1&port={port}&protocol=http"


@dataclass
class Place:
    """A warehouse that is there, and what is left in it."""

    location: str
    leftovers: Callable[[], list[str]]


def understood(service: Service, statement: str) -> tuple[Fields, Rows]:
    """Run BigQuery's SQL by DuckDB, over what was loaded."""
    tree = sqlglot.parse_one(statement, dialect="bigquery")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for number, table in enumerate(list(tree.find_all(exp.Table))):
            loaded = service.tables.get(f"{table.catalog}.{table.db}.{table.name}") if table.db else None
            if loaded is not None:
                rows = pq.read_table(pa.BufferReader(loaded.parquet))
                connection.register(f"loaded{number}", checked(rows, loaded.fields))
                table.replace(exp.to_table(f"loaded{number}"))
        try:
            found = connection.sql(tree.sql(dialect="duckdb"))
        except duckdb.Error as error:
            raise ValueError(str(error)) from error
        kinds = {"BIGINT": "INT64", "HUGEINT": "INT64", "INTEGER": "INT64", "DOUBLE": "FLOAT64", "VARCHAR": "STRING"}
        kinds |= {"DECIMAL(38,1)": "NUMERIC", "BOOLEAN": "BOOL", "TIMESTAMP": "DATETIME", "DATE": "DATE"}
        fields = [(name, kinds[str(kind)]) for name, kind in zip(found.columns, found.types, strict=True)]
        return fields, found.fetchall()


def checked(rows: pa.Table, fields: Fields) -> pa.Table:
    """What a load job makes of a file: its columns have to be of the table's types."""
    arrow: dict[str, pa.DataType] = {
        "NUMERIC": pa.decimal128(9, 1),
        "INT64": pa.int64(),
        "FLOAT64": pa.float64(),
        "STRING": pa.string(),
        "BOOL": pa.bool_(),
    }
    arrow |= {"DATETIME": pa.timestamp("us"), "DATE": pa.date32()}
    assert [(field.name, field.type) for field in rows.schema] == [(name, arrow[kind]) for name, kind in fields]
    return rows


@pytest.fixture(scope="module")
def spark() -> Iterator[Place]:
    for url in running(spark_connect()):
        yield Place(url, list)


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Place]:
    for port, statements in running(fakesnow()):

        def leftovers(statements: Path = statements) -> list[str]:
            lines = statements.read_text().splitlines()
            assert all(line.split()[1] in ("TEMPORARY", "OR") for line in lines if line.startswith("CREATE"))
            made = {line.split()[3] for line in lines if line.startswith("CREATE TEMPORARY TABLE")}
            return sorted(made - {line.split()[2] for line in lines if line.startswith("DROP TABLE")})

        yield Place(SNOWFLAKE.format(port=port), leftovers)


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    with bigquery_service(getattr(request, "param", understood)) as service:
        credentials = tmp_path / "key.json"
        credentials.write_text(json.dumps(service.credentials))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", service.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        yield service


@pytest.fixture
def bigquery(service: Service) -> Place:
    return Place(BIGQUERY, lambda: sorted(service.tables))


@pytest.fixture(params=["bigquery", *(pytest.param(name, marks=pytest.mark.slow) for name in ("snowflake", "spark"))])
def warehouse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project, its tables, and what DuckDB makes of them."""
    folder = tmp_path_factory.mktemp("library")
    write_project(folder / "project", CHANGES)
    (folder / "project/feature_repo/habits.sql").write_text(HABITS)
    write_tables(folder / "tables", *some_readers_and_loans())
    compute(folder, "duckdb", folder / "duckdb")
    return folder


def compute(library: Path, location: str, values: Path, seconds: float = 300, views: list[str] = VIEWS) -> None:
    project = read_project(library / "project", [f"features.warehouse_timeout_seconds={seconds}"])
    definitions = load_definitions(project.feature_repo, project.settings)
    compute_view_values(location, library / "tables", "", project.settings, definitions, views, MOMENTS, values)


def compared(here: Path, there: Path) -> int:
    """How many files of view values are the same: floating-point numbers nearly so, all else to the bit."""
    files = sorted(here.rglob("*.parquet"))
    for file in files:
        expected, found = pq.read_table(file), pq.read_table(there / file.relative_to(here))
        assert found.schema == expected.schema
        for name in expected.column_names:
            pairs = list(zip(expected[name].to_pylist(), found[name].to_pylist(), strict=True))
            assert [pair for pair in pairs if not nearly_same(*pair)] == [], f"{file.parent.name}:{name}"
    return len(files)


def test_a_warehouse_gives_the_values_of_duckdb(warehouse: Place, library: Path, tmp_path: Path) -> None:
    compute(library, warehouse.location, tmp_path / "values")
    assert compared(library / "duckdb", tmp_path / "values") == len(VIEWS) * len(MOMENTS)
    assert warehouse.leftovers() == []


@pytest.mark.slow
def test_a_training_set_of_a_warehouse_is_that_of_duckdb(
    library: Path, snowflake: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    descriptions = {}
    for name, location in {"duckdb": "duckdb", "snowflake": snowflake.location}.items():
        descriptions[name] = build_with(library, tmp_path / name, location)
        assert descriptions[name].offline_store == name
    assert descriptions["snowflake"].model_copy(update={"offline_store": "duckdb"}) == descriptions["duckdb"]
    for part in ("train", "validation", "test"):
        here, there = (pq.read_table(tmp_path / name / f"training_set/{part}.parquet") for name in descriptions)
        assert there.to_pandas().compare(here.to_pandas()).empty
    assert snowflake.leftovers() == []


def build_with(library: Path, folder: Path, location: str) -> Any:
    project = shutil.copytree(library / "project", folder / "project")
    save_locations(load_locations(project).model_copy(update={"offline_store": location}), project)
    return build(project, library / "tables", folder / "training_set")


def misunderstood(service: Service, statement: str) -> tuple[Fields, Rows]:
    return understood(service, statement.replace("SUM(", "MAX("))


@pytest.mark.slow
@pytest.mark.parametrize("service", [misunderstood], indirect=True)
def test_a_definition_that_means_something_else_in_a_warehouse_stops_the_run(
    library: Path, bigquery: Place, tmp_path: Path
) -> None:
    """No transpilation is trusted: each run compares with DuckDB."""
    with pytest.raises(ContractViolation, match=r"(?s)pages is .* in training and .* the same in DuckDB and in"):
        build_with(library, tmp_path / "with", bigquery.location)
    assert not (tmp_path / "with/training_set").exists()
    assert bigquery.leftovers() == []


def test_tables_shown_to_bigquery_expire_if_nobody_removes_them(
    library: Path, service: Service, tmp_path: Path
) -> None:
    compute(library, BIGQUERY, tmp_path / "values", views=["person"])
    # Not what the label alone may see, and nobody else's.
    assert [name.rpartition("_")[2] for name in service.expirations] == ["readers", "loans"]
    assert len({name.rpartition("_")[0] for name in service.expirations}) == 1
    hours = [(int(expires) / 1000 - time.time()) / 3600 for expires in service.expirations.values()]
    assert all(11 < left <= 12 for left in hours)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("POST /bigquery/v2/projects/project/datasets/shop/tables", "could not read the table readers: Forbidden"),
        ("POST /upload/", "could not read the table readers: Forbidden"),
        ("POST /bigquery/v2/projects/project/jobs", r"could not run .*person\.sql: Forbidden"),
    ],
)
def test_a_warehouse_that_refuses_says_what_and_keeps_nothing(
    library: Path, service: Service, tmp_path: Path, refused: str, said: str
) -> None:
    service.refusal = (refused, 403, "Access Denied: no right to")
    with pytest.raises(ContractViolation, match=rf"bigquery://project/shop\S* {said}.*Access Denied: no right to"):
        compute(library, BIGQUERY, tmp_path / "values", views=["person"])
    assert not list((tmp_path / "values").rglob("*.parquet"))
    assert not service.tables


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sc://127.0.0.1:{port}/;token=${{DB_PASSWORD}}", SNOWFLAKE, BIGQUERY])
def test_a_warehouse_that_is_down_is_told_without_its_secrets(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service, url: str
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(offline_store, "CLOSING_SECONDS", 0.2)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with pytest.raises(ContractViolation, match=r"did not|could not") as refusal:
        compute(library, url.format(port=port), tmp_path / "values", seconds=4, views=["person"])
    told = str(refusal.value)
    assert "Nothing was written" in told
    assert "resume the run" in told
    assert PASSWORD not in told
    assert "c4nary" not in told
    assert not list((tmp_path / "values").rglob("*.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sc://127.0.0.1:{port}", SNOWFLAKE, BIGQUERY])
def test_a_warehouse_that_hangs_is_left_after_its_time(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service, url: str
) -> None:
    monkeypatch.setattr(offline_store, "CLOSING_SECONDS", 0.2)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(ContractViolation, match=r"did not .* within 1 s .*warehouse_timeout_seconds"):
            compute(library, url.format(port=port), tmp_path / "values", seconds=1, views=["person"])
        assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_division_by_zero_is_refused_as_an_infinite_value_is(bigquery: Place, tmp_path: Path) -> None:
    sql = "SELECT reader_id, 1 / (reader_id - 3) AS pages, 1 AS loans, 1 AS average_pages, TRUE AS likes_poetry, "
    sql += "town AS genre, joined_at AS last_loan_at FROM readers"
    write_project(tmp_path / "project", {"feature_repo/loans_so_far.sql": sql})
    write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    with pytest.raises(ContractViolation, match=r"loans_so_far:pages is infinite|loans_so_far\.sql"):
        build_with(tmp_path, tmp_path / "with", bigquery.location)
    assert bigquery.leftovers() == []


@pytest.mark.slow
def test_times_with_a_zone_and_whole_numbers_of_any_size_are_shown_as_all_warehouses_have_them(
    warehouse: Place, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "project", CHANGES)
    (project / "feature_repo/habits.sql").write_text(HABITS)
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, casts in {
            "readers": "joined_at::TIMESTAMPTZ AS joined_at, reader_id::USMALLINT AS reader_id",
            "loans": "lent_at::TIMESTAMPTZ AS lent_at, loan_id::UINTEGER AS loan_id, pages::DECIMAL(9, 1) AS pages",
        }.items():
            file = tables / f"{table}.parquet"
            connection.execute(f"CREATE TABLE {table} AS SELECT * REPLACE ({casts}), [1, 2] AS list FROM '{file}'")
            connection.execute(f"COPY {table} TO '{file}'")
    compute(tmp_path, "duckdb", tmp_path / "duckdb", views=["loans_so_far"])
    compute(tmp_path, warehouse.location, tmp_path / "values", views=["loans_so_far"])
    assert compared(tmp_path / "duckdb", tmp_path / "values") == len(MOMENTS)
