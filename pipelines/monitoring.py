"""The `monitoring` pipeline: has production moved away from what the model knows, and did what it foretold happen?"""

from kfp import dsl

from kfp_lifecycle.components.data.fingerprint_source.component import fingerprint_source
from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import version_dataset
from kfp_lifecycle.components.monitoring.collect_predictions.component import collect_predictions
from kfp_lifecycle.components.monitoring.decide_remedy.component import decide_remedy
from kfp_lifecycle.components.monitoring.detect_drift.component import detect_drift
from kfp_lifecycle.components.monitoring.join_outcomes.component import join_outcomes
from kfp_lifecycle.components.monitoring.recompute_features.component import recompute_features
from kfp_lifecycle.components.monitoring.trigger_retraining.component import trigger_retraining
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.pipelines.inputs import definition, imported


@dsl.pipeline(name="monitoring", description="Compares production with what the champion was trained on.")
def monitoring(as_of: str = ""):
    """Compare the last days' predictions with the baseline of the model that served, and those of the last weeks with
    what became of those they were about; give one verdict, and retrain where that is the remedy.

    Args:
        as_of: End of the window, ISO 8601; empty: now.
    """
    with dsl.ExitHandler(notify(pipeline="monitoring")):
        feature_repo, label_query, expectations = imported("feature_repo", "label_query", "expectations")
        predictions = collect_predictions(as_of=as_of).outputs["predictions"]
        drift = detect_drift(predictions=predictions).outputs["drift"]

        # Outcomes are in the source's tables, which are read as the other pipelines read them.
        found = fingerprint_source().outputs
        tables = ingest_data(expectations=expectations, source_version=found["source_version"]).outputs["tables"]
        dataset = version_dataset(tables=tables).outputs["dataset"]
        validated = validate_data(expectations=expectations, dataset=dataset, **found).outputs["validated"]
        skew = recompute_features(predictions=predictions, feature_repo=feature_repo, validated=validated).outputs[
            "skew"
        ]
        outcomes = join_outcomes(
            predictions=predictions, feature_repo=feature_repo, label_query=label_query, validated=validated
        ).outputs["outcomes"]

        decided = decide_remedy(
            predictions=predictions,
            drift=drift,
            skew=skew,
            outcomes=outcomes,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        )
        with dsl.If(decided.outputs["Output"] == "retrain", name="retrain"):
            trigger_retraining(
                remedy=decided.outputs["remedy"],
                training_pipeline=definition("training_pipeline"),
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            )
        write_report(pipeline="monitoring", findings=drift, remedy=decided.outputs["remedy"])
