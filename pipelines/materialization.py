"""The `materialization` pipeline: keeps the online store fresh. Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import snapshot_dataset
from kfp_lifecycle.components.features.materialize_features.component import materialize_features
from kfp_lifecycle.components.operations.load_project.component import load_project
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report


@dsl.pipeline(name="materialization", description="Fills the online store from validated data.")
def materialization(
    tracking_uri: str,
    dataset_remote: str,
    online_store: str,
    prediction_log: str,
    serving: str,
    offline_store: str = "duckdb",
    study_store: str = "",
    source_version: str = "",
):
    """Compute the newest value of every feature and write it to the online store.

    Args:
        tracking_uri: MLflow tracking server.
        dataset_remote: DVC remote for dataset versions.
        online_store: Feast online store.
        prediction_log: Folder of the prediction log.
        serving: Where models are released.
        offline_store: What computes the feature views.
        study_store: Folder for searches that were cut off.
        source_version: Fingerprint of the source; the source is read again when it differs from the last run's.
    """
    with dsl.ExitHandler(notify(pipeline="materialization")):
        project = load_project(
            tracking_uri=tracking_uri,
            dataset_remote=dataset_remote,
            online_store=online_store,
            prediction_log=prediction_log,
            serving=serving,
            offline_store=offline_store,
            study_store=study_store,
        ).outputs["project"]
        tables = ingest_data(project=project, source_version=source_version).outputs["tables"]
        snapshot = snapshot_dataset(project=project, tables=tables).outputs["snapshot"]
        validated = validate_data(project=project, snapshot=snapshot).outputs["validated"]
        store = materialize_features(project=project, validated=validated).outputs["store"]
        write_report(
            pipeline="materialization",
            run_id=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            project=project,
            tables=tables,
            snapshot=snapshot,
            validated=validated,
            store=store,
        )
