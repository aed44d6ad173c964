"""OpenLineage events of a run: what each step reads and writes, told to a receiver while the run goes on beside it.

A receiver that is down, slow or refuses is noted in the run's `logs/lineage.log`, and is nothing to the run.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp.pipeline_spec.pipeline_spec_pb2 import DagSpec, PipelineSpec

from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.states import RunState, State

if TYPE_CHECKING:
    from openlineage.client.event_v2 import OutputDataset, RunEvent

PRODUCER = "https://pypi.org/project/kfp-lifecycle"
INTEGRATION = "KUBEFLOW_PIPELINES"
KEY_VARIABLE = "OPENLINEAGE_API_KEY"
REQUEST_SECONDS = 5.0
# A receiver that failed so often in a row is asked no more in this run.
MOST_FAILURES = 3
# How long the end of a run waits for what is still to be sent.
LAST_SECONDS = 10.0
ENDED = {State.done: "COMPLETE", State.cached: "COMPLETE", State.failed: "FAIL"}


class LineageEvents:
    """The events of one run, in their order, sent by a thread of their own."""

    def __init__(
        self,
        url: str,
        project: str,
        pipeline: str,
        run: str,
        reads: Mapping[str, list[str]],
        log: Path,
        began: datetime | None = None,
    ) -> None:
        """Tell that the run has begun; without a receiver nothing is ever done.

        Args:
            url: `lineage.url`.
            project: The namespace of its jobs.
            pipeline: The pipeline's name.
            run: The run's.
            reads: Names of the artifacts that each step reads.
            log: What becomes of the events is noted here.
            began: When the run began, where it is over: then its steps' own times are told.
        """
        self._began = began
        self._url, self._project, self._pipeline, self._run, self._reads = url, project, pipeline, run, reads
        self._log, self._told = log, dict[str, State]()
        self._events: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, daemon=True)
        if url:
            self._sender.start()
            self._tell("", "START", None, {})

    def watched(self, watch: Callable[[RunProgress], None]) -> Callable[[RunProgress], None]:
        """A watcher of the run, and these events beside it."""

        def look(progress: RunProgress) -> None:
            self.look(progress)
            watch(progress)

        return look

    def look(self, progress: RunProgress) -> None:
        """Tell of each step that has begun or ended since."""
        if not self._url:
            return
        artifacts = {name: made for step in progress.steps.values() for name, made in step.artifacts.items()}
        for step in progress.steps.values():
            before = self._told.get(step.name, State.waiting)
            if step.state is before or step.state not in (State.running, *ENDED):
                continue
            self._told[step.name] = step.state
            if before is State.waiting:
                self._tell(step.name, "START", step, artifacts)
            if step.state in ENDED:
                self._tell(step.name, ENDED[step.state], step, artifacts)

    def end(self, state: RunState, reason: str | None, at: datetime | None = None) -> None:
        """Tell how the run ended, and give what was not sent yet a moment."""
        if not self._url:
            return
        ended = {RunState.failed: "FAIL", RunState.interrupted: "ABORT"}.get(state, "COMPLETE")
        self._events.put(("", ended, at or datetime.now(UTC), reason or "", {}, {}))
        self._events.put(None)
        self._sender.join(LAST_SECONDS)
        if self._sender.is_alive():
            self._note(f"{self._url} had not taken all events {LAST_SECONDS:g} seconds after the run's end")

    def _tell(self, step: str, state: str, record: StepRecord | None, artifacts: Mapping[str, Any]) -> None:
        reads = {name: artifacts[name] for name in self._reads.get(step, ()) if name in artifacts}
        writes = dict(record.artifacts) if record is not None and state == "COMPLETE" else {}
        reason = record.reason if record is not None and state == "FAIL" else ""
        self._events.put((step, state, self._time(state, record), reason, reads, writes))

    def _time(self, state: str, record: StepRecord | None) -> datetime:
        """Of an event: now, or in a run that is over the step's own, and where that is not known the run's."""
        if self._began is None:
            return datetime.now(UTC)
        if record is None or record.started_at is None:
            return self._began
        return record.started_at + timedelta(seconds=0.0 if state == "START" else record.seconds or 0.0)

    def _send_all(self) -> None:
        sent = failed = in_a_row = 0
        client = None
        while (told := self._events.get()) is not None:
            if in_a_row >= MOST_FAILURES:
                failed += 1
                continue
            # Whatever is wrong with a receiver or an event is noted, and nothing to the run.
            try:
                client = client or _client(self._url)
                client.emit(self._event(*told))
                sent, in_a_row = sent + 1, 0
            except Exception as error:
                failed, in_a_row = failed + 1, in_a_row + 1
                self._note(
                    f"{told[1]} of {told[0] or 'the run'} was not taken: {traceback.format_exception_only(error)[-1]}"
                )
        if client is not None:
            client.close(REQUEST_SECONDS)
        self._note(f"{sent} events were sent to {self._url}, {failed} were not")

    def _note(self, sentence: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{sentence.strip()}\n")

    def _event(
        self, step: str, state: str, at: datetime, reason: str, reads: Mapping[str, Any], writes: Mapping[str, Any]
    ) -> RunEvent:
        from openlineage.client import event_v2
        from openlineage.client.facet_v2 import error_message_run, job_type_job, parent_run, processing_engine_run

        kind = "TASK" if step else "PIPELINE"
        job = event_v2.Job(
            self._project,
            f"{self._pipeline}.{step}" if step else self._pipeline,
            {"jobType": job_type_job.JobTypeJobFacet("BATCH", INTEGRATION, kind)},
        )
        library = version("kfp-lifecycle")
        engine = processing_engine_run.ProcessingEngineRunFacet(version("kfp"), "Kubeflow Pipelines", library)
        facets: dict[str, Any] = {"processing_engine": engine}
        if step:
            whole = parent_run.Run(self._id("")), parent_run.Job(self._project, self._pipeline)
            facets["parent"] = parent_run.ParentRunFacet(*whole)
        if reason:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(reason, "python")
        return event_v2.RunEvent(
            eventTime=at.isoformat(),
            producer=PRODUCER,
            eventType=event_v2.RunState[state],
            run=event_v2.Run(self._id(step), facets),
            job=job,
            inputs=[event_v2.InputDataset(**_dataset(path, data)) for path, data in reads.values()],
            outputs=[_output(path, data) for path, data in writes.values()],
        )

    def _id(self, step: str) -> str:
        """OpenLineage names runs by UUIDs; the same run has the same, whoever asks."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}/{self._project}/{self._run}/{step}"))


