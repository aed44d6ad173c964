"""The component `find_champion`."""

from kfp.dsl import OutputPath

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", reads=("name", "deployment.model"), locations=("tracking_uri",), cached=False)
def find_champion(
    settings: dict,
    version: OutputPath(str),  # type: ignore[valid-type]
    adjustment: OutputPath(str),  # type: ignore[valid-type]
    remedy: str = "retrain",
    asked_by: str = "",
):
    """Find the version in production, where the run keeps its estimator, and what monitoring measured of it.

    It runs in every run, and what it gives are parameters: while they are the same, the steps that take them are taken
    from the cache.

    Args:
        settings: `deployment.model` is the model's name in the registry, `name` the project whose windows are looked
            through.
        version: The version; empty where a whole model is trained.
        adjustment: What the run of monitoring that asks for this one measured, as JSON; empty where it did not, or no
            run of monitoring asks: then the remedy is fitted on labelled rows.
        remedy: What the run makes anew: `retrain`, for which nothing is looked up, `recalibrate` or `set the
            threshold`.
        asked_by: The run of monitoring that asks for this one.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step():
        from kfp_lifecycle.components.training.find_champion.finding import version_to_keep

        found = version_to_keep(find_champion.given(settings), find_champion.located(), remedy, asked_by)
        for place, text in ((version, found.version), (adjustment, found.adjustment)):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Path(place).write_text(text, encoding="utf-8")
