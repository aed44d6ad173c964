"""Component: progressive release (canary, blue-green, shadow) of a model."""

from kfp.dsl import Artifact, Input, Model, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="platform",
    reads=("deployment", "entity"),
    locations=("serving", "online_store", "prediction_log", "audit_record"),
    cached=False,
    starts_servers=True,
)
def release_model(settings: dict, servable_model: Input[Model], store: Input[Artifact], deployment: Output[Artifact]):
    """Move production traffic to a model, by stages, and back at the first breach of a limit.

    Args:
        settings: `deployment` says how traffic moves and what takes it back; `entity` names the key of the example.
        servable_model: The model folder that was tried, with the examples to ask at each stage.
        store: The online store's record: it holds the features by the time the model gets traffic.
        deployment: JSON file of the finished release: `url`, `grpc`, `model`, `version`, `previous_version`,
            `strategy`, `steps`, `example` (a v2 request that it answers).
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(deployment):
        from kfp_lifecycle.components.deployment.release_model.targets import release_to_target

        deployment.metadata.update(
            release_to_target(
                release_model.given(settings),
                release_model.located(),
                Path(servable_model.path),
                servable_model.uri,
                Path(deployment.path),
                example_entity=store.metadata.get("example_entity"),
            )
        )
