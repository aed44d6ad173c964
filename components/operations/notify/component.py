"""Component: notification of how a run ended, as the exit handler of every pipeline."""

from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from kfp_lifecycle.runtime.component import component


@component(environment="platform", cached=False, standalone=True)
def notify(
    status: PipelineTaskFinalStatus,
    message: Output[Markdown],
    pipeline: str,
):
    """Say what was decided, or which step failed and why, and what to do next. The exit handler of every pipeline.

    It is sent by Apprise (Slack, Teams, PagerDuty, e-mail, JSON to a server of your own …) to the addresses in two
    variables, which a cluster fills from secrets: LIFECYCLE_NOTIFY_URLS for every message, LIFECYCLE_NOTIFY_ALARM_URLS
    for those after which somebody has to look. A message that says what was said within
    LIFECYCLE_NOTIFY_REPEAT_HOURS (12) is counted and not sent, where LIFECYCLE_NOTIFY_LEDGER names a file that
    outlives the run. What cannot be delivered is said in the log and changes nothing about the run's own end.

    Args:
        status: How the steps of the run ended; the platform fills it in.
        message: What was said, and to whom it was not delivered. metadata: `state` (`done`, `failed`, `stopped` or
            `unknown`), `alarm`, `delivered` and `undelivered` (how many receivers), `held_back`.
        pipeline: The pipeline's name.
    """
    import os
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(message):
        from kfp_lifecycle.components.operations.notify.decisions import decided_here
        from kfp_lifecycle.components.operations.notify.message import describe_end
        from kfp_lifecycle.components.operations.notify.pods import told_by_pods
        from kfp_lifecycle.components.operations.notify.sending import send
        from kfp_lifecycle.components.operations.notify.vertex_job import decided_on_vertex, job_on_vertex
        from kfp_lifecycle.components.operations.notify.vertex_metric import tell_cloud_monitoring

        told, job = told_by_pods(), job_on_vertex(status.pipeline_job_resource_name)
        decided = decided_here() or told.decided or decided_on_vertex(job)
        end = describe_end(status, pipeline, os.environ.get("LIFECYCLE_RUN_ID", ""), told.failed, decided)
        print(end.text)
        tell_cloud_monitoring(job, pipeline, end.state)
        sent = send(end, os.environ)
        Path(message.path).write_text(end.markdown + sent.markdown, "utf-8")
        message.metadata.update(
            state=end.state,
            summary=end.headline,
            alarm=end.alarm,
            delivered=sent.delivered,
            undelivered=len(sent.undelivered),
            held_back=sent.held_back,
        )
