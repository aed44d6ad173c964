"""Lineage events of a run on a cluster, sent by whoever watched it to its end: no pod of it knows the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.cli.console import say

if TYPE_CHECKING:
    from kfp_lifecycle.backends.backend import Backend, RunStatus
    from kfp_lifecycle.config.configuration import Configuration


def send_lineage(backend: Backend, status: RunStatus, configuration: Configuration, log: Path) -> None:
    """Tell a receiver of OpenLineage events of a run that has ended, with the times at which all of it happened.

    The same run is told in the same words whoever watches it, so that a receiver takes it once.

    Args:
        backend: Whose run it is.
        status: The run at its end.
        configuration: The project's; `lineage.url` says who is told.
        log: What becomes of the events is noted here.
    """
    run, progress, url = status.summary, status.progress, configuration.lineage.url
    if not url or run.started_at is None:
        return
    from kfp_lifecycle.backends.backend import BackendError
    from kfp_lifecycle.local.lineage_events import LineageEvents

    try:
        written = backend.artifacts(run.id)
    except BackendError as error:
        say(f"what its steps wrote is not in its lineage: {error}")
        written = []
    for artifact in written:
        step = progress.steps.get(artifact.step)
        if step is not None:
            step.artifacts.setdefault(artifact.name, (artifact.uri, dict(artifact.metadata)))
    log.parent.mkdir(parents=True, exist_ok=True)
    reads = _reads(run.pipeline, configuration)
    events = LineageEvents(url, run.project, run.pipeline, run.id, reads, log, began=run.started_at)
    events.look(progress)
    events.end(run.state, status.reason, run.finished_at)
    say(f"its lineage was told to {url}; {log} says what became of it")


def _reads(pipeline: str, configuration: Configuration) -> dict[str, list[str]]:
    """What each step reads, by the project's pipelines as they are now; nothing of a pipeline that is none of them."""
    from kfp_lifecycle.compilation.pipeline import PIPELINES, pipeline_definition
    from kfp_lifecycle.compilation.target import LOCAL
    from kfp_lifecycle.local.lineage_events import reads_of

    if pipeline not in PIPELINES:
        return {}
    return reads_of(
        pipeline_definition(pipeline, replace(LOCAL, configuration=configuration, imported={})).pipeline_spec
    )
