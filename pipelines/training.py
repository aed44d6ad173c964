"""The `training` pipeline: from the source to a model in production, or to the reasons why not."""

from kfp import dsl

from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import snapshot_dataset
from kfp_lifecycle.components.deployment.promote_model.component import promote_model
from kfp_lifecycle.components.deployment.register_model.component import register_model
from kfp_lifecycle.components.deployment.release_model.component import release_model
from kfp_lifecycle.components.deployment.validate_serving.component import validate_serving
from kfp_lifecycle.components.evaluation.decide_promotion.component import decide_promotion
from kfp_lifecycle.components.evaluation.evaluate_model.component import evaluate_model
from kfp_lifecycle.components.evaluation.report_verdict.component import report_verdict
from kfp_lifecycle.components.features.build_training_set.component import build_training_set
from kfp_lifecycle.components.features.materialize_features.component import materialize_features
from kfp_lifecycle.components.monitoring.check_serving_skew.component import validate_features
from kfp_lifecycle.components.operations.load_project.component import load_project
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.components.training.train_model.component import train_model
from kfp_lifecycle.pipelines.tuning import tune


@dsl.pipeline(name="training", description="From the source to a model in production, or to the reasons why not.")
def training(
    tracking_uri: str,
    dataset_remote: str,
    online_store: str,
    prediction_log: str,
    serving: str,
    offline_store: str = "duckdb",
    study_store: str = "",
    source_version: str = "",
):
    """Train a model on the newest data and release it if it passes the gate.

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
    outcome = notify(pipeline="training")
    with dsl.ExitHandler(outcome):
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

        training_set = build_training_set(project=project, validated=validated).outputs["training_set"]
        validate_features(project=project, training_set=training_set)
        parameters = tune(project=project, training_set=training_set)
        model = train_model(project=project, training_set=training_set, parameters=parameters).outputs["model"]

        evaluation = evaluate_model(project=project, training_set=training_set, model=model).outputs["evaluation"]
        decision = decide_promotion(
            project=project, validated=validated, training_set=training_set, model=model, evaluation=evaluation
        )
        report_verdict(
            project=project,
            training_set=training_set,
            model=model,
            evaluation=evaluation,
            verdict=decision.outputs["verdict"],
        )

        findings = {
            "pipeline": "training",
            "run_id": dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            "project": project,
            "tables": tables,
            "snapshot": snapshot,
            "validated": validated,
            "training_set": training_set,
            "parameters": parameters,
            "model": model,
            "evaluation": evaluation,
            "verdict": decision.outputs["verdict"],
        }
        with dsl.If(decision.outputs["Output"] == "promoted", name="promoted"):
            registered_model = register_model(
                project=project,
                approved_model=decision.outputs["approved_model"],
                verdict=decision.outputs["verdict"],
            ).outputs["registered_model"]
            servable_model = validate_serving(project=project, registered_model=registered_model).outputs[
                "servable_model"
            ]
            store = materialize_features(project=project, validated=validated).outputs["store"]
            deployment = release_model(project=project, servable_model=servable_model, store=store).outputs[
                "deployment"
            ]
            champion = promote_model(project=project, deployment=deployment).outputs["champion"]
            write_report(
                **findings,
                registered_model=registered_model,
                servable_model=servable_model,
                store=store,
                deployment=deployment,
                champion=champion,
            )
        with dsl.Else(name="rejected"):
            write_report(**findings)
