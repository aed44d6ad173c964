"""The `batch_scoring` pipeline: a table in, scores with reasons out. Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import snapshot_dataset
from kfp_lifecycle.components.operations.load_project.component import load_project
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.components.scoring.score_batch.component import score_batch


@dsl.pipeline(name="batch_scoring", description="Scores every current entity with the champion, and says why.")
def batch_scoring(
    tracking_uri: str,
    dataset_remote: str,
    online_store: str,
    prediction_log: str,
    serving: str,
    offline_store: str = "duckdb",
    study_store: str = "",
    source_version: str = "",
):
    """Score everyone on the newest validated data.

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
    with dsl.ExitHandler(notify(pipeline="batch_scoring")):
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
        scores = score_batch(project=project, validated=validated).outputs["scores"]
        write_report(project=project, snapshot=snapshot, validated=validated, findings=scores, pipeline="batch_scoring")
