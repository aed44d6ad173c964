"""Component: one verdict of all that monitoring found, and its remedy."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=(
        "name",
        "label",
        "monitoring.outcome_ratio",
        "monitoring.ranking_run_length",
        "training.costs",
        "training.seed",
        "training.threshold",
    ),
    locations=("tracking_uri", "prediction_log", "audit_record"),
    cached=False,
)
def decide_remedy(
    settings: dict,
    predictions: Input[Dataset],
    drift: Input[Artifact],
    skew: Input[Artifact],
    outcomes: Input[Dataset],
    remedy: Output[Artifact],
    report: Output[HTML],
    run_id: str = "",
    run_name: str = "",
) -> str:
    """Decide what has happened to the model in production, and what to do about it.

    Broken data is repaired and never learned from. Where the version before would have been worth more since this one
    took over, the model is worse. Where outcomes are not what was foretold the world moved, unless the version before
    did better on the same days or the decline began with the release: then, too, the model is worse, as it is where
    events come to others than the scores say. What would pay is told by scoring each remedy on the predictions
    whose outcome is known, by the project's costs. Each window is kept in MLflow, in the experiment
    `monitoring/<project>`: a later look at it takes its place.

    Args:
        settings: `name` is the project whose history is kept, `label` names what is foretold,
            `monitoring.outcome_ratio` says how far outcomes may be off, `monitoring.ranking_run_length` how seldom the
            ranking is called lost by mistake, `training.costs` what decisions are worth, `training.threshold` whether
            they are made by that; `training.seed` is that of what is learned to say so.
        predictions: What `collect_predictions` found.
        drift: What `detect_drift` found.
        skew: What `recompute_features` found.
        outcomes: What `join_outcomes` found.
        remedy: `remedy.json`: the verdict, the remedy, both in a sentence, since when, why, what each remedy would
            have been worth, and what a recalibration or a new threshold comes to. metadata: `verdict`, `remedy`,
            `sentence`, `since`.
        report: The monitoring page: the verdict, what changed, trends, and what was done about each alarm.
        run_id: This run, as Kubeflow calls it.
        run_name: This run, as Vertex AI calls it.

    Returns:
        What is to be started: `retrain` where a training carries the remedy out (`recalibrate`, `set the threshold` or
            `retrain`), else the remedy: `nothing`, `repair` or `roll back`.
    """
    import os
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(remedy, report):
        from kfp_lifecycle.components.monitoring.decide_remedy import judging
        from kfp_lifecycle.monitoring.retraining_policy import TRAINED

        found = judging.decide_remedy(
            decide_remedy.given(settings),
            decide_remedy.located(),
            Path(predictions.path),
            Path(drift.path),
            Path(skew.path),
            Path(outcomes.path),
            Path(remedy.path),
            Path(report.path),
            runs=(os.environ.get("LIFECYCLE_RUN_ID", run_id), run_name),
        )
        remedy.metadata.update(found.metadata())
    return "retrain" if found.remedy in TRAINED else str(found.remedy)
