"""Component: collection of a window of the prediction log."""

from kfp.dsl import Dataset, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("deployment.model", "monitoring.window_days", "monitoring.min_window"),
    locations=("tracking_uri", "prediction_log"),
    cached=False,
)
def collect_predictions(settings: dict, predictions: Output[Dataset], as_of: str = ""):
    """Collect what the model server answered in a window of time, each entity once for each version.

    Nobody decides by asking often: of an entity the newest prediction counts, requests without one are told apart by
    their features, and ten and more identical ones are marked as a probe's. Shadow predictions, which nobody got as an
    answer, and predictions from a clock that is ahead are left out. Whatever is left out, or cannot be read, is counted
    and named. No prediction at all is a valid outcome. The same window gives the same answer, whenever it is asked for.

    Args:
        settings: `deployment.model` is whose predictions are read, `monitoring.window_days` says how far back,
            `monitoring.min_window` how many of a version are enough.
        predictions: `predictions.parquet`: `time`, `request_id`, `version`, `entity`, `features` (a struct, typed as
            the inputs of the versions that served), `score`, `decision`, `requests` (how many predictions the row
            stands for), `probe`, `caller` (who asked, hashed); about 100,000 rows of a version at the most; and
            `predictions.json`: the window, the version that it is judged by, and the counts. metadata: `predictions`,
            `rows`, `versions` (what counts, by model version), `start`, `end`, `champion`, `version`, `notes`,
            `probes`, `left_out`, `broken`.
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
