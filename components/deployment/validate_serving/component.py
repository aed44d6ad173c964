"""Component: infrastructure validation of a registered model, in the real server."""

from kfp.dsl import Input, Model, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="serving",
    reads=("deployment.model", "entity", "evaluation.latency_requests"),
    cached=False,
)
def validate_serving(settings: dict, registered_model: Input[Model], servable_model: Output[Model]):
    """Start the real server from the registered model and ask it, before anyone depends on it.

    The model's own baseline rows go through v2 and v1, REST and gRPC, and must come back with the registered scores;
    malformed requests must be refused as such; every prediction must be in the log. The server is always stopped.

    Args:
        settings: `deployment.model` is its name, `entity` the key that requests may bring, and
            `evaluation.latency_requests` says how many requests are timed.
        registered_model: The model folder with the server's `code/`.
        servable_model: The same folder with `serving.json`: latency in milliseconds of one client and of
            eight at once, seconds until ready, peak memory in megabytes, and examples with their scores.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(servable_model):
        from kfp_lifecycle.components.deployment.validate_serving.trial import try_serving

        servable_model.metadata.update(
            try_serving(validate_serving.given(settings), Path(registered_model.path), Path(servable_model.path))
        )
