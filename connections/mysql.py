"""MySQL and MariaDB, by PyMySQL with a cursor on the server's side: rows come as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import becoming

CONNECT_SECONDS = 15
ROWS = 2000
BINARY_CHARACTER_SET = 63
UNSIGNED_FLAG = 32
LARGEST_PRECISION = 38
# Parameters of the URL that PyMySQL knows, to encrypt the connection and to name the server's certificate.
PARAMETERS = {"ssl_ca", "ssl_cert", "ssl_key", "unix_socket"}


def batches(url: str, statement: str, seconds: float) -> Iterator[pa.RecordBatch]:
    """The rows of a statement, read-only, in the time zone UTC; an empty batch first, for its columns.

    Values come as the server's text, marked with what they are, so that nothing is lost to Python's types on the way.

    Args:
        url: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, or `mariadb://`, with its secrets.
        statement: One SELECT.
        seconds: The server, and each wait for it, gives up after this long.

    Raises:
        pymysql.Error, OSError: the server cannot be reached, refuses, or is lost.
    """
    connection, cursor = _asked(url, statement, seconds)
    try:
        fields = list(cursor._result.fields)
        if any(_is_float(field) for field in fields):
            # A server-side cursor would read the rest of the rows before it asks again.
            connection._force_close()
            connection, cursor = _asked(url, _exact(statement, fields), seconds)
        schema = pa.schema([_described(field) for field in fields])
        yield pa.RecordBatch.from_pylist([], schema=schema)
        while rows := cursor.fetchmany(ROWS):
            columns = [_array(values, field) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    finally:
        connection._force_close()


def _asked(url: str, statement: str, seconds: float) -> tuple[Any, Any]:
    """A connection, and a cursor on the server's side that gives the rows of the statement."""
    import pymysql
    from pymysql.converters import encoders
    from pymysql.cursors import SSCursor

    parts = urlsplit(url)
    parameters = {name: value for name, value in parse_qsl(parts.query) if name in PARAMETERS}
    connection = pymysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")),
        charset="utf8mb4",
        # Without decoders: values stay the server's text.
        conv=encoders,
        cursorclass=SSCursor,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=max(1, int(seconds)),
        **parameters,
    )
    try:
        cursor = connection.cursor()
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        if "mariadb" in str(connection.get_server_info()).lower():
            cursor.execute(f"SET SESSION max_statement_time = {seconds:f}")
        else:
            cursor.execute(f"SET SESSION max_execution_time = {max(1, int(seconds * 1000))}")
        cursor.execute(statement)
    except BaseException:
        connection._force_close()
        raise
    return connection, cursor


def _is_float(field: Any) -> bool:
    from pymysql.constants import FIELD_TYPE

    return bool(field.type_code == FIELD_TYPE.FLOAT)


def _exact(statement: str, fields: list[Any]) -> str:
    """The statement with each FLOAT as a DOUBLE: of a FLOAT the server writes six digits, which are not all it has."""
    names = [(f"`{field.name.replace('`', '``')}`", field) for field in fields]
    columns = ", ".join(f"{name} + 0E0 AS {name}" if _is_float(field) else name for name, field in names)
    return f"SELECT {columns} FROM (\n{statement}\n) AS exact"


def _array(values: tuple[Any, ...], field: pa.Field) -> pa.Array:
    if pa.types.is_uint64(field.type):
        return pa.array([None if value is None else int.from_bytes(value, "big") for value in values], field.type)
    return pa.array(values, field.type)


def _described(field: Any) -> pa.Field:
    from pymysql.constants import FIELD_TYPE

    unsigned = bool(field.flags & UNSIGNED_FLAG)
    kind = field.type_code
    if kind == FIELD_TYPE.BIT:
        return pa.field(field.name, pa.uint64())
    if kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        # The declared length counts the sign and the point too.
        precision = field.length - (0 if unsigned else 1) - (1 if field.scale else 0)
        decimal = f"DECIMAL({precision},{field.scale})" if precision <= LARGEST_PRECISION else None
        return becoming(pa.field(field.name, pa.string()), decimal) if decimal else pa.field(field.name, pa.string())
    numbers = {
        **dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG), "BIGINT"),
        FIELD_TYPE.LONGLONG: "UBIGINT" if unsigned else "BIGINT",
        FIELD_TYPE.YEAR: "BIGINT",
        FIELD_TYPE.FLOAT: "FLOAT",
        FIELD_TYPE.DOUBLE: "DOUBLE",
        FIELD_TYPE.DATE: "DATE",
        FIELD_TYPE.NEWDATE: "DATE",
        FIELD_TYPE.DATETIME: "TIMESTAMP",
        # It is a moment, told by the session's clock, which is UTC.
        FIELD_TYPE.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    }
    if kind in numbers:
        return becoming(pa.field(field.name, pa.string()), numbers[kind])
    texts = (FIELD_TYPE.TIME, FIELD_TYPE.JSON, FIELD_TYPE.ENUM, FIELD_TYPE.SET)
    binary = field.charsetnr == BINARY_CHARACTER_SET and kind not in texts
    return pa.field(field.name, pa.binary() if binary else pa.string())
