"""Component: the newest value of every feature, ready to be served."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="modelling", cached=False)
def materialize_features(project: Input[Artifact], validated: Input[Dataset], store: Output[Artifact]) -> None:
    """Compute each feature as of the newest row, by the same SQL as for training, and write what changed to the online
    store.

    Values of other versions of the feature definitions stay as they are, for the models that were trained on them,
    until no registered model names the version and it was not filled for `features.freshness_days`. A store that
    already holds newer values, or was filled from the same tables, keeps them. It may be repeated, and read while it
    is written.

    Args:
        project: The project, as `load_project` gives it; its stores name the online store.
        validated: The tables, as `validate_data` gives them.
        store: JSON file: `online_store`, `feature_version`, `as_of` of the values now in the store, `rows` in it by
            view, `written` (of how many entities, by view: the others had not changed), `removed` (versions that were),
            `quality` (of each view the newest row of its tables and how its features are spread) and `example_entity`.
            The same is in its metadata, with `summary`.
    """
    import json
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(store):
        from kfp_lifecycle.components.features.materialize_features.materialization import materialize

        written = materialize(Path(project.path), Path(validated.path))
        Path(store.path).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        store.metadata.update(written)
        store.metadata["summary"] = f"{max(written['rows'].values()):,} entities, {len(written['rows'])} views"
