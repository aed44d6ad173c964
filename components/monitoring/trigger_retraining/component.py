"""Component: request for retraining after drift."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="platform", reads=("name",), cached=False)
def trigger_retraining(settings: dict, drift: Input[Artifact], request: Output[Artifact]):
    """Ask for retraining: record why, and with which command. It starts no run itself.

    Args:
        settings: `name` is the project that asks.
        drift: What `detect_drift` decided; anything but `retrain` fails this step.
        request: JSON file: `project`, `model`, `version`, `reason`, `columns` (what drifted, and how), `requested_at`,
            `command` and its `explanation`. metadata: `reason`, `command`, `requested_at`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(request):
        from kfp_lifecycle.components.monitoring.trigger_retraining.request import announce, write_request

        content = write_request(trigger_retraining.given(settings), Path(drift.path), Path(request.path))
        request.metadata.update(content.metadata())
        print(announce(content))
