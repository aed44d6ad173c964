"""The component `promote_model`."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="modelling", cached=False)
def promote_model(project: Input[Artifact], deployment: Input[Artifact], champion: Output[Artifact]):
    """Move the registry's alias `champion` to the version that was just released.

    Args:
        project: The project; its stores say where the registry is.
        deployment: JSON file of the finished release: `model` and `version`.
        champion: The same file, written after the alias has moved.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(champion):
        from kfp_lifecycle.components.deployment.promote_model.promotion import promote

        champion.metadata.update(promote(Path(project.path), Path(deployment.path), Path(champion.path)))
