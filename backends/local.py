"""Local backend: the runs of this machine's state folder, which kfp's local runner runs in the foreground."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from kfp_lifecycle.backends.backend import BackendError, NotThere, RunArtifact, RunStatus, RunSummary, step_with_log
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.local.run_records import RunRecord, all_runs, resume_command
from kfp_lifecycle.runtime.states import RunState, State

# Seconds between two looks at a log that grows.
PAUSE = 0.2


class LocalBackend:
    """Runs of the state folder here."""

    target: ClassVar[TargetName] = "local"

    def runs(self, limit: int) -> list[RunSummary]:
        """As the protocol says."""
        return [_summary(record) for record in all_runs()[:limit]]

    def runs_named(self, beginning: str) -> list[RunSummary]:
        """As the protocol says, of every project that runs here."""
        return [run for run in map(_summary, all_runs()) if run.name.startswith(beginning)]

    def status(self, run_id: str) -> RunStatus:
        """As the protocol says."""
        record = _record(run_id)
        return RunStatus(_summary(record), record.progress(), record.reason or "", record.failed_step or "")

    def log(self, run_id: str, step: str) -> Iterator[str]:
        """As the protocol says."""
        found = step_with_log(run_id, _record(run_id).progress(), step)
        if not Path(found.log).is_file():
            raise NotThere(f"the step {found.name} of the run {run_id} has no log: it is {found.state}")
        return self._lines(run_id, found.name, Path(found.log))

    def _lines(self, run_id: str, step: str, file: Path) -> Iterator[str]:
        with file.open(encoding="utf-8", errors="replace") as log:
            while True:
                running = _record(run_id).progress().steps[step].state is State.running
                yield from (line.rstrip("\n") for line in log)
                if not running:
                    return
                time.sleep(PAUSE)

    def cancel(self, run_id: str) -> None:
        """As the protocol says: as Ctrl-C in the terminal that it runs in."""
        record = _record(run_id)
        if record.state is RunState.running:
            os.kill(record.process, signal.SIGTERM)

    def resume(self, run_id: str) -> str:
        """A run here works in a terminal, so that it goes on in one."""
        raise BackendError(f"a run on this machine goes on in the terminal: {resume_command(_record(run_id))}")

    def artifacts(self, run_id: str) -> list[RunArtifact]:
        """As the protocol says."""
        return [
            RunArtifact(step.name, name, "", uri, metadata)
            for step in _record(run_id).progress().steps.values()
            for name, (uri, metadata) in step.artifacts.items()
        ]

    def fetch(self, artifact: RunArtifact, file: str, folder: Path) -> Path:
        """As the protocol says: what is here needs no copy."""
        place = Path(artifact.uri)
        found = place / file if place.is_dir() else place
        if not found.is_file():
            raise NotThere(f"{found} is gone")
        return found


def _record(run_id: str) -> RunRecord:
    records = all_runs()
    # A run that was given a name is known by it, too: whoever started it in the background knows no more.
    found = next((record for record in records if run_id in (record.id, record.name)), None)
    if found is None:
        newest = f"; the newest is {records[0].id}" if records else ""
        raise NotThere(f"there is no run {run_id} in this state folder{newest}")
    return found


def _summary(record: RunRecord) -> RunSummary:
    return RunSummary(
        id=record.id,
        name=record.name or record.id,
        pipeline=record.pipeline,
        project=record.project,
        state=record.state,
        started_at=datetime.fromisoformat(record.started_at) if record.started_at else None,
        finished_at=datetime.fromisoformat(record.finished_at) if record.finished_at else None,
        link=record.report or "",
    )
