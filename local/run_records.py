"""Records of runs on this machine: read without what it takes to run one, which is long to import."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kfp_lifecycle.local.events import RunProgress, read_progress
from kfp_lifecycle.local.state import RUNS, is_alive, write_json
from kfp_lifecycle.runtime.states import RunState

EVENTS_FILE = "events.jsonl"
RECORD_FILE = "run.json"
# What a person opens of a run of monitoring, beside its report.
MONITORING_PAGE = "monitoring.html"


@dataclass(frozen=True)
class RunRecord:
    """A run as `lifecycle status` tells of it."""

    id: str
    pipeline: str
    project: str
    project_folder: str
    overrides: list[str]
    state: RunState = RunState.running
    failed_step: str | None = None
    reason: str | None = None
    report: str | None = None
    started_at: str = ""
    finished_at: str | None = None
    process: int = field(default_factory=os.getpid)
    model: str = ""
    """The model that the project is about."""
    number: int = 0
    """Which run of this state folder it is. Runs are told apart and ordered by it: a clock may be set back."""
    parameters: list[str] = field(default_factory=list)
    """`NAME=VALUE` pairs that the pipeline was given."""
    name: str = ""
    """What whoever started it calls it; empty where its id is its name."""

    @property
    def folder(self) -> Path:
        """Where the run keeps its artifacts, logs and events."""
        return RUNS / self.id

    def save(self) -> None:
        """Write the record into the run's folder."""
        write_json(self.folder / RECORD_FILE, asdict(self))

    def progress(self) -> RunProgress:
        """The run's steps as they stand."""
        return read_progress(self.folder / EVENTS_FILE)


def all_runs() -> list[RunRecord]:
    """The runs of this state folder, newest first."""
    records = [record for record in map(read_record, run_folders()) if record is not None]
    return sorted(records, key=lambda run: (run.number, run.started_at, run.id), reverse=True)


def run_folders() -> list[Path]:
    """The folders of all runs, and what else has a folder there."""
    return [folder for folder in RUNS.iterdir() if folder.is_dir()] if RUNS.is_dir() else []


def read_record(folder: Path) -> RunRecord | None:
    """The run of a folder, as it stands; None where no run has begun."""
    file = folder / RECORD_FILE
    try:
        # What a later version has added to a record is passed over.
        record = TypeAdapter(RunRecord).validate_json(file.read_bytes())
    except FileNotFoundError:
        return _damaged(folder, "it is not there") if (folder / EVENTS_FILE).exists() else None
    except OSError as error:
        return _damaged(folder, str(error.strerror))
    except ValidationError as error:
        problem = error.errors()[0]
        return _damaged(folder, ": ".join([*map(str, problem["loc"]), problem["msg"]]))
    # A folder that was copied or renamed is a run of its own.
    record = replace(record, id=folder.name)
    if record.state is RunState.running and not is_alive(folder):
        running = record.progress().running()
        return replace(
            record,
            state=RunState.interrupted,
            failed_step=running.name if running else None,
            reason="the run's process was killed",
        )
    return record


def _damaged(folder: Path, problem: str) -> RunRecord:
    """What the folder's name tells of a run."""
    named = re.fullmatch(r"(?P<pipeline>.+)-\d{8}-\d{6}-(?P<number>\d+)", folder.name)
    return RunRecord(
        id=folder.name,
        pipeline=named["pipeline"] if named else "",
        project="",
        project_folder="",
        overrides=[],
        state=RunState.damaged,
        reason=f"{folder / RECORD_FILE} cannot be read: {problem}",
        number=int(named["number"]) if named else 0,
    )


def resume_command(record: RunRecord) -> str:
    """The command that goes on with a run."""
    return f"lifecycle run {record.pipeline} --resume"
