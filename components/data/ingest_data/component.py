"""Component: read a project's source tables."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="validation")
def ingest_data(project: Input[Artifact], tables: Output[Dataset], source_version: str = ""):
    """Read the project's sources into one Parquet file for each table, and refuse what is missing or unreadable.

    Args:
        project: The project, as `load_project` gives it; its `source` section says where the data is, and its stores
            where the rows are that a table with `incremental` has had so far. Secrets in a URL come from the step's
            environment or from a mounted folder.
        tables: `<table>.parquet` for each table, whole, and `manifest.json`. Metadata: `rows` by table, `as_of` (ISO
            time of the newest row), `loads` (of tables read incrementally, how many readings made them), and
            `source_version`.
        source_version: Fingerprint of the source's content. It is no more than a cache key: the same one with the same
            project need not be read again. Where it is not known, as of a database, give each run another.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(tables):
        from kfp_lifecycle.components.data.ingest_data.ingestion import ingest

        manifest = ingest(Path(project.path), Path(tables.path))
        tables.metadata["rows"] = {name: table.rows for name, table in manifest.tables.items()}
        tables.metadata["as_of"] = manifest.as_of.isoformat()
        tables.metadata["loads"] = {name: len(table.loads) for name, table in manifest.tables.items() if table.loads}
        tables.metadata["source_version"] = source_version
        tables.metadata["summary"] = f"{sum(tables.metadata['rows'].values()):,} rows in {len(manifest.tables)} tables"
