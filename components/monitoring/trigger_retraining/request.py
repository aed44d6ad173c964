"""Retraining request: who asks, why, and how to grant it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.retraining_request import Change, RetrainingRequest
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.runtime.contract import ContractViolation

COMMAND = "lifecycle run training --project FOLDER"


def write_request(settings: Configuration, drift: Path, request: Path) -> RetrainingRequest:
    """Write the request for retraining that a drift decision leads to.

    Args:
        settings: `name` is the project that asks.
        drift: What `detect_drift` wrote.
        request: JSON file to write.

    Raises:
        ContractViolation: there is no drift decision, or it is not to retrain.
    """
    found = Drift.read(drift)
    if found.decision != "retrain":
        raise ContractViolation(
            f"{drift / Drift.FILE} decides `{found.decision}`: {found.sentence} "
            "Retraining is requested only where it decides `retrain`."
        )
    content = RetrainingRequest(
        project=settings.name,
        model=found.model,
        version=found.version,
        reason=found.sentence,
        columns=[
            Change(column=column.column, aspect=column.aspect, change=column.sentence)
            for column in found.columns
            if column.drifted
        ],
        requested_at=datetime.now(UTC).replace(microsecond=0),
        command=COMMAND,
        explanation=f"FOLDER is the folder with the pipeline.yaml of the project {settings.name}.",
    )
    content.write(request)
    return content


def announce(content: RetrainingRequest) -> str:
    """The request as a person reads it in the log."""
    return "\n".join(
        [
            f"Retraining of {content.model} (version {content.version}) is requested. {content.reason}",
            *(f"  - {item.column}: {item.change}" for item in content.columns),
            f"Nothing was started. To train: {content.command}",
            content.explanation,
        ]
    )
