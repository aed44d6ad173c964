"""Component: batch scoring with the champion."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=(
        "name",
        "entity",
        "source.tables",
        "features",
        "label",
        "training.weight",
        "deployment.model",
        "deployment.prediction_log",
    ),
    locations=("tracking_uri", "offline_store", "prediction_log"),
    cached=False,
)
def score_batch(
    settings: dict,
    feature_repo: Input[Artifact],
    label_query: Input[Artifact],
    validated: Input[Dataset],
    scores: Output[Dataset],
):
    """Batch scoring with the champion's ONNX model, with the features that move each score most.

    Who is scored, the label's query says, asked at the time of the newest row. Features are computed as for training
    and scored as by the server, so that both give the same score. A reason is the difference that one feature makes:
    the score, less what it would be with that feature at the training data's median or most frequent value (occlusion;
    the differences need not add up). Scores enter the prediction log, as of
    the moment of their features, so that monitoring sees them as it sees answers of servers.

    Args:
        settings: `source.tables` name the times that tables are cut by; `name`, `entity`, `label`, `features` and
            `training.weight` say what the definitions have to fit; `deployment.model` names the champion's model,
            `deployment.prediction_log` says what is logged.
        feature_repo: Folder with the feature definitions: `features.py` and one `<view>.sql` for each feature view.
        label_query: The SQL file that labels entities.
        validated: The tables, as `validate_data` gives them.
        scores: `scores.parquet`: the entity key, `as_of`, `score` (0 to 1), `decision` (the score reaches the model's
            threshold), `reason_1` to `reason_3` in words, strongest first, and `model_version`; and `scores.json`.
            Metadata: `rows`, `above_threshold` (share, 0 to 1), `threshold`, `model`, `version`, `as_of`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(scores):
        from kfp_lifecycle.components.scoring.score_batch import batch

        scored = batch.score_batch(
            score_batch.given(settings),
            score_batch.located(),
            Path(feature_repo.path),
            Path(label_query.path),
            Path(validated.path),
            Path(scores.path),
            validated_uri=validated.uri,
        )
        scores.metadata.update(scored.metadata())
