"""Component: read a project's source tables."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.environment import component


@component(environment="validation")
def ingest_data(project: Input[Artifact], tables: Output[Dataset], source_version: str = ""):
    """Read the project's source into one Parquet file for each table, and refuse what is missing or unreadable.

    Args:
        project: The project, as `load_project` gives it; its `source` section says where the data is.
        tables: `<table>.parquet` for each table and `manifest.json`. Metadata: `rows` by table, `as_of` (ISO time of
            the newest row), `source_version`.
        source_version: Fingerprint of the source's content. It is no more than a cache key: the same one with the same
            project need not be read again. Empty where it is not known.
    """
    from pathlib import Path

    from components.contract import step
    from components.data.ingest_data.ingestion import ingest

    with step(tables):
        manifest = ingest(Path(project.path), Path(tables.path))
        tables.metadata["rows"] = {name: table.rows for name, table in manifest.tables.items()}
        tables.metadata["as_of"] = manifest.as_of.isoformat()
        tables.metadata["source_version"] = source_version
        tables.metadata["summary"] = f"{sum(tables.metadata['rows'].values()):,} rows in {len(manifest.tables)} tables"
