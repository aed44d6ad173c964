"""Run report of a local run: made anew when it ends, since only then is every step's state known."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.environments.locks import STEP_ENVIRONMENTS, lock_digest
from kfp_lifecycle.local.events import RunProgress
from kfp_lifecycle.local.run_records import MONITORING_PAGE
from kfp_lifecycle.reports.report import ArtifactView, Failure, StepView, write_run_report

LOG_EXCERPT_LINES = 25
# The artifact that is a step's own page, and the names of those that a person opens beside the report.
PAGE = "report"
PAGES = {"decide-remedy": MONITORING_PAGE, "join-outcomes": "outcomes.html", "detect-drift": "drift.html"}


def write_report(
    output: Path,
    settings: Configuration,
    project: Path,
    *,
    pipeline: str,
    run_id: str,
    progress: RunProgress,
    resume: str,
) -> None:
    """Write the report of a run that ended, however it ended.

    Args:
        output: The HTML file to write.
        settings: The project's configuration, as the run was given it.
        project: The project's folder, for its commit.
        pipeline: The pipeline's name.
        run_id: The run.
        progress: What happened.
        resume: The command that goes on with it.
    """
    failed = progress.failed()
    failure = None
    if failed is not None:
        log = Path(failed.log)
        lines = log.read_text("utf-8", "replace").splitlines() if failed.log and log.exists() else []
        failure = Failure(failed.name, failed.reason, "\n".join(lines[-LOG_EXCERPT_LINES:]), failed.log, resume)
    artifacts = {
        name: ArtifactView(Path(path), metadata)
        for step in progress.steps.values()
        for name, (path, metadata) in step.artifacts.items()
    }
    pages = copied_pages(output.parent, progress)
    write_run_report(
        output,
        settings=settings,
        artifacts=artifacts,
        pipeline=pipeline,
        run_id=run_id,
        steps=[
            StepView(step.name, step.state, step.started_at, step.seconds, step.summary)
            for step in progress.steps.values()
        ],
        failure=failure,
        lineage={"Configuration digest": settings_digest(settings), **commit(project), **environment_digests()},
        pages=pages,
    )


def copied_pages(folder: Path, progress: RunProgress) -> list[tuple[str, str]]:
    """Copy the pages of monitoring under names that browsers know.

    Returns:
        What each is about, and where it lies from the folder.
    """
    pages = []
    for name, file in PAGES.items():
        step = progress.steps.get(name)
        page = Path(step.artifacts.get(PAGE, ("", {}))[0]) if step is not None else Path()
        if page.is_file():
            shutil.copyfile(page, folder / file)
            pages.append((file.removesuffix(".html"), file))
    return pages


def commit(folder: Path) -> Mapping[str, str]:
    """The git commit that the project's folder stands at, and whether it was changed since; nothing outside git."""
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, changed = (
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"Git commit": f"{head[:12]}, with uncommitted changes" if changed else head[:12]}


def settings_digest(settings: Configuration) -> str:
    """SHA-256 of everything that the configuration says, first 12 hexadecimal digits."""
    values = settings_of(settings, Configuration.model_fields)
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def environment_digests() -> Mapping[str, str]:
    """Digest of the lock of each environment."""
    names = (*STEP_ENVIRONMENTS, "platform")
    return {"Environments": ", ".join(f"{name} {lock_digest(name)}" for name in names)}
