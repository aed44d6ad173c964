"""The component `validate_serving`."""

from kfp.dsl import Artifact, Input, Model, Output

from kfp_lifecycle.compilation.component import component


@component(environment="serving")
def validate_serving(project: Input[Artifact], registered_model: Input[Model], servable_model: Output[Model]):
    """Start the real server from the registered model and ask it, before anyone depends on it.

    The model's own baseline rows go through v2 and v1, REST and gRPC, and must come back with the registered scores;
    malformed requests must be refused as such; every prediction must be in the log. The server is always stopped.

    Args:
        project: The project; `evaluation.latency_requests` says how many requests are timed.
        registered_model: The model folder with the server's `code/`.
        servable_model: The same folder with `serving.json`: latency in milliseconds of one client and of
            eight at once, seconds until ready, peak memory in megabytes, and examples with their scores.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(servable_model):
        from kfp_lifecycle.components.deployment.validate_serving.trial import try_serving

        servable_model.metadata.update(
            try_serving(Path(project.path), Path(registered_model.path), Path(servable_model.path))
        )
