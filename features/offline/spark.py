"""Spark as an offline store, by Spark Connect: it reads the validated Parquet files where they are."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import pyarrow as pa

CONNECT_SECONDS = 20
LEAVING_SECONDS = 10
TYPES = {"TIMESTAMP": "TIMESTAMP_NTZ", "VARCHAR": "STRING"}
# As Hadoop calls what artifact stores are reached by.
SCHEMES = {"s3": "s3a", "minio": "s3a"}


class Spark:
    """A session. Its tables are views of it alone, and end with it; nothing is copied."""

    dialect = "spark"
    reads_in_place = True

    def __init__(self, url: str) -> None:
        """Note where it is.

        Args:
            url: `sc://HOST:PORT/;token=…;use_ssl=true`, with its secrets. Spark has to be able to read the store of
                the run's artifacts.
        """
        from pyspark.sql import SparkSession

        # It writes every error there as well, with all of the server's stack.
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        self._url = url
        self._session = SparkSession.builder.remote(url).create()

    def open(self) -> None:
        """Connect.

        Raises:
            OSError: nobody answers there.
            pyspark.errors.PySparkException: it refuses.
        """
        parts = urlsplit(self._url)
        # The client would try again for ten minutes.
        socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_SECONDS).close()
        for setting, value in {
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.ansi.enabled": "true",
            "spark.sql.caseSensitive": "false",
        }.items():
            self._session.conf.set(setting, value)

    def show(self, name: str, columns: Mapping[str, str], file: str) -> str:
        """Make a view of a Parquet file.

        Raises:
            pyspark.errors.PySparkException: the file is not where Spark looks, or cannot be read.
        """
        scheme, _, place = file.partition("://")
        rows = self._session.read.parquet(f"{SCHEMES.get(scheme, scheme)}://{place}")
        casts = [f"CAST(`{column}` AS {TYPES.get(kind, kind)}) AS `{column}`" for column, kind in columns.items()]
        view = f"lifecycle_{name}"
        rows.selectExpr(*casts).createOrReplaceTempView(view)
        return f"`{view}`"

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT."""
        rows = self._session.sql(statement).toArrow()
        yield from rows.to_batches() or [pa.RecordBatch.from_pylist([], schema=rows.schema)]

    def close(self) -> None:
        """End the session, and what still runs in it. A server that does not answer is left to find that out."""
        leaving = threading.Thread(target=self._session.stop, daemon=True)
        leaving.start()
        leaving.join(LEAVING_SECONDS)
        # Or the client asks once more when the process ends, for ten minutes.
        self._session.client.close()
