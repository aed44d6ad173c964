"""Tables come from databases as they are there: types, values, and nothing when something is amiss."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from shop import ORDERS, ingest, make_database, make_project, parquet_rows

from kfp_lifecycle.connections import retries as attempts
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.servers import PASSWORD, Server

pytestmark = pytest.mark.slow

PG = "postgresql://postgres:${DB_PASSWORD}@127.0.0.1:%d/postgres"
MARIA = "mariadb://reader:${DB_PASSWORD}@127.0.0.1:%d/shop"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.02)


@contextlib.contextmanager
def postgres_cursor(server: Server, password: str) -> Iterator[Any]:
    from adbc_driver_postgresql import dbapi

    url = f"postgresql://postgres:{password}@127.0.0.1:{server.port}/postgres"
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def ask_postgres(server: Server, password: str, *statements: str) -> None:
    with postgres_cursor(server, password) as cursor:
        for statement in statements:
            cursor.execute(statement)


def ask_maria(server: Server, *statements: str) -> None:
    import pymysql

    with pymysql.connect(
        host="127.0.0.1",
        port=server.port,
        user="reader",
        password=PASSWORD,
        database="shop",
        charset="utf8mb4",
        autocommit=True,
    ) as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def refusal(project: Path, output: Path) -> str:
    with pytest.raises(ContractViolation) as violation:
        ingest(project, output)
    assert not output.exists()
    assert PASSWORD not in str(violation.value)
    return str(violation.value)


@pytest.fixture(scope="module")
def pg(postgres: Server) -> Server:
    ask_postgres(
        postgres,
        quote(PASSWORD, safe=""),
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        """CREATE TABLE orders AS SELECT i AS order_id, timestamp '2025-01-01' + i * interval '1 hour' AS ordered_at,
            timestamptz '2025-06-01 12:00+02' AS paid_at, (i % 7 + 0.25)::numeric(10, 2) AS amount,
            (i / 4.0)::numeric AS share, 'Zoë 🎉 ' || i AS note, NULL::text AS nothing, i % 2 = 0 AS gift,
            'happy'::mood AS mood, '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid AS token, date '0001-01-01' AS first,
            timestamp '9999-12-31 23:59:59.999999' AS last, 'NaN'::float8 AS odd, 1e308::float8 AS huge,
            '{"a": 1}'::jsonb AS extra, ARRAY[1, 2] AS parts
            FROM generate_series(1, 1000) i""",
        "CREATE TABLE empty (order_id int, ordered_at timestamp)",
    )
    return postgres


def test_a_postgresql_table_arrives_with_its_types_and_values(pg: Server, password: str, tmp_path: Path) -> None:
    manifest = ingest(make_project(tmp_path / "shop", PG % pg.port), tmp_path / "tables")
    assert manifest.tables["orders"].rows == 1000
    columns = manifest.tables["orders"].columns
    assert columns["amount"] == "DECIMAL(10,2)"
    assert columns["order_id"] == "INTEGER"
    assert columns["ordered_at"] == columns["paid_at"] == columns["last"] == "TIMESTAMP"
    row = dict(zip(columns, parquet_rows(tmp_path / "tables/orders.parquet")[0], strict=True))
    assert row.pop("odd") != row["huge"]
    assert row == {
        "order_id": 1,
        "ordered_at": datetime(2025, 1, 1, 1),
        "paid_at": datetime(2025, 6, 1, 10),
        "amount": Decimal("1.25"),
        "share": 0.25,
        "note": "Zoë 🎉 1",
        "nothing": None,
        "gift": False,
        "mood": "happy",
        "token": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "first": date(1, 1, 1),
        "last": datetime(9999, 12, 31, 23, 59, 59, 999999),
        "huge": 1e308,
        "extra": '{"a": 1}',
        "parts": [1, 2],
    }


@pytest.mark.parametrize(
    ("extract", "words"),
    [
        ("SELECT 1 AS order_id, now() AS ordered_at, '1.5'::money AS amount", "column amount is of PostgreSQL's type"),
        ("SELECT 1 AS order_id, now() AS ordered_at, interval '1 day' AS span", "column span is of PostgreSQL's type"),
        ("SELECT 1 AS order_id, now() AS ordered_at, inet '127.0.0.1' AS ip", "ip::text AS ip"),
        ("SELECT 1 AS order_id, now() AS ordered_at, 12345678901234567890::numeric AS n", "more than 15 digits"),
        ("SELECT 1 AS order_id, 1 AS order_id, now() AS ordered_at", "column order_id comes twice"),
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT 1 AS order_id; DROP TABLE orders", "syntax error"),
        ("DELETE FROM orders RETURNING *", "syntax error"),
        ("SELECT 1 AS order_id, now() AS ordered_at, setval('counter', 1)", "counter"),
        ("SELECT order_id, ordered_at FROM empty", "orders is empty"),
    ],
)
def test_what_postgresql_gives_and_a_file_cannot_hold_is_refused(
    pg: Server, password: str, tmp_path: Path, extract: str, words: str
) -> None:
    project = make_project(tmp_path / "shop", PG % pg.port, {"orders": {**ORDERS, "extract": extract}})
    message = refusal(project, tmp_path / "tables")
    assert words in message
    assert "orders" in message


def test_extract_runs_in_the_database_and_query_here(pg: Server, password: str, tmp_path: Path) -> None:
    table = {
        **ORDERS,
        "extract": "SELECT order_id, to_char(ordered_at, 'YYYY-MM-DD') AS day FROM orders LIMIT 10",
        "query": "SELECT order_id, strptime(day, '%Y-%m-%d') AS ordered_at FROM source",
    }
    manifest = ingest(make_project(tmp_path / "shop", PG % pg.port, {"orders": table}), tmp_path / "tables")
    assert manifest.tables["orders"].rows == 10
    assert list(manifest.tables["orders"].columns) == ["order_id", "ordered_at"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres:${WRONG}@127.0.0.1:%d/postgres", "password authentication failed"),
        ("postgresql://postgres:${DB_PASSWORD}@127.0.0.1:%d/nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_refused_login_is_not_tried_again(
    pg: Server,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    url: str,
    words: str,
) -> None:
    monkeypatch.setenv("WRONG", "n0t-the-password")
    message = refusal(make_project(tmp_path / "shop", url % pg.port), tmp_path / "tables")
    assert words in message
    assert "n0t-the-password" not in message
    assert "attempt" not in capsys.readouterr().out


def test_a_database_that_hangs_is_left_after_its_time(pg: Server, password: str, tmp_path: Path) -> None:
    slow = {"orders": {**ORDERS, "extract": "SELECT order_id, ordered_at, pg_sleep(60)::text AS s FROM orders LIMIT 1"}}
    project = make_project(tmp_path / "shop", PG % pg.port, slow, timeout_seconds=0.5)
    message = refusal(project, tmp_path / "tables")
    assert "was not read within 0.5 s (timeout_seconds)" in message or "statement timeout" in message
    silent = make_project(tmp_path / "silent", PG % pg.port, timeout_seconds=1)
    pg.pause()
    try:
        started = time.monotonic()
        assert "was not read within 1 s" in refusal(silent, tmp_path / "tables")
        assert time.monotonic() - started < 30
    finally:
        pg.resume()
    ingest(make_project(tmp_path / "again", PG % pg.port), tmp_path / "tables")


def test_a_server_that_is_not_there_is_asked_again_and_then_named(
    password: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "shop", PG % 1, attempts=3)
    assert "could not be read, in 3 attempts" in refusal(project, tmp_path / "tables")
    assert "attempt 2 of 3 failed" in capsys.readouterr().out


# A query that takes 20 seconds, until it was terminated once.
SLOW = "SELECT *, pg_sleep(CASE WHEN (SELECT slow FROM pace) THEN 0.02 ELSE 0 END)::text AS s FROM orders"


@contextlib.contextmanager
def terminated_half_way(server: Server, password: str) -> Iterator[None]:
    """The server ends the connection that asks the slow query once it has been at it for half a second."""
    running = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%FROM pace%' AND state = 'active'"
        " AND clock_timestamp() - query_start > interval '0.5 s' AND pid <> pg_backend_pid()"
    )
    done = threading.Event()

    def terminate() -> None:
        with postgres_cursor(server, password) as cursor:
            while not done.wait(0.05):
                for (pid,) in cursor.execute(running).fetchall():
                    cursor.execute("UPDATE pace SET slow = false")
                    cursor.execute(f"SELECT pg_terminate_backend({pid})")

    ask_postgres(server, password, "DROP TABLE IF EXISTS pace", "CREATE TABLE pace AS SELECT true AS slow")
    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_database_that_dies_half_way_leaves_nothing_and_a_second_run_works(
    pg: Server, password: str, tmp_path: Path
) -> None:
    project = make_project(
        tmp_path / "shop", PG % pg.port, {"orders": {**ORDERS, "extract": SLOW}}, attempts=1, timeout_seconds=60
    )
    with terminated_half_way(pg, password):
        message = refusal(project, tmp_path / "tables")
    assert "could not be read, in 1 attempts" in message
    assert "terminating connection" in message
    assert ingest(make_project(tmp_path / "shop", PG % pg.port), tmp_path / "tables").tables["orders"].rows == 1000


def test_a_dropped_connection_is_made_again_and_no_row_comes_twice(
    pg: Server, password: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "shop", PG % pg.port, {"orders": {**ORDERS, "extract": SLOW}})
    with terminated_half_way(pg, password):
        manifest = ingest(project, tmp_path / "tables")
    assert manifest.tables["orders"].rows == 1000
    said = capsys.readouterr().out
    assert "attempt 1 of 4 failed" in said
    assert PASSWORD not in said


def test_nothing_can_be_written_to_a_database_whatever_the_url_says(pg: Server, password: str, tmp_path: Path) -> None:
    ask_postgres(pg, password, "CREATE SEQUENCE IF NOT EXISTS counter")
    url = f"{PG % pg.port}?options=-c%20default_transaction_read_only%3Doff"
    table = {**ORDERS, "extract": "SELECT nextval('counter') AS order_id, now() AS ordered_at"}
    assert "read-only" in refusal(make_project(tmp_path / "shop", url, {"orders": table}), tmp_path / "tables")


@pytest.fixture(scope="module")
def shop_in_maria(maria: Server) -> Server:
    ask_maria(
        maria,
        "SET sql_mode = ''",
        "CREATE TABLE odd (d DATE)",
        "INSERT INTO odd VALUES ('0000-00-00')",
        """CREATE TABLE orders (order_id BIGINT UNSIGNED PRIMARY KEY, ordered_at DATETIME(6), paid_at TIMESTAMP NULL,
            amount DECIMAL(10, 2), small TINYINT, gift BOOLEAN, ratio DOUBLE, day DATE, year YEAR, clock TIME(3),
            single FLOAT, note VARCHAR(100) CHARACTER SET utf8mb4,
            raw VARBINARY(10), mood ENUM('happy', 'sad'), flags BIT(9),
            extra JSON, big DECIMAL(60, 2))""",
        "SET time_zone = '+02:00'",
        """INSERT INTO orders SELECT 18446744073709551615 - seq, '2025-01-01 10:00:00.123456', '2025-06-01 12:00:00',
            1.25, -3, 1, 1e308, '9999-12-31', 2025, '-12:30:00.5', 16777213, concat('Zoë 🎉 ', seq),
            X'00FF', 'sad', b'100000001',
            '{"a": 1}', 123.45 FROM seq_0_to_2999""",
    )
    return maria


def test_a_mariadb_table_arrives_with_its_types_and_values(
    shop_in_maria: Server, password: str, tmp_path: Path
) -> None:
    manifest = ingest(make_project(tmp_path / "shop", MARIA % shop_in_maria.port), tmp_path / "tables")
    assert manifest.tables["orders"].rows == 3000
    columns = manifest.tables["orders"].columns
    assert columns["order_id"] == "UBIGINT"
    assert columns["amount"] == "DECIMAL(10,2)"
    assert dict(zip(columns, parquet_rows(tmp_path / "tables/orders.parquet")[-1], strict=True)) == {
        "order_id": 2**64 - 1,
        "ordered_at": datetime(2025, 1, 1, 10, 0, 0, 123456),
        "paid_at": datetime(2025, 6, 1, 10),
        "amount": Decimal("1.25"),
        "small": -3,
        "gift": 1,
        "ratio": 1e308,
        "day": date(9999, 12, 31),
        "year": 2025,
        "clock": "-12:30:00.500",
        "single": 16777213.0,
        "note": "Zoë 🎉 0",
        "raw": b"\x00\xff",
        "mood": "sad",
        "flags": 257,
        "extra": '{"a": 1}',
        "big": "123.45",
    }


@pytest.mark.parametrize(
    ("extract", "words"),
    [
        ("SELECT 1 AS order_id, CAST('0000-00-00' AS DATE) AS ordered_at", "ordered_at"),
        (
            "SELECT 1 AS order_id, d AS ordered_at FROM odd",
            "column ordered_at holds a value that is no DATE: 0000-00-00",
        ),
        ("SELECT * FROM nowhere", "nowhere' doesn't exist"),
        ("DELETE FROM orders", "SQL syntax"),
        ("SELECT order_id, ordered_at, SLEEP(60) AS s FROM orders", "within 1 s"),
    ],
)
def test_what_mariadb_gives_and_a_file_cannot_hold_is_refused(
    shop_in_maria: Server, password: str, tmp_path: Path, extract: str, words: str
) -> None:
    tables = {"orders": {**ORDERS, "extract": extract}}
    seconds = 1 if "SLEEP" in extract else 60
    project = make_project(tmp_path / "shop", MARIA % shop_in_maria.port, tables, timeout_seconds=seconds, attempts=1)
    message = refusal(project, tmp_path / "tables")
    assert words in message


def make_sqlite(file: Path, *statements: str) -> str:
    with sqlite3.connect(file) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return f"sqlite:///{file}"


AS_TIME = "SELECT * REPLACE (CAST(ordered_at AS TIMESTAMP) AS ordered_at) FROM source"


def test_a_sqlite_table_arrives_with_the_types_of_its_values(tmp_path: Path) -> None:
    url = make_sqlite(
        tmp_path / "shop.db",
        "CREATE TABLE orders (order_id INTEGER, ordered_at TEXT, amount DECIMAL(10, 2), note TEXT, raw BLOB, none INT)",
        "INSERT INTO orders VALUES (1, '2025-01-01 10:00:00', 10, 'Zoë', x'00ff', NULL)",
        "INSERT INTO orders VALUES (2, '2025-01-02', 2.5, '', NULL, NULL)",
    )
    project = make_project(tmp_path / "shop", url, {"orders": {**ORDERS, "query": AS_TIME}})
    manifest = ingest(project, tmp_path / "tables")
    assert list(manifest.tables["orders"].columns.values()) == [
        "BIGINT",
        "TIMESTAMP",
        "DOUBLE",
        "VARCHAR",
        "BLOB",
        "VARCHAR",
    ]
    assert parquet_rows(tmp_path / "tables/orders.parquet")[0][2:] == (10.0, "Zoë", b"\x00\xff", None)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE TABLE orders (a)", "INSERT INTO orders VALUES (1), ('x')"], "a holds values of several types: int"),
        (["CREATE TABLE order_lines (order_id)"], "no such table: orders"),
    ],
)
def test_what_sqlite_cannot_say_is_refused(tmp_path: Path, statements: list[str], words: str) -> None:
    url = make_sqlite(tmp_path / "shop.db", *statements)
    project = make_project(tmp_path / "shop", url, {"orders": {**ORDERS, "query": AS_TIME}})
    message = refusal(project, tmp_path / "tables")
    assert words in message
    assert "shop.db" in message


def test_three_databases_and_a_folder_of_files_are_read_in_one_run(
    pg: Server, shop_in_maria: Server, password: str, tmp_path: Path
) -> None:
    (tmp_path / "visits.csv").write_text("order_id,ordered_at\n1,2025-03-01\n")
    sqlite_url = make_sqlite(tmp_path / "a.db", "CREATE TABLE notes (order_id)", "INSERT INTO notes VALUES (1)")
    duckdb_url = make_database(
        tmp_path / "b.duckdb", orders="SELECT 1 AS order_id, TIMESTAMP '2025-01-01' AS ordered_at"
    )
    connections: dict[str, Any] = {
        "billing": {"url": PG % pg.port},
        "web": {"url": MARIA % shop_in_maria.port},
        "notes": {"url": sqlite_url},
        "exports": {"url": f"file:///{tmp_path}", "format": "csv"},
    }
    tables = {
        "orders": ORDERS,
        "bills": {**ORDERS, "connection": "billing", "extract": "SELECT order_id, ordered_at FROM orders"},
        "carts": {**ORDERS, "connection": "web", "extract": "SELECT order_id, ordered_at FROM orders LIMIT 7"},
        "notes": {**ORDERS, "connection": "notes", "query": "SELECT *, DATE '2025-01-01' AS ordered_at FROM source"},
        "visits": {**ORDERS, "connection": "exports"},
    }
    manifest = ingest(make_project(tmp_path / "shop", duckdb_url, tables, connections=connections), tmp_path / "tables")
    assert {name: table.rows for name, table in manifest.tables.items()} == {
        "orders": 1,
        "bills": 1000,
        "carts": 7,
        "notes": 1,
        "visits": 1,
    }
