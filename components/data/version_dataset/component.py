"""Component: give a dataset a version."""

from kfp.dsl import Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="validation", locations=("dataset_remote",))
def version_dataset(tables: Input[Dataset], dataset: Output[Dataset]):
    """Store the tables as a DVC version, so that what a model was trained on can be had again.

    The DVC remote is the location `dataset_remote`: a folder, `s3://`, `gs://` or `ssh://`.

    Args:
        tables: The tables, as `ingest_data` gives them.
        dataset: The same tables. Metadata: `version` (DVC's digest: the same content has the same version), `remote`,
            `rows` by table, `as_of`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(dataset):
        from kfp_lifecycle.components.data.version_dataset.versioning import save_version

        remote = version_dataset.located().dataset_remote
        version = save_version(Path(tables.path), remote, Path(dataset.path))
        dataset.metadata.update(
            version=version,
            remote=remote,
            rows=tables.metadata["rows"],
            as_of=tables.metadata["as_of"],
            summary=f"version {version[:8]}",
        )
