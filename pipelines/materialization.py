"""The `materialization` pipeline: keeps the online store fresh. Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.data.fingerprint_source.component import fingerprint_source
from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import version_dataset
from kfp_lifecycle.components.features.materialize_features.component import materialize_features
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.pipelines.inputs import imported


@dsl.pipeline(name="materialization", description="Fills the online store from validated data.")
def materialization():
    """Compute the newest value of every feature and write it to the online store.

    The run finds out by itself whether the source has changed: what has not is taken from the cache.
    """
    with dsl.ExitHandler(notify(pipeline="materialization")):
        feature_repo, expectations = imported("feature_repo", "expectations")
        found = fingerprint_source().outputs
        tables = ingest_data(expectations=expectations, source_version=found["source_version"]).outputs["tables"]
        dataset = version_dataset(tables=tables).outputs["dataset"]
        validated = validate_data(expectations=expectations, dataset=dataset, **found).outputs["validated"]
        store = materialize_features(feature_repo=feature_repo, validated=validated).outputs["store"]
        write_report(
            pipeline="materialization",
            run_id=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            tables=tables,
            dataset=dataset,
            validated=validated,
            store=store,
        )
