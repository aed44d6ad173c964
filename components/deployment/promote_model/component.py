"""Component: promotion of a released model, the registry's alias `champion`."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", locations=("tracking_uri", "audit_record"), cached=False)
def promote_model(deployment: Input[Artifact], promotion: Output[Artifact], verdict: Input[Artifact] = None):
    """Promotion: move the registry's alias `champion` to the version that now has all traffic.

    Where another version became the champion since this one was judged, the alias stays and the step fails: nobody
    compared the two. After `rollback_model` there is no verdict: the alias returns from the version that was left.

    Args:
        deployment: JSON file of the finished release or rollback: `model`, `version` and `previous_version`.
        promotion: JSON file: `model`, `version` and `previous_version`, written after the alias has moved.
        verdict: JSON file of the gate's decision: `champion_version` is what the alias must name still; without it
            the alias must name the deployment's `previous_version`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(promotion):
        from kfp_lifecycle.components.deployment.promote_model.promotion import promote

        judged = Path(verdict.path) if verdict else None
        places = Path(deployment.path), judged, Path(promotion.path)
        promotion.metadata.update(promote(promote_model.located(), *places))
