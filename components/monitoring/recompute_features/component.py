"""Component: recomputation of logged features by the training path."""

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
        "monitoring.max_caller_share",
    ),
    locations=("tracking_uri", "online_store", "offline_store"),
    cached=False,
)
def recompute_features(
    settings: dict,
    predictions: Input[Dataset],
    feature_repo: Input[Artifact],
    validated: Input[Dataset],
    skew: Output[Artifact],
):
    """Training-serving skew of what was served: recompute logged features as of the request, value by value.

    The online store notes each filling, so that it is known as of which moment a request was answered. The training
    path computes the same features as of that moment, of the requests of the newest three fillings, and each number has
    to be the one that the model was given. A join to the wrong rows, another unit and a pipeline that went its own way
    differ in nearly all requests; what a caller brings itself differs in a few.

    Args:
        settings: `source.tables` name the times that tables are cut by; `name`, `entity`, `label`, `features` and
            `training.weight` say what the definitions have to fit; `deployment.model` whose predictions count;
            `monitoring.max_caller_share` who asks for too little to make a feature skewed alone.
        predictions: What `collect_predictions` wrote.
        feature_repo: Folder with the feature definitions.
        validated: The tables, as `validate_data` gives them.
        skew: `skew.json`: how many requests were compared, of each feature that differs in how many, since when, and an
            example. metadata: `compared`, `skewed`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(skew):
        from kfp_lifecycle.components.monitoring.recompute_features import recomputing

        found = recomputing.recompute(
            recompute_features.given(settings),
            recompute_features.located(),
            Path(predictions.path),
            Path(feature_repo.path),
            Path(validated.path),
            Path(skew.path),
            validated_uri=validated.uri,
        )
        skew.metadata.update(found.metadata())
