"""Start of a retraining that monitoring asks for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.cli.console import say
from kfp_lifecycle.runtime.states import RunState

if TYPE_CHECKING:
    from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
    from kfp_lifecycle.config.targets import TargetName
    from kfp_lifecycle.local.run_records import RunRecord


def start_what_was_asked_for(record: RunRecord) -> RetrainingRequest | None:
    """Start the retraining that a run here asks for, now that it has ended. Returns the request whose run has begun."""
    from kfp_lifecycle.backends.local import LocalBackend
    from kfp_lifecycle.backends.retraining import request_of, start_here
    from kfp_lifecycle.compilation.training_pipeline import ASKING
    from kfp_lifecycle.local.state import STATE

    if record.pipeline != ASKING or record.state is not RunState.done:
        return None
    request = request_of(LocalBackend(), record.id)
    if request is None or request.action != "start":
        return None
    return request if start_here(request, Path(record.project_folder), record.overrides, STATE) else None


def start(request: RetrainingRequest, target: TargetName, project: Path, overrides: list[str]) -> str | None:
    """Start the run that a request names.

    Returns:
        What finds it; none where somebody has started it at the same moment.
    """
    from kfp_lifecycle.backends.retraining import PIPELINE, start_here, submit
    from kfp_lifecycle.backends.submission import backend_of
    from kfp_lifecycle.backends.uploads import upload
    from kfp_lifecycle.compilation.pipeline import compile_pipeline

    if target == "local":
        from kfp_lifecycle.local.state import STATE

        return request.run if start_here(request, project, overrides, STATE) else None
    with tempfile.TemporaryDirectory(prefix="training-") as place:
        file = Path(place) / f"{PIPELINE}.yaml"
        compiled = compile_pipeline(PIPELINE, target, project, file, overrides=overrides)
        if compiled.uploads:
            upload(compiled.uploads, compiled.upload_root, say)
        return submit(backend_of(compiled.configuration, target), file, request)


def record_approval(
    request: RetrainingRequest, target: TargetName, project: Path, overrides: list[str], reason: str
) -> None:
    """Write down who approved a retraining, and why, where the target keeps an audit record.

    Raises:
        ContractViolation: there is one, and it cannot be written; nothing may be started then.
    """
    from kfp_lifecycle.audit.record import file_of, open_record
    from kfp_lifecycle.compilation.pipeline import cluster_target
    from kfp_lifecycle.config.loading import load_configuration
    from kfp_lifecycle.local.state import STATE

    if target == "local":
        location = str(file_of(STATE / "serving"))
    else:
        location = cluster_target(load_configuration(project, overrides), target).audit_record
    if location:
        details = {"run": request.run, "asked_by": request.asked_by, "verdict": request.verdict, "for": request.reason}
        open_record(location).append("retraining approved", request.model, request.version, reason, details)
