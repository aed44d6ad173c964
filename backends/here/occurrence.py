"""Script of an occurrence: what a timer of this machine runs, and the record of what was scheduled."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.config.schedules import Schedule

# How the line of a script begins that says what it is; JSON follows.
RECORD = "# lifecycle schedule: "
# In the state folder: variables of every occurrence, such as the addresses of notifications.
VARIABLES = "environment"
# The argument that makes an occurrence see first whether it is due: cron knows neither zones nor what was missed.
IF_DUE = "if-due"


@dataclass(frozen=True)
class Scheduled:
    """A schedule of this machine, as its script says."""

    name: str
    cron: str
    zone: str
    digest: str


def script_of(
    name: str, pipeline: str, schedule: Schedule, project: Path, state: Path, overrides: Sequence[str]
) -> tuple[str, str]:
    """The script that runs an occurrence: `lifecycle run`, from where it was scheduled. And its digest.

    Args:
        name: The schedule's name.
        pipeline: What it runs.
        schedule: When, and with which parameters.
        project: The project's folder.
        state: The state folder.
        overrides: `KEY=VALUE` pairs for the configuration.

    Raises:
        BackendError: a path has a character that no timer's file can hold.
    """
    for path in (project, state, Path.cwd(), Path(sys.executable)):
        if not str(path).isprintable():
            raise BackendError(f"{str(path)!r} has a character that no timer can be given: rename the folder")
    given = [f"--set={setting}" for setting in overrides]
    given += [
        f"--parameter={key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in schedule.parameters.items()
    ]
    python = shlex.quote(sys.executable)
    run = shlex.join(["run", pipeline, "--target", "local", "--project", str(project), *given])
    stamp, variables = shlex.quote(str(state / "schedules" / f"{name}.ran")), shlex.quote(str(state / VARIABLES))
    due = shlex.join([schedule.cron, schedule.zone])
    lines = [
        f"export LIFECYCLE_STATE={shlex.quote(str(state))}",
        *(f"export {key}={shlex.quote(os.environ[key])}" for key in ("PYTHONPATH",) if os.environ.get(key)),
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        *([f'[ "$(date +%s)" -ge {_seconds(schedule.start)} ] || exit 0'] if schedule.start else []),
        *([f'[ "$(date +%s)" -lt {_seconds(schedule.end)} ] || exit 0'] if schedule.end else []),
        f'if [ "$1" = {IF_DUE} ]; then {python} -m kfp_lifecycle.backends.here.due {due} {stamp} || exit 0; fi',
        f"touch {stamp}",
        f"if [ -f {variables} ]; then set -a; . {variables}; set +a; fi",
        f"exec {python} -m kfp_lifecycle.cli {run} > {shlex.quote(str(state / 'schedules' / f'{name}.log'))} 2>&1",
    ]
    content = "\n".join(lines) + "\n"
    digest = hashlib.sha256(f"{schedule.cron} {schedule.zone}\n{content}".encode()).hexdigest()[:16]
    record = json.dumps(asdict(Scheduled(name, schedule.cron, schedule.zone, digest)))
    return f"#!/bin/sh\n{RECORD}{record}\n{content}", digest


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())


def scheduled_in(folder: Path) -> list[Scheduled]:
    """The schedules whose scripts are in a folder, by name; what is none of this library's is passed over."""
    found = []
    for file in sorted(folder.glob("*.sh")):
        for line in file.read_text("utf-8", "replace").splitlines()[:2]:
            if line.startswith(RECORD):
                found.append(Scheduled(**json.loads(line.removeprefix(RECORD))))
    return found
