"""Component: promotion of a released model, the registry's alias `champion`."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", locations=("tracking_uri",), cached=False)
def promote_model(deployment: Input[Artifact], verdict: Input[Artifact], promotion: Output[Artifact]):
    """Promotion: move the registry's alias `champion` to the version that was just released.

    Where another version became the champion since this one was judged, the alias stays and the step fails: nobody
    compared the two.

    Args:
        deployment: JSON file of the finished release: `model` and `version`.
        verdict: JSON file of the gate's decision: `champion_version` is what the alias must name still.
        promotion: JSON file: `model`, `version` and `previous_version`, written after the alias has moved.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(promotion):
        from kfp_lifecycle.components.deployment.promote_model.promotion import promote

        places = Path(deployment.path), Path(verdict.path), Path(promotion.path)
        promotion.metadata.update(promote(promote_model.located(), *places))
