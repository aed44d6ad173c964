"""The `training` pipeline: from the source to a model in production, or to the reasons why not."""

from kfp import dsl

from kfp_lifecycle.components.data.fingerprint_source.component import fingerprint_source
from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import version_dataset
from kfp_lifecycle.components.deployment.promote_model.component import promote_model
from kfp_lifecycle.components.deployment.register_model.component import register_model
from kfp_lifecycle.components.deployment.release_model.component import release_model
from kfp_lifecycle.components.deployment.validate_serving.component import validate_serving
from kfp_lifecycle.components.evaluation.decide_promotion.component import decide_promotion
from kfp_lifecycle.components.evaluation.evaluate_model.component import evaluate_model
from kfp_lifecycle.components.features.build_training_set.component import build_training_set
from kfp_lifecycle.components.features.materialize_features.component import materialize_features
from kfp_lifecycle.components.monitoring.check_serving_skew.component import check_serving_skew
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.components.training.find_champion.component import find_champion
from kfp_lifecycle.components.training.train_model.component import train_model
from kfp_lifecycle.pipelines.approval import when_approved
from kfp_lifecycle.pipelines.inputs import imported
from kfp_lifecycle.pipelines.tuning import tune


@dsl.pipeline(name="training", description="From the source to a model in production, or to the reasons why not.")
def training(since: str = "", remedy: str = "retrain", asked_by: str = ""):
    """Train a model on the newest data, or fit the one in production anew, and release it if it passes the gate.

    The run finds out by itself whether the source has changed: what has not is taken from the cache.

    Args:
        since: Day on which the business changed, ISO 8601: what was recorded since then is learned from as soon as
            labels exist. Empty: `split.since`.
        remedy: What is made anew: `retrain`, the whole model; `recalibrate`, calibration and threshold of the model in
            production, whose estimator stays; `set the threshold`, that alone. The last two search nothing. They are
            what the run of monitoring measured that asks for them; else they are fitted on labelled rows since the
            change.
        asked_by: The run of monitoring that asks for this one. Empty: a person or a schedule.
    """
    with dsl.ExitHandler(notify(pipeline="training")):
        feature_repo, label_query, expectations = imported("feature_repo", "label_query", "expectations")

        found = fingerprint_source().outputs
        tables = ingest_data(expectations=expectations, source_version=found["source_version"]).outputs["tables"]
        dataset = version_dataset(tables=tables).outputs["dataset"]
        validated = validate_data(expectations=expectations, dataset=dataset, **found).outputs["validated"]

        champion = find_champion(remedy=remedy, asked_by=asked_by).outputs
        training_set = build_training_set(
            feature_repo=feature_repo, label_query=label_query, validated=validated, since=since, remedy=remedy
        ).outputs["training_set"]
        check_serving_skew(training_set=training_set)
        parameters = tune(
            training_set=training_set,
            remedy=remedy,
            champion=champion["version"],
            adjustment=champion["adjustment"],
        )
        model = train_model(training_set=training_set, parameters=parameters).outputs["model"]

        evaluation = evaluate_model(training_set=training_set, model=model).outputs["evaluation"]
        decision = decide_promotion(
            validated=validated, training_set=training_set, model=model, evaluation=evaluation, asked_by=asked_by
        )
        verdict = decision.outputs["verdict"]

        findings = {
            "pipeline": "training",
            "run_id": dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            "tables": tables,
            "dataset": dataset,
            "validated": validated,
            "training_set": training_set,
            "parameters": parameters,
            "model": model,
            "evaluation": evaluation,
            "verdict": verdict,
        }
        with dsl.If(decision.outputs["Output"] == "approved", name="approved"):
            registered = register_model(approved_model=decision.outputs["approved_model"], verdict=verdict)
            registered_model = registered.outputs["registered_model"]
            servable_model = validate_serving(registered_model=registered_model).outputs["servable_model"]
            store = materialize_features(feature_repo=feature_repo, validated=validated).outputs["store"]
            candidate = {"registered_model": registered_model, "servable_model": servable_model, "store": store}
            with when_approved(registered.outputs["Output"], findings | candidate):
                deployment = release_model(servable_model=servable_model, store=store).outputs["deployment"]
                promotion = promote_model(deployment=deployment, verdict=verdict).outputs["promotion"]
                write_report(**findings, **candidate, deployment=deployment, promotion=promotion)
        # Not an Else: the group that holds both would be a pod of its own on Kubeflow.
        with dsl.If(decision.outputs["Output"] == "rejected", name="rejected"):
            write_report(**findings)
