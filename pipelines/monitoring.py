"""The `monitoring` pipeline: has production moved away from what the model knows? Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.monitoring.collect_predictions.component import collect_predictions
from kfp_lifecycle.components.monitoring.detect_drift.component import detect_drift
from kfp_lifecycle.components.monitoring.trigger_retraining.component import trigger_retraining
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.pipelines.inputs import imported


@dsl.pipeline(name="monitoring", description="Compares production with what the champion was trained on.")
def monitoring(as_of: str = ""):
    """Compare the last days' predictions with the champion's baseline, and ask for retraining where it is due.

    Args:
        as_of: End of the window, ISO 8601; empty: now.
    """
    with dsl.ExitHandler(notify(pipeline="monitoring")):
        imported()
        predictions = collect_predictions(as_of=as_of).outputs["predictions"]
        decision = detect_drift(predictions=predictions)
        drift = decision.outputs["drift"]
        with dsl.If(decision.outputs["Output"] == "retrain", name="retrain"):
            trigger_retraining(drift=drift)
        write_report(pipeline="monitoring", findings=drift)
