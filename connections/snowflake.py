"""Snowflake, by ADBC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from kfp_lifecycle.connections.arrow import pa

if TYPE_CHECKING:
    from adbc_driver_snowflake import dbapi

PARAMETERS = {
    "warehouse": "adbc.snowflake.sql.warehouse",
    "role": "adbc.snowflake.sql.role",
    "host": "adbc.snowflake.sql.uri.host",
    "port": "adbc.snowflake.sql.uri.port",
    "protocol": "adbc.snowflake.sql.uri.protocol",
    "private_key": "adbc.snowflake.sql.client_option.jwt_private_key_pkcs8_value",
    "authenticator": "adbc.snowflake.sql.auth_type",
}
LOGIN_SECONDS = 30


def batches(url: str, statement: str, seconds: float) -> Iterator[pa.RecordBatch]:
    """The rows of a statement, in the time zone UTC; an empty batch first, for its columns.

    Names that Snowflake keeps in capitals, which is all that were not quoted, come in small letters.

    Args:
        url: `snowflake://USER:PASSWORD@ACCOUNT/DATABASE/SCHEMA?warehouse=…&role=…`, with its secrets.
        statement: One SELECT. Snowflake knows no session that cannot write: give the role no right to.
        seconds: The server ends the statement after this long.

    Raises:
        adbc_driver_manager.Error: it cannot be reached, or refuses.
    """
    with connected(url, seconds) as connection, connection.cursor() as cursor:
        yield from fetched(cursor, statement)


def connected(url: str, seconds: float) -> dbapi.Connection:
    """A session in the time zone UTC, whose statements the server ends after so many seconds.

    Raises:
        adbc_driver_manager.Error: it cannot be reached, or refuses.
    """
    from adbc_driver_snowflake import dbapi

    parts = urlsplit(url)
    database, _, schema_name = parts.path.strip("/").partition("/")
    options = {
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "adbc.snowflake.sql.account": parts.hostname or "",
        "adbc.snowflake.sql.db": database,
        "adbc.snowflake.sql.schema": schema_name,
        "adbc.snowflake.sql.client_option.disable_telemetry": "true",
        "adbc.snowflake.sql.client_option.login_timeout": f"{LOGIN_SECONDS}s",
        "adbc.snowflake.sql.client_option.max_timestamp_precision": "microseconds",
        **{PARAMETERS[name]: value for name, value in parse_qsl(parts.query) if name in PARAMETERS},
    }
    options = {name: value for name, value in options.items() if value}
    connection = dbapi.connect(db_kwargs=options, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("ALTER SESSION SET TIMEZONE = 'UTC'")
        cursor.execute(f"ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = {max(1, int(seconds))}")
    return connection


def fetched(cursor: dbapi.Cursor, statement: str) -> Iterator[pa.RecordBatch]:
    """The rows of a statement, as `batches` gives them."""
    cursor.execute(statement)
    reader = cursor.fetch_record_batch()
    names = [name.lower() if name.isupper() else name for name in reader.schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    yield pa.RecordBatch.from_pylist([], schema=schema)
    for batch in reader:
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
