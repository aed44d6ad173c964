"""The `batch_scoring` pipeline: a table in, scores with reasons out. Runs on a schedule."""

from kfp import dsl

from kfp_lifecycle.components.data.fingerprint_source.component import fingerprint_source
from kfp_lifecycle.components.data.ingest_data.component import ingest_data
from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import version_dataset
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.components.scoring.score_batch.component import score_batch
from kfp_lifecycle.pipelines.inputs import imported


@dsl.pipeline(name="batch_scoring", description="Scores every current entity with the champion, and says why.")
def batch_scoring():
    """Score everyone on the newest validated data.

    The run finds out by itself whether the source has changed: what has not is taken from the cache.
    """
    with dsl.ExitHandler(notify(pipeline="batch_scoring")):
        feature_repo, label_query, expectations = imported("feature_repo", "label_query", "expectations")
        found = fingerprint_source().outputs
        tables = ingest_data(expectations=expectations, source_version=found["source_version"]).outputs["tables"]
        dataset = version_dataset(tables=tables).outputs["dataset"]
        validated = validate_data(expectations=expectations, dataset=dataset, **found).outputs["validated"]
        scores = score_batch(feature_repo=feature_repo, label_query=label_query, validated=validated).outputs["scores"]
        write_report(pipeline="batch_scoring", dataset=dataset, validated=validated, findings=scores)
