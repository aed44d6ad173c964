"""Component: training-serving skew of features."""

from kfp.dsl import Artifact, Input, Markdown, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="validation",
    reads=("deployment.model", "monitoring", "validation.drift_threshold"),
    locations=("prediction_log",),
    cached=False,
)
def check_serving_skew(settings: dict, training_set: Input[Artifact], report: Output[Markdown]):
    """Training-serving skew: compare the features that a model learns from with those that it is asked with.

    TFDV's skew comparator looks at each feature: the newest snapshot of the training set beside the predictions of the
    last `monitoring.window_days`. A feature that is farther apart than `validation.drift_threshold` and chance allow is
    a warning: who is asked about may rightly differ from who is learned from. Fewer predictions than
    `monitoring.min_window` decide nothing.

    Args:
        settings: `deployment.model` is whose predictions count; `monitoring` and `validation.drift_threshold` hold the
            limits.
        training_set: The features, as `build_training_set` gives them.
        report: Every feature with its distance, the worst first. Metadata: `predictions`, `checks`, `warnings`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(report):
        from kfp_lifecycle.components.monitoring.check_serving_skew.skew import compare_with_production

        report.metadata.update(
            compare_with_production(
                check_serving_skew.given(settings),
                check_serving_skew.located(),
                Path(training_set.path),
                Path(report.path),
            )
        )