def _dataset(path: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset: versions of the data by their remote, all else by its file."""
    from openlineage.client.facet_v2 import dataset_version_dataset

    facets = {}
    if found := metadata.get("version") or metadata.get("run_id"):
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(str(found))
    return {"namespace": "file", "name": path, "facets": facets}


def _output(path: str, metadata: Mapping[str, Any]) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    rows = metadata.get("rows")
    # kfp hands numbers within a mapping on as floats.
    count = int(sum(rows.values())) if isinstance(rows, Mapping) else int(rows) if rows is not None else None
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=count)
    return OutputDataset(
        **_dataset(path, metadata), outputFacets={"outputStatistics": statistics} if count is not None else {}
    )


def _client(url: str) -> Any:
    """OpenLineage's own client. Its own retries would keep a receiver that is down for minutes."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.file import FileConfig, FileTransport
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    if url.startswith("file://"):
        return OpenLineageClient(transport=FileTransport(FileConfig(url.removeprefix("file://"), append=True)))
    given: dict[str, Any] = {"url": url, "timeout": REQUEST_SECONDS, "retry": {"total": 0, "read": 0, "connect": 0}}
    if key := os.environ.get(KEY_VARIABLE):
        given["auth"] = {"type": "api_key", "apiKey": key}
    return OpenLineageClient(transport=HttpTransport(HttpConfig.from_dict(given)))


def reads_of(pipeline: PipelineSpec) -> dict[str, list[str]]:
    """Names of the artifacts that each step of a compiled pipeline reads, by the step's name on this machine."""
    return {step: sorted(set(names)) for step, names in _reads(pipeline, pipeline.root.dag, {})}


def _reads(pipeline: PipelineSpec, dag: DagSpec, outer: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    for task in dag.tasks.values():
        given = {}
        for port, item in task.inputs.artifacts.items():
            name = item.task_output_artifact.output_artifact_key or outer.get(item.component_input_artifact, "")
            if name:
                given[port] = name
        component = pipeline.components[task.component_ref.name]
        if component.WhichOneof("implementation") == "dag":
            yield from _reads(pipeline, component.dag, given)
        else:
            yield task.component_ref.name.removeprefix("comp-"), list(given.values())
