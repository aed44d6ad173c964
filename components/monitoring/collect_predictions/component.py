"""Component: collection of a window of the prediction log."""

from kfp.dsl import Dataset, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("deployment.model", "monitoring.window_days"),
    locations=("tracking_uri", "prediction_log"),
    cached=False,
)
def collect_predictions(settings: dict, predictions: Output[Dataset], as_of: str = ""):
    """Collect what the model server answered in the last days, as it wrote it to the prediction log.

    Broken lines are skipped, counted and named. Shadow predictions, which nobody got as an answer, and predictions
    from a clock that is ahead are left out and counted too. No prediction at all is a valid outcome.

    Args:
        settings: `deployment.model` is whose predictions are read, `monitoring.window_days` says how far back.
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
            collection.collect_predictions(
                collect_predictions.given(settings),
                collect_predictions.located(),
                Path(predictions.path),
                as_of=as_of,
            )
        )
