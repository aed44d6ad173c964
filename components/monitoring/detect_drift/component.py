"""Component: drift detection between production and what the champion was made from."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("deployment.model", "monitoring", "training.seed"),
    locations=("tracking_uri",),
    cached=False,
)
def detect_drift(
    settings: dict,
    predictions: Input[Dataset],
    drift: Output[Artifact],
    metrics: Output[Metrics],
) -> str:
    """Compare what production sends with what the champion was trained on: what has happened, and what to do about it.

    Each feature, how much of it is missing, what of it was never seen, and the score are compared with the newest date
    of the champion's baseline: one prediction for each entity, of the version that the window is judged by. By how
    much the baseline's dates differ among themselves is usual; a column drifts when it is beyond that
    (`monitoring.significance`, corrected by Holm) and moved by more than `monitoring.min_effect`. Evidently computes
    the distances; the rule is ours, and `benchmarks/drift` measures how often each alarms by mistake.

    Args:
        settings: `deployment.model` is whose champion is meant, `monitoring` holds the rule's limits, and
            `training.seed` is that of the sample where predictions are many.
        predictions: What `collect_predictions` wrote.
        drift: `drift.json`: the verdict, the decision, a sentence, and of each column p-value, effect, distance, fault,
            since when and how far it moved the score, and pictures of those that drifted. metadata: `verdict`,
            `decision`, `sentence`, `drifted` (features), `drifted_share` (0 to 1), `predictions` (how many).
        metrics: `predictions_compared`, `features_drifted`, `drifted_share`, `score_distance`
            (Evidently's).

    Returns:
        The decision: `repair` where data is broken (never learn from it), `retrain` or `recalibrate` where the world
        moved, `keep`, or `undecided` where there are too few predictions (`monitoring.min_window`).
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(drift, metrics):
        from kfp_lifecycle.components.monitoring.detect_drift import detection

        found = detection.detect_drift(
            detect_drift.given(settings),
            detect_drift.located(),
            Path(predictions.path),
            Path(drift.path),
        )
        drift.metadata.update(found.metadata())
        metrics.log_metric("predictions_compared", found.predictions.compared)
        metrics.log_metric("features_drifted", len(found.drifted))
        metrics.log_metric("drifted_share", found.drifted_share)
        distance = detection.score_distance(found.columns)
        if distance is not None:
            metrics.log_metric("score_distance", distance)
    return str(found.decision)
