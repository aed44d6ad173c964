"""BigQuery, by Google's own client: Arrow by the storage interface, which streams results of any size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.columns import Refused


def batches(url: str, statement: str, seconds: float) -> Iterator[pa.RecordBatch]:
    """The rows of a statement; an empty batch first, for its columns.

    Args:
        url: `bigquery://PROJECT/DATASET?location=REGION`; credentials are Google's defaults of the environment.
        statement: One query. Anything that would change data is refused before it runs.
        seconds: The job is ended after this long.

    Raises:
        google.api_core.exceptions.GoogleAPIError, google.auth.exceptions.GoogleAuthError: it cannot be reached, or
            refuses.
        Refused: the statement is none that only reads.
    """
    from google.cloud import bigquery
    from google.cloud.bigquery_storage import BigQueryReadClient

    parts = urlsplit(url)
    project, dataset = parts.netloc, parts.path.strip("/")
    location = dict(parse_qsl(parts.query)).get("location")
    with bigquery.Client(project=project, location=location) as client:
        settings = {"default_dataset": f"{project}.{dataset}", "use_legacy_sql": False}
        plan = client.query(statement, job_config=bigquery.QueryJobConfig(dry_run=True, **settings))
        if plan.statement_type != "SELECT":
            raise Refused("the extract", f"is a {plan.statement_type}, which changes data", "Write a SELECT.")
        limits = bigquery.QueryJobConfig(job_timeout_ms=int(seconds * 1000), **settings)
        rows = client.query(statement, job_config=limits).result(timeout=seconds)
        # The emulator of the tests has no storage interface; results then come through the query's own.
        storage = None if os.environ.get("BIGQUERY_EMULATOR_HOST") else BigQueryReadClient()
        if not rows.total_rows:
            yield pa.RecordBatch.from_pylist([], schema=rows.to_arrow(create_bqstorage_client=False).schema)
            return
        for number, batch in enumerate(rows.to_arrow_iterable(bqstorage_client=storage)):
            if number == 0:
                yield batch.slice(0, 0)
            yield batch
