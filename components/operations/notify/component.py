"""Component: notification of how a run ended, as the exit handler of every pipeline."""

from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from kfp_lifecycle.runtime.component import component


@component(environment="platform", cached=False, standalone=True)
def notify(
    status: PipelineTaskFinalStatus,
    message: Output[Markdown],
    pipeline: str,
    webhook_url: str = "",
):
    """Say how the run ended, which step failed and why, and what to do next. The exit handler of every pipeline.

    A message that cannot be delivered is said so in the log and changes nothing about the run's own end.

    Args:
        status: How the steps of the run ended; the platform fills it in.
        message: What was said. metadata: `state` (`done`, `failed`, `stopped` or `unknown`), `delivered` (whether it
            was sent).
        pipeline: The pipeline's name.
        webhook_url: Where to send the message, as Slack, Mattermost and Teams receive it. Empty: what the variable
            LIFECYCLE_WEBHOOK_URL says, which a cluster fills from a secret; without it the message is sent nowhere.
            kfp writes every argument into the step's log, so an address that is a secret belongs into the variable;
            this step itself never prints it.
    """
    import os
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(message):
        from kfp_lifecycle.components.operations.notify.delivery import deliver
        from kfp_lifecycle.components.operations.notify.failed_pods import failed_pods
        from kfp_lifecycle.components.operations.notify.message import describe_end

        end = describe_end(status, pipeline, os.environ.get("LIFECYCLE_RUN_ID", ""), failed_pods())
        Path(message.path).write_text(end.markdown, "utf-8")
        print(end.text)
        address = webhook_url or os.environ.get("LIFECYCLE_WEBHOOK_URL", "")
        delivered = deliver(end.text, address) if address else False
        message.metadata.update(state=end.state, summary=end.headline, delivered=delivered)
