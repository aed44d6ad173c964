"""PostgreSQL, by ADBC: the server's binary copy becomes Arrow without passing through Python's objects."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import EXACT_DOUBLE, UUID, Refused, becoming

CONNECT_SECONDS = 15
LARGEST_PRECISION = 38
# What Arrow would hold in a form that nobody expects: money as cents, others as PostgreSQL's internal bytes.
WITHOUT_FORM = {"money", "interval"}


def batches(url: str, statement: str, seconds: float) -> Iterator[pa.RecordBatch]:
    """The rows of a statement, read-only, in the time zone UTC; an empty batch first, for its columns.

    Args:
        url: As libpq reads it, with its secrets.
        statement: One SELECT.
        seconds: The server gives up after this long.

    Raises:
        adbc_driver_manager.Error, OSError: the server cannot be reached, refuses, or is lost.
        Refused: a column is of a type that Arrow does not have.
    """
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(_with_settings(url, seconds)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        reader = cursor.fetch_record_batch()
        schema = pa.schema([_described(field) for field in reader.schema])
        yield pa.RecordBatch.from_pylist([], schema=schema)
        for batch in reader:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _with_settings(url: str, seconds: float) -> str:
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query))
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{max(1, int(seconds * 1000))}",
        "TimeZone": "UTC",
    }
    wanted = [parameters.get("options", ""), *(f"-c {name}={value}" for name, value in settings.items())]
    parameters = {"connect_timeout": str(CONNECT_SECONDS), **parameters, "options": " ".join(wanted).strip()}
    return urlunsplit(parts._replace(query=urlencode(parameters, quote_via=quote)))


def _described(field: pa.Field) -> pa.Field:
    metadata = field.metadata or {}
    kind = metadata.get(b"POSTGRESQL:type", b"").decode()
    if metadata.get(b"ARROW:extension:name") == b"arrow.uuid":
        return becoming(field, UUID)
    if kind == "numeric":
        # PostgreSQL packs precision and scale into one number; -1 is a numeric of any.
        modifier = int(metadata.get(b"POSTGRESQL:typmod", b"-1")) - 4
        precision, scale = modifier >> 16, modifier & 0x7FF
        bounded = modifier >= 0 and precision <= LARGEST_PRECISION and scale <= precision
        return becoming(field, f"DECIMAL({precision},{scale})" if bounded else EXACT_DOUBLE)
    opaque = metadata.get(b"ARROW:extension:name") == b"arrow.opaque" and pa.types.is_binary(field.type)
    if opaque or kind in WITHOUT_FORM:
        raise Refused(
            f"column {field.name}",
            f"is of PostgreSQL's type {kind}, which a Parquet file does not have",
            f"Cast it in the table's extract: SELECT …, {field.name}::text AS {field.name} FROM …",
        )
    return field.remove_metadata()
