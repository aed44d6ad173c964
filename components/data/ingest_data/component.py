"""Component: extract a project's source tables to Parquet."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="validation", reads=("source", "validation.max_rows"), locations=("dataset_remote",))
def ingest_data(settings: dict, expectations: Input[Artifact], source_version: str, tables: Output[Dataset]):
    """Read the sources into one Parquet file for each table, and refuse what is missing or unreadable.

    Args:
        settings: `source` says where the data is, and what each table has: key, times, query. `validation.max_rows`
            refuses a larger table. Secrets in a URL come from the step's environment or from a mounted folder.
        expectations: Folder with the tables' TFDV schemas, `<table>.pbtxt`; a CSV table that has one is typed by it.
        source_version: Fingerprint of the source's content, as `fingerprint_source` finds it in each run. It is no more
            than a cache key: the same one with the same settings need not be read again.
        tables: `<table>.parquet` for each table, whole, and `manifest.json`. Metadata: `rows` by table, `as_of` (ISO
            time of the newest row), `loads` (of tables read incrementally, how many readings made them), and
            `source_version`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(tables):
        from kfp_lifecycle.components.data.ingest_data.ingestion import ingest

        manifest = ingest(
            ingest_data.given(settings), ingest_data.located(), Path(expectations.path), Path(tables.path)
        )
        tables.metadata.update(manifest.metadata(), source_version=source_version)
