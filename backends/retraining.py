"""Retraining: the training run that monitoring asks for, started by the target's own client, once.

`python -m kfp_lifecycle.backends.retraining` does it for a step, whose own process has no client of Kubeflow Pipelines:
kfp leaves it out where steps run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
from kfp_lifecycle.backends.backend import Backend, BackendError, ClusterBackend, RunSummary, Submission
from kfp_lifecycle.backends.backfill import AT
from kfp_lifecycle.compilation.training_pipeline import ASKING, COMPILED, TrainingTarget, read_target
from kfp_lifecycle.config.retraining import Retraining, TrainingRemedy
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.monitoring.retraining_policy import NAMED, TrainingRun, decide, run_name
from kfp_lifecycle.runtime.states import RunState

PIPELINE = "training"
# The step of monitoring that asks for it, and what it writes.
STEP, ARTIFACT = "trigger-retraining", "request"
# How many of the newest runs are looked at for one that is at work.
LATEST = 50


class Asking(BaseModel):
    """What a step asks for, as it hands it on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Retraining
    horizon_days: int | None = None
    """Of the label."""
    remedy: Path
    training_pipeline: Path
    """The artifact of that name."""
    request: Path
    """File to write."""
    asked_by: dict[TargetName, str]
    """The run of monitoring, as each target calls it."""


def ask(asking: Asking, now: datetime) -> RetrainingRequest:
    """Apply the project's policy to a retraining that is due, start it where the policy says so, and write the request.

    On this machine one run is at work at a time, and this one is: whoever runs it starts what is asked for when it has
    ended (`start_here`).

    Raises:
        BackendError: the target does not tell its runs, or cannot start one.
    """
    remedy, target = Remedy.read(asking.remedy), read_target(asking.training_pipeline)
    backend = _backend(target)
    runs = training_runs(backend, target.project)
    decided = decide(asking.policy, remedy, runs, now, asking.horizon_days)
    request = RetrainingRequest(
        project=target.project,
        model=remedy.model,
        version=remedy.version,
        verdict=remedy.verdict,
        remedy=TrainingRemedy(remedy.remedy),
        adjustment=remedy.adjustment,
        reason=remedy.sentence,
        since=remedy.since.date() if remedy.since else None,
        start=remedy.window.start,
        end=remedy.window.end,
        action=decided.action,
        decision=decided.sentence,
        requested_at=now.replace(microsecond=0),
        asked_by=asking.asked_by[target.target],
        run=run_name(remedy),
        run_id="",
    )
    if decided.action == "start" and target.target != "local":
        run_id = submit(backend, asking.training_pipeline / COMPILED, request)
        request = request.model_copy(update={"run_id": run_id})
    request.write(asking.request)
    return request


def _backend(target: TrainingTarget) -> Any:
    if target.target == "kubeflow":
        from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend

        return KubeflowBackend(target.kubeflow, target.project)
    if target.target == "vertex":
        from kfp_lifecycle.backends.vertex.backend import VertexBackend

        return VertexBackend(target.vertex, target.project)
    from kfp_lifecycle.backends.local import LocalBackend

    return LocalBackend()


def submit(backend: ClusterBackend, file: Path, request: RetrainingRequest) -> str:
    """Start the run that a request names, on a cluster. Two who do it at the same moment start one. Returns its id.

    Args:
        backend: The cluster.
        file: The compiled training pipeline.
        request: What asks for it.
    """
    return backend.submit(
        Submission(file, PIPELINE, request.project, request.run, parameters=request.parameters, once=True)
    )


def training_runs(backend: Backend, project: str) -> list[TrainingRun]:
    """The newest runs of the training pipeline, and all that monitoring asked for."""
    found: dict[str, RunSummary] = {run.id: run for run in backend.runs_named(NAMED)}
    found |= {run.id: run for run in backend.runs(LATEST) if run.pipeline == PIPELINE}
    return [TrainingRun(run.name, _outcome(backend, run)) for run in found.values() if run.project == project]


def _outcome(backend: Backend, run: RunSummary) -> RunState:
    """How a run ended: a list of Vertex AI does not tell a candidate that was rejected from one that was approved."""
    if backend.target == "vertex" and run.state is RunState.done and run.name.startswith(NAMED):
        return backend.status(run.id).summary.state
    return run.state


def newest_look(backend: Backend) -> RunSummary | None:
    """The newest run of monitoring that came to its end, and is none of a backfill: what that finds was so once."""
    runs = (run for run in backend.runs(LATEST) if run.pipeline == ASKING and run.state is RunState.done)
    return next((run for run in runs if not run.name.startswith(f"{ASKING}{AT}")), None)


def request_of(backend: Backend, run_id: str) -> RetrainingRequest | None:
    """What a run of monitoring asks for; none where it asks for nothing.

    Raises:
        NotThere: there is no such run.
        BackendError: its request cannot be read.
    """
    for artifact in backend.artifacts(run_id):
        if (artifact.step, artifact.name) == (STEP, ARTIFACT):
            with tempfile.TemporaryDirectory(prefix="request-") as folder:
                return RetrainingRequest.read(backend.fetch(artifact, RetrainingRequest.FILE, Path(folder)))
    return None


def obstacle_to(backend: Backend, request: RetrainingRequest) -> str:
    """Why a person's approval starts nothing; empty where it does."""
    for run in training_runs(backend, request.project):
        if run.name == request.run:
            return f"it has led to {run.name} already, which is {run.state}"
        if run.state is RunState.running:
            return f"{run.name} is at work, and one training runs at a time"
    return ""


def start_here(request: RetrainingRequest, project: Path, overrides: Sequence[str], state: Path) -> Path | None:
    """Start the run that a request names on this machine: one of its own, which outlives this process and its terminal.

    It waits for the run that is at work, if there is one. A request starts one run, however often it is asked.

    Args:
        request: What asks for it.
        project: The project's folder.
        overrides: `KEY=VALUE` pairs for the configuration.
        state: The state folder.

    Returns:
        The file that gets what it says; none where it was started before.
    """
    folder = state / "retraining"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{request.run}.log"
    words = [f"--set={setting}" for setting in overrides]
    words += [f"--parameter={name}={value}" for name, value in request.parameters.items()]
    command = [sys.executable, "-m", "kfp_lifecycle.cli", "run", PIPELINE, "--target", "local"]
    command += ["--project", str(project), "--name", request.run, *words]
    try:
        # The file is the claim.
        output = log.open("xb")
    except FileExistsError:
        return None
    with output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LIFECYCLE_STATE": str(state)},
        )
    return log


def main() -> None:
    """Do what a step asks for on the standard input."""
    try:
        request = ask(Asking.model_validate_json(sys.stdin.read()), datetime.now(UTC))
    except BackendError as error:
        sys.exit(f"The retraining that is due could not be started: {error}")
    print(request.sentence)


if __name__ == "__main__":
    main()
