"""BigQuery as an offline store, by Google's own client: load jobs from Parquet, results as Arrow."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from kfp_lifecycle.connections import bigquery as source

# A table that a step could not remove, since it was killed, removes itself.
EXPIRY = timedelta(hours=12)
# The client tries again for ten minutes by default.
RETRY_SECONDS = 60
TYPES = {
    "BOOLEAN": "BOOL",
    "BIGINT": "INT64",
    "DOUBLE": "FLOAT64",
    "VARCHAR": "STRING",
    "DATE": "DATE",
    "TIMESTAMP": "DATETIME",
}


class BigQuery:
    """A session: tables of its own in the dataset that the URL names.

    It takes no right but to make tables in that dataset and to run jobs; a dataset of its own would take more.
    """

    dialect = "bigquery"
    reads_in_place = False

    def __init__(self, url: str, seconds: float) -> None:
        """Note where it is.

        Args:
            url: `bigquery://PROJECT/DATASET?location=REGION`; credentials are Google's defaults of the environment.
            seconds: Longest that a job may take.
        """
        self._url, self._seconds = url, seconds
        self._prefix = f"lifecycle_{secrets.token_hex(6)}"
        self._tables: list[str] = []
        self._session = contextlib.ExitStack()

    def open(self) -> None:
        """Make a client.

        Raises:
            google.auth.exceptions.GoogleAuthError: there are no credentials.
        """
        from google.cloud import bigquery

        parts = urlsplit(self._url)
        location = dict(parse_qsl(parts.query)).get("location")
        self._dataset = f"{parts.netloc}.{parts.path.strip('/')}"
        self._client = self._session.enter_context(bigquery.Client(project=parts.netloc, location=location))

    def show(self, name: str, columns: Mapping[str, str], file: str) -> str:
        """Load a Parquet file into a table that expires.

        Raises:
            google.api_core.exceptions.GoogleAPIError: it cannot be reached, or refuses.
        """
        from google.cloud import bigquery
        from google.cloud.bigquery import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_timeout(min(RETRY_SECONDS, self._seconds))
        fields = [bigquery.SchemaField(column, _type(kind)) for column, kind in columns.items()]
        place = f"{self._dataset}.{self._prefix}_{name}"
        table = bigquery.Table(place, schema=fields)
        table.expires = datetime.now(UTC) + EXPIRY
        self._tables.append(place)
        self._client.create_table(table, retry=retry, timeout=self._seconds)
        settings = bigquery.LoadJobConfig(
            schema=fields, source_format="PARQUET", write_disposition="WRITE_APPEND", create_disposition="CREATE_NEVER"
        )
        with Path(file).open("rb") as content:
            job = self._client.load_table_from_file(content, place, job_config=settings, timeout=self._seconds)
        job.result(retry=retry, timeout=self._seconds)
        return ".".join(f"`{part}`" for part in place.split("."))

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT, as ingest reads them."""
        return source.batches(self._url, statement, self._seconds)

    def close(self) -> None:
        """Remove the tables."""
        from google.cloud.bigquery import DEFAULT_RETRY

        with self._session:
            for place in self._tables:
                self._client.delete_table(
                    place, not_found_ok=True, retry=DEFAULT_RETRY.with_timeout(RETRY_SECONDS), timeout=RETRY_SECONDS
                )


def _type(duckdb_type: str) -> str:
    """BigQuery's name of a type; its decimals have fixed bounds, and 38 digits with 9 of them behind the point fit."""
    if not duckdb_type.startswith("DECIMAL"):
        return TYPES[duckdb_type]
    width, scale = (int(number) for number in duckdb_type.removeprefix("DECIMAL(").rstrip(")").split(","))
    return "NUMERIC" if scale <= 9 and width - scale <= 29 else "BIGNUMERIC"
