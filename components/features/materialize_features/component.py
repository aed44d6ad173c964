"""Component: incremental materialization of features into the online store."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("name", "entity", "source.tables", "features", "label", "training.weight", "deployment.model"),
    locations=("online_store", "tracking_uri"),
    cached=False,
)
def materialize_features(
    settings: dict, feature_repo: Input[Artifact], validated: Input[Dataset], store: Output[Artifact]
) -> None:
    """Incremental materialization of features into the online store.

    Each feature is computed as of the newest row, by the same SQL as for training, and what changed is written. Values
    of other versions of the feature definitions stay as they are, for the models that were trained on them, until no
    registered model names the version and it was not filled for `features.freshness_days`. A store that already holds
    newer values, or was filled from the same tables, keeps them. It may be repeated, and read while it is written.

    Args:
        settings: `source.tables` name the times that tables are cut by, `name` keeps projects in one store apart,
            `entity`, `label`, `features` and `training.weight` say what the definitions have to fit, `deployment.model`
            whose versions are still needed.
        feature_repo: Folder with the feature definitions: `features.py` and one `<view>.sql` for each feature view.
        validated: The tables, as `validate_data` gives them.
        store: JSON file: `online_store`, `feature_version`, `as_of` of the values now in the store, `rows` in it by
            view, `written` (of how many entities, by view: the others had not changed), `removed` (versions that were),
            `quality` (of each view the newest row of its tables and how its features are spread) and `example_entity`.
            All but `quality` is in its metadata, with `summary`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(store):
        from kfp_lifecycle.components.features.materialize_features.materialization import materialize

        written = materialize(
            materialize_features.given(settings),
            materialize_features.located(),
            Path(feature_repo.path),
            Path(validated.path),
        )
        written.write(Path(store.path))
        store.metadata.update(written.metadata())
