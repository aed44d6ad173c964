"""The component `evaluate_model`."""

from kfp.dsl import Artifact, ClassificationMetrics, Input, Metrics, Model, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("evaluation", "training.costs", "training.seed", "training.min_class_rows"),
    locations=("tracking_uri",),
)
def evaluate_model(
    settings: dict,
    training_set: Input[Artifact],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    curve: Output[ClassificationMetrics],
):
    """Examine the candidate on the test part: performance, fairness, robustness, calibration, explanations, latency.

    Every metric with its 95% interval is also recorded in the model's MLflow run.

    Args:
        settings: `evaluation` says how thoroughly; `training.costs` what decisions are worth, `training.seed` what
            chance chooses, `training.min_class_rows` how many rows of a class can be judged.
        training_set: The training set; only its test part is judged.
        model: The model folder.
        evaluation: `evaluation.json` (each metric with value, 95% interval and rows; notes; tables),
            `predictions.parquet` and `plots/`.
        metrics: Every metric's value.
        curve: ROC curve and confusion matrix.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(evaluation, metrics, curve):
        from kfp_lifecycle.components.evaluation.evaluate_model.evaluation import evaluate

        given, located = evaluate_model.given(settings), evaluate_model.located()
        found = evaluate(given, located, Path(training_set.path), Path(model.path), Path(evaluation.path))
        evaluation.metadata.update(found.metadata)
        for name, metric in found.findings.metrics.items():
            metrics.log_metric(name, metric.value)
        curve.log_roc_curve(*found.curve)
        curve.log_confusion_matrix(["no event", "event"], found.confusion)
