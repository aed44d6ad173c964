"""The `monitoring` pipeline: has production moved away from what the model knows? Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.monitoring.collect_predictions.component import collect_predictions
from kfp_lifecycle.components.monitoring.detect_drift.component import detect_drift
from kfp_lifecycle.components.monitoring.trigger_retraining.component import trigger_retraining
from kfp_lifecycle.components.operations.load_project.component import load_project
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report


@dsl.pipeline(name="monitoring", description="Compares production with what the champion was trained on.")
def monitoring(
    tracking_uri: str,
    dataset_remote: str,
    online_store: str,
    prediction_log: str,
    serving: str,
    offline_store: str = "duckdb",
    study_store: str = "",
    source_version: str = "",
    as_of: str = "",
):
    """Compare the last days' predictions with the champion's baseline, and ask for retraining where it is due.

    Args:
        tracking_uri: MLflow tracking server.
        dataset_remote: DVC remote for dataset versions.
        online_store: Feast online store.
        prediction_log: Folder of the prediction log.
        serving: Where models are released.
        offline_store: What computes the feature views.
        study_store: Folder for searches that were cut off.
        source_version: Fingerprint of the source, which all pipelines take; this one reads no source.
        as_of: End of the window, ISO 8601; empty: now.
    """
    with dsl.ExitHandler(notify(pipeline="monitoring")):
        project = load_project(
            tracking_uri=tracking_uri,
            dataset_remote=dataset_remote,
            online_store=online_store,
            prediction_log=prediction_log,
            serving=serving,
            offline_store=offline_store,
            study_store=study_store,
        ).outputs["project"]
        predictions = collect_predictions(project=project, as_of=as_of).outputs["predictions"]
        decision = detect_drift(project=project, predictions=predictions)
        drift = decision.outputs["drift"]
        with dsl.If(decision.outputs["Output"] == "retrain", name="retrain"):
            trigger_retraining(project=project, drift=drift)
        write_report(project=project, findings=drift, pipeline="monitoring")
