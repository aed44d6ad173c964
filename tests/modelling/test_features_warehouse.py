"""A warehouse computes the same definitions to the same values, leaves nothing behind, and fails in plain words."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
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

from components.contract import ContractViolation
from components.features.build_training_set.skew import TOLERANCE
from components.features.build_training_set.training_set import build
from components.features.definitions import load_definitions
from components.features.offline_store import compute_view_values
from project.loading import load_configuration
from project.stores import load_stores, save_stores
from tests.bigquery_service import Fields, Rows, Service, bigquery_service
from tests.lending_library import START, some_readers_and_loans, write_project, write_tables
from tests.servers import PASSWORD, fakesnow, free_port, running, spark_connect

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
    days, thirds, mean_id, mean_pages, pages_before, first_pages, newest_genre, spread, longest_pause, crime_only, heavy,
    month, month_start, least, p_count,
    2 * recent / nullif(days, 0) - 1 AS trend,
    (length(upper(town) || coalesce(newest_genre, '')))::BIGINT AS letters,
    extract(hour FROM joined_at) AS hour
FROM readers AS r
SEMI JOIN loans USING (reader_id)
LEFT JOIN habits ON habits.reader_id = r.reader_id
ANTI JOIN (SELECT reader_id FROM loans GROUP BY reader_id HAVING count(*) > 50) AS eager ON eager.reader_id = r.reader_id
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
MOMENTS = [START + timedelta(days=days, hours=5) for days in (3, 20, 60)]


@dataclass
class Place:
    """A warehouse that is there, and what is left in it."""

    location: str
    leftovers: Callable[[], list[str]]
    bigquery: Service | None = None


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
        kinds |= {"BOOLEAN": "BOOL", "TIMESTAMP": "DATETIME", "DATE": "DATE"}
        fields = [(name, kinds[str(kind)]) for name, kind in zip(found.columns, found.types, strict=True)]
        return fields, found.fetchall()


def checked(rows: pa.Table, fields: Fields) -> pa.Table:
    """What a load job makes of a file: its columns have to be of the table's types."""
    arrow = {"INT64": pa.int64(), "FLOAT64": pa.float64(), "STRING": pa.string(), "BOOL": pa.bool_()}
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

        url = f"snowflake://me:${{DB_PASSWORD}}@account/SHOP/PUBLIC?host=127.0.0.1&port={port}&protocol=http"
        yield Place(url, leftovers)


@pytest.fixture(scope="module")
def bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with bigquery_service(understood) as service, pytest.MonkeyPatch.context() as monkeypatch:
        credentials = tmp_path_factory.mktemp("credentials") / "key.json"
        credentials.write_text(json.dumps(service.credentials))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", service.url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        yield Place("bigquery://project/shop?location=EU", lambda: sorted(service.tables), service)


@pytest.fixture(params=["bigquery", "snowflake", pytest.param("spark", marks=pytest.mark.slow)])
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
    configuration = load_configuration(library / "project", [f"features.warehouse_timeout_seconds={seconds}"])
    definitions = load_definitions(library / "project", configuration)
    compute_view_values(location, library / "tables", "", configuration, definitions, views, MOMENTS, values)


def test_a_warehouse_gives_the_values_of_duckdb(warehouse: Place, library: Path, tmp_path: Path) -> None:
    compute(library, warehouse.location, tmp_path / "values")
    files = sorted((library / "duckdb").rglob("*.parquet"))
    assert len(files) == len(VIEWS) * len(MOMENTS)
    for file in files:
        here, there = pq.read_table(file), pq.read_table(tmp_path / "values" / file.relative_to(library / "duckdb"))
        assert there.schema == here.schema
        for name in here.column_names:
            pairs = list(zip(here[name].to_pylist(), there[name].to_pylist(), strict=True))
            if pa.types.is_floating(here.schema.field(name).type):
                assert all((a is None) is (b is None) for a, b in pairs), name
                different = [(a, b) for a, b in pairs if a is not None and not math.isclose(a, b, rel_tol=TOLERANCE)]
            else:
                different = [(a, b) for a, b in pairs if repr(a) != repr(b)]
            assert not different, f"{file.parent.name}:{name}"
    assert warehouse.leftovers() == []


def build_with(library: Path, folder: Path, location: str) -> dict[str, Any]:
    project = shutil.copytree(library / "project", folder / "project")
    save_stores(load_stores(project).model_copy(update={"offline_store": location}), project)
    return build(project, library / "tables", folder / "training_set")
