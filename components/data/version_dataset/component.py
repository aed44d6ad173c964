"""Component: give a dataset a version."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="validation")
def snapshot_dataset(project: Input[Artifact], tables: Input[Dataset], snapshot: Output[Dataset]):
    """Store the tables as a DVC version, so that what a model was trained on can be had again.

    Args:
        project: The project, as `load_project` gives it; its stores name the DVC remote.
        tables: The tables, as `ingest_data` gives them.
        snapshot: The same tables. Metadata: `version` (DVC's digest: the same content has the same version), `remote`,
            `rows` by table, `as_of`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(snapshot):
        from kfp_lifecycle.components.data.version_dataset import versioning
        from kfp_lifecycle.config.stores import load_stores

        remote = load_stores(Path(project.path)).dataset_remote
        version = versioning.snapshot(Path(tables.path), remote, Path(snapshot.path))
        snapshot.metadata.update(
            version=version,
            remote=remote,
            rows=tables.metadata["rows"],
            as_of=tables.metadata["as_of"],
            summary=f"version {version[:8]}",
        )
