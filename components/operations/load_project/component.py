"""Component `load_project`: the configuration that every other step reads."""

from kfp import dsl
from kfp.dsl import Artifact, Output

from kfp_lifecycle.compilation.component import component


@component(environment="platform", carries_project=True)
def load_project(
    embedded: dsl.EmbeddedInput[Artifact],
    project: Output[Artifact],
    tracking_uri: str,
    dataset_remote: str,
    online_store: str,
    prediction_log: str,
    serving: str,
    offline_store: str = "duckdb",
    study_store: str = "",
):
    """Unpack the project that travels in this pipeline, check it, and hand it to all other steps.

    Args:
        embedded: The archive of this step, which holds the project.
        project: Folder with the project's `pipeline.yaml`, feature definitions and expectations, and the target's
            `stores.yaml`. metadata: `project` (its name), `digest` (of all its files).
        tracking_uri: MLflow tracking server.
        dataset_remote: DVC remote for dataset versions.
        online_store: Feast online store: a SQLite file, or the URL of a Redis, PostgreSQL, Bigtable or other store.
        prediction_log: Folder that the model servers write predictions to.
        serving: Where models are released: `local:FOLDER`, `kserve:NAMESPACE` or `vertex:PROJECT/LOCATION`.
        offline_store: What computes the feature views: `duckdb`, `bigquery://…`, `snowflake://…` or `sc://…` (Spark).
        study_store: Folder that keeps a search for hyperparameters which was cut off; empty keeps none.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(project):
        from kfp_lifecycle.components.operations.load_project.unpacking import unpack_project

        stores = {
            "tracking_uri": tracking_uri,
            "dataset_remote": dataset_remote,
            "online_store": online_store,
            "prediction_log": prediction_log,
            "serving": serving,
            "offline_store": offline_store,
            "study_store": study_store,
        }
        project.metadata.update(unpack_project(Path(embedded.path), Path(project.path), stores))
        project.metadata["summary"] = "project {project}, {digest}".format(**project.metadata)
