"""Component: rollback of a model to the version that served before."""

from kfp.dsl import Artifact, Output

from kfp_lifecycle.runtime.component import component


@component(environment="platform", reads=("deployment.model",), locations=("serving", "audit_record"), cached=False)
def rollback_model(settings: dict, deployment: Output[Artifact]):
    """Give all traffic back to the version that served before.

    Args:
        settings: `deployment.model` is what is rolled back.
        deployment: JSON file: `url`, `grpc`, `model`, `version`, `previous_version`, `strategy`, no `steps`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(deployment):
        from kfp_lifecycle.components.deployment.rollback_model.reversal import roll_back

        deployment.metadata.update(
            roll_back(rollback_model.given(settings), rollback_model.located(), Path(deployment.path))
        )
