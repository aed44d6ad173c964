"""The component `validate_features`."""

from kfp.dsl import Artifact, Input, Markdown, Output

from kfp_lifecycle.compilation.component import component


@component(environment="validation", cached=False)
def validate_features(project: Input[Artifact], training_set: Input[Artifact], report: Output[Markdown]):
    """Hold the features that a model is about to learn from against those that production is asked with.

    TFDV's skew comparator looks at each feature: the newest snapshot of the training set beside the predictions of the
    last `monitoring.window_days`. A feature that is farther apart than `validation.drift_threshold` and chance allow is
    a warning: who is asked about may rightly differ from who is learned from. Fewer predictions than
    `monitoring.smallest_window` decide nothing.

    Args:
        project: The project; its stores say where the prediction log is.
        training_set: The features, as `build_training_set` gives them.
        report: Every feature with its distance, the worst first. Metadata: `predictions`, `checks`, `warnings`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(report):
        from kfp_lifecycle.components.monitoring.check_serving_skew.skew import compare_with_production

        report.metadata.update(compare_with_production(Path(project.path), Path(training_set.path), Path(report.path)))
