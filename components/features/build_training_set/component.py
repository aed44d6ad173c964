"""Component: point-in-time training set of features and labels."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component

READS = (
    *("name", "entity", "source.tables", "features", "label", "snapshots", "split"),
    *("training.weight", "training.min_class_rows"),
)


@component(
    environment="modelling",
    reads=READS,
    locations=("offline_store",),
    records_origin=True,
)
def build_training_set(
    settings: dict,
    feature_repo: Input[Artifact],
    label_query: Input[Artifact],
    validated: Input[Dataset],
    training_set: Output[Dataset],
    since: str = "",
    remedy: str = "retrain",
) -> None:
    """Point-in-time join of features and labels, divided by time.

    For each snapshot every table is cut to the rows that had happened and had arrived, the SQL of each feature view
    runs on what is left (in the step, or in the warehouse that the location `offline_store` names), and the values are
    joined to the labels as Feast joins them. Train, validation and test follow each other in time, a label's horizon
    apart; after a change, as long as nothing since then would train, its dates are divided by entity. Before the set
    is handed on, a sample of its newest rows is asked of the server's own code over an online store filled for the
    purpose: a difference of one bit stops the run.

    Args:
        settings: `source.tables` name the times that tables are cut by, `snapshots` the dates, `entity`, `label` and
            `features` what is joined, `training.weight` a column that is carried along, `split` the parts;
            `training.min_class_rows` how many rows of a class a remedy needs since a change.
        feature_repo: Folder with the feature definitions: `features.py` and one `<view>.sql` for each feature view.
        label_query: The SQL file that labels entities.
        validated: The tables, as `validate_data` gives them.
        training_set: `train.parquet`, `validation.parquet` and `test.parquet`, sorted by time and entity key, numeric
            features as float64, categorical as string, missing as null; `present.parquet`, of up to 20,000 of who is
            there at the newest moment, without a label, where the parts follow each other in time; `feature_repo/` and
            `label_query.sql`, copies of the definitions; and `training_set.json`. Metadata: `rows` and `positives` by
            part, `features` (how many), `snapshots` (dates by part), `left_out` (dates of the snapshots in none) and
            `rows_left_out` (how many rows are in none), `skew` (what was compared with the online path),
            `feature_version`, `data_version` (DVC's), `as_of`, `summary`.
        since: Day of a change of the business (`YYYY-MM-DD`), such as monitoring estimates it; empty: `split.since`.
        remedy: `retrain`; or `recalibrate` or `set the threshold`, which keep the model in production: what has changed
            then trains nothing, and validates and tests alone.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(training_set):
        from kfp_lifecycle.components.features.build_training_set.training_set import build

        description = build(
            build_training_set.given(settings),
            build_training_set.located(),
            Path(feature_repo.path),
            Path(label_query.path),
            Path(validated.path),
            Path(training_set.path),
            validated.uri,
            told=settings,
            quarantined=int(validated.metadata.get("quarantined", 0)),
            since=since,
            remedy=remedy,
        )
        training_set.metadata.update({**description.metadata(), "data_version": validated.metadata["version"]})
