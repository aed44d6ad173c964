"""Component: drift detection between production and the champion's training data."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

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
    report: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Compare what production sends with what the champion was trained on, and decide whether to train anew.

    Each feature, how much of it is missing, and the score are compared with the sample of training data that the
    champion carries: one prediction for each entity, of the champion's own version. A column drifts when its p-value
    (Kolmogorov-Smirnov for numbers, chi-square for categories), corrected by Holm, is below `monitoring.significance`
    and its Jensen-Shannon distance above `monitoring.min_effect`. Evidently draws the report; the rule is ours,
    since Evidently's defaults alarm on many small windows without any drift (`benchmarks/drift_rule.py` measures it).

    Args:
        settings: `deployment.model` is whose champion is meant, `monitoring` holds the rule's limits, and
            `training.seed` is that of the sample where predictions are many.
        predictions: What `collect_predictions` wrote.
        drift: `drift.json`: the decision, a sentence, and p-value, distance and verdict of each column. metadata:
            `decision`, `sentence`, `drifted` (features), `drifted_share` (0 to 1), `predictions` (how many).
        report: Page with the verdict and each column's distributions.
        metrics: `predictions_compared`, `features_drifted`, `drifted_share`, `score_distance` (0 to 1).

    Returns:
        The decision: `retrain`, `keep`, or `undecided` where there are too few predictions
        (`monitoring.min_window`).
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(drift, report, metrics):
        from kfp_lifecycle.components.monitoring.detect_drift import detection

        found = detection.detect_drift(
            detect_drift.given(settings),
            detect_drift.located(),
            Path(predictions.path),
            Path(drift.path),
            Path(report.path),
        )
        drift.metadata.update(found.metadata())
        metrics.log_metric("predictions_compared", found.predictions.compared)
        metrics.log_metric("features_drifted", len(found.drifted))
        metrics.log_metric("drifted_share", found.drifted_share)
        distance = detection.score_distance(found.columns)
        if distance is not None:
            metrics.log_metric("score_distance", distance)
    return str(found.decision)
