"""The component `promote_model`."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", locations=("tracking_uri",), cached=False)
def promote_model(deployment: Input[Artifact], champion: Output[Artifact]):
    """Move the registry's alias `champion` to the version that was just released.

    Args:
        deployment: JSON file of the finished release: `model` and `version`.
        champion: The same file, written after the alias has moved.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(champion):
        from kfp_lifecycle.components.deployment.promote_model.promotion import promote

        champion.metadata.update(promote(promote_model.located(), Path(deployment.path), Path(champion.path)))
