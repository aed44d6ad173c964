"""The component `collect_predictions`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="modelling", cached=False)
def collect_predictions(project: Input[Artifact], predictions: Output[Dataset], as_of: str = ""):
    """Collect what the model server answered in the last days, as it wrote it to the prediction log.

    Broken lines are skipped, counted and named. Shadow predictions, which nobody got as an answer, and predictions
    from a clock that is ahead are left out and counted too. No prediction at all is a valid outcome.

    Args:
        project: The project; `monitoring.window_days` says how far back, the stores where log and registry are.
        predictions: `predictions.parquet`: `time`, `request_id`, `version`, `entity`, `features` (a struct, typed as
            the champion's inputs), `score`, `decision`; and `predictions.json`: the window and the counts. metadata:
            `rows`, `versions` (rows by model version), `entities`, `start`, `end`, `champion`, `left_out`, `broken`.
        as_of: End of the window, ISO 8601, in UTC where it names no zone; empty: now.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(predictions):
        from kfp_lifecycle.components.monitoring.collect_predictions import collection

        predictions.metadata.update(
            collection.collect_predictions(Path(project.path), Path(predictions.path), as_of=as_of)
        )
