"""The component `find_champion`."""

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", reads=("deployment.model",), locations=("tracking_uri",), cached=False)
def find_champion(settings: dict, remedy: str = "retrain") -> str:
    """Find the version in production, where the run keeps its estimator.

    It runs in every run, and what it gives is a parameter: while the same version is in production, the steps that take
    it are taken from the cache.

    Args:
        settings: `deployment.model` is the model's name in the registry.
        remedy: What the run makes anew: `retrain`, for which nothing is looked up, `recalibrate` or `set the
            threshold`.

    Returns:
        The version; empty where a whole model is trained.
    """
    from kfp_lifecycle.runtime.contract import step

    with step():
        from kfp_lifecycle.components.training.find_champion.finding import version_to_keep

        return version_to_keep(find_champion.given(settings), find_champion.located(), remedy)
