"""The component `rollback_model`."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="platform", cached=False)
def rollback_model(project: Input[Artifact], deployment: Output[Artifact]):
    """Give all traffic back to the version that served before.

    Args:
        project: The project; `deployment.model` is what is rolled back, `serving` of its stores says where.
        deployment: JSON file: `url`, `grpc`, `model`, `version`, `previous_version`, `strategy`, no `steps`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(deployment):
        from kfp_lifecycle.components.deployment.rollback_model.reversal import roll_back

        deployment.metadata.update(roll_back(Path(project.path), Path(deployment.path)))
