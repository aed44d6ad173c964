"""Declarative schedules: what the project wants against what the target has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kfp_lifecycle.backends.backend import ClusterBackend, ExistingSchedule, PlannedSchedule, ScheduleKeeper
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.backends.uploads import upload
from kfp_lifecycle.compilation.parameters import check_parameters
from kfp_lifecycle.compilation.pipeline import PIPELINES, cluster_target, compile_pipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.config.targets import ClusterTarget, TargetName


class Change(StrEnum):
    """What became of a schedule."""

    created = "created"
    changed = "changed"
    """As the target can: it is the same one, and what it started goes on."""
    replaced = "replaced"
    left = "left"
    removed = "removed"
    retired = "retired"
    """It starts nothing more, and is removed by the next `apply`: a run that it started is still at it."""


@dataclass(frozen=True)
class Applied:
    """What was done about one schedule."""

    name: str
    change: Change
    cron: str = ""
    paused: bool = False


def plan(
    project: Path, target: TargetName, folder: Path, overrides: Sequence[str], say: Callable[[str], None]
) -> tuple[ClusterBackend, list[PlannedSchedule]]:
    """Compile every pipeline that has a schedule, and upload what its steps fetch.

    Args:
        project: The project's folder.
        target: `kubeflow` or `vertex`.
        folder: Where the compiled pipelines are kept.
        overrides: `KEY=VALUE` pairs for the configuration.
        say: Called with a line of progress.

    Raises:
        ConfigurationError: the project cannot be compiled for the target, or a pipeline cannot be given the parameters
            of its schedule.
        BackendError: something cannot be uploaded.
    """
    configuration = load_configuration(project, overrides)
    settings = cluster_target(configuration, target)
    backend = backend_of(configuration, target)
    planned = []
    for pipeline in PIPELINES:
        schedule: Schedule | None = getattr(configuration.schedules, pipeline)
        if schedule is None:
            continue
        file = folder / f"{pipeline}.yaml"
        compiled = compile_pipeline(pipeline, target, project, file, overrides=overrides)
        check_parameters(pipeline, compiled.parameters, schedule.parameters, configuration)
        if compiled.uploads:
            upload(compiled.uploads, compiled.upload_root, say)
        digest = occurrence_digest(schedule, file, settings)
        planned.append(PlannedSchedule(f"{configuration.name}-{pipeline}", pipeline, schedule, file, digest))
    return backend, planned


def occurrence_digest(schedule: Schedule, file: Path, target: ClusterTarget) -> str:
    """Digest of all that an occurrence would do and when.

    Args:
        schedule: When, and with which parameters.
        file: The compiled pipeline.
        target: What the project says of runs there: account, root, network, key, labels …
    """
    what = {
        "schedule": schedule.model_dump(mode="json"),
        "pipeline": hashlib.sha256(file.read_bytes()).hexdigest(),
        # Where it is asked and shown is no part of what it does.
        "target": target.model_dump(mode="json", exclude_defaults=True, exclude={"endpoint", "dashboard"}),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def apply(backend: ScheduleKeeper, planned: Sequence[PlannedSchedule]) -> list[Applied]:
    """Bring a target's schedules to what the project wants. Again, it changes nothing.

    A schedule that differs is changed where the target can, and else replaced: the new one is made first, the old one
    starts nothing more, and is removed when nothing that it started runs (Kubeflow has no update,
    kubeflow/pipelines#3789, and stops the runs of a schedule that is deleted, kubeflow/pipelines#7421). One that a
    person paused stays paused.

    Raises:
        BackendError: something could not be done; what was done before stays.
    """
    existing = backend.schedules()
    done: list[Applied] = []
    kept: set[str] = set()
    for wanted in planned:
        same_name = [item for item in existing if item.name == wanted.name]
        same = next((item for item in same_name if item.digest == wanted.digest), None)
        if same is not None:
            kept.add(same.id)
            done.append(Applied(wanted.name, Change.left, wanted.schedule.cron, paused=not same.enabled))
            continue
        if len(same_name) == 1 and backend.update_schedule(same_name[0].id, wanted):
            kept.add(same_name[0].id)
            done.append(Applied(wanted.name, Change.changed, wanted.schedule.cron, paused=not same_name[0].enabled))
            continue
        # A replaced schedule that a person had paused would start what was meant to stand still.
        paused = bool(same_name) and not any(item.enabled for item in same_name)
        kept.add(made := backend.create_schedule(wanted))
        if paused:
            backend.pause_schedule(made)
        done.append(
            Applied(wanted.name, Change.replaced if same_name else Change.created, wanted.schedule.cron, paused)
        )
    replaced = {item.name for item in done if item.change is Change.replaced}
    for item in existing:
        if item.id in kept:
            continue
        removed = retire(backend, item)
        if item.name not in replaced or not removed:
            done.append(Applied(item.name, Change.removed if removed else Change.retired, item.cron))
    return done


def retire(backend: ScheduleKeeper, schedule: ExistingSchedule) -> bool:
    """Let a schedule start nothing more, and remove it when nothing of it runs. Returns whether it is gone."""
    if schedule.enabled:
        backend.pause_schedule(schedule.id)
    if backend.is_busy(schedule.id):
        return False
    backend.delete_schedule(schedule.id)
    return True
