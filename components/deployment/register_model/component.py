"""Component: registration of an approved model in MLflow."""

from kfp.dsl import Artifact, Input, Model, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("deployment.model", "gate.approval"),
    locations=("tracking_uri", "audit_record"),
    carries=["kfp_lifecycle.serving.server.server"],
    carries_locks=["serving"],
    cached=False,
)
def register_model(
    settings: dict,
    approved_model: Input[Model],
    verdict: Input[Artifact],
    registered_model: Output[Model],
) -> str:
    """Register an approved model in MLflow as a new version with the alias `candidate`.

    A rejected model is refused. Registering the model of the same run again gives the same version.

    Args:
        settings: `deployment.model` is its name in the registry; `gate.approval` says whether it waits for a person.
        approved_model: The model folder that the gate approved.
        verdict: JSON file with the gate's decision, which becomes tags of the version.
        registered_model: The model folder, in `code/` the server's modules and the hashed lock of what it runs on
            (`requirements.txt`), and `version` in `model.json`. metadata: `waits`, whether a person has to approve it.

    Returns:
        `approved`, or, where a person has to approve it and has not, `waits`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(registered_model):
        from kfp_lifecycle.components.deployment.register_model.registration import register

        registered_model.metadata.update(
            register(
                register_model.given(settings),
                register_model.located(),
                Path(approved_model.path),
                Path(verdict.path),
                Path(registered_model.path),
            )
        )
        return "waits" if registered_model.metadata["waits"] else "approved"
