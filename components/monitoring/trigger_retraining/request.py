"""A request for retraining: who asks, why, and how to grant it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole

DRIFT_FILE = "drift.json"
COMMAND = "lifecycle run training --project FOLDER"


def write_request(settings: Configuration, drift: Path, request: Path) -> dict[str, Any]:
    """Write the request for retraining that a drift decision leads to.

    Args:
        settings: `name` is the project that asks.
        drift: What `detect_drift` wrote.
        request: JSON file to write.

    Returns:
        Its content and a `summary`.

    Raises:
        ContractViolation: there is no drift decision, or it is not to retrain.
    """
    file = drift / DRIFT_FILE
    try:
        found = json.loads(file.read_text("utf-8"))
        decision = found["decision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContractViolation(
            f"{file} holds no drift decision ({type(error).__name__}: {error}). Take the output of detect_drift."
        ) from error
    if decision != "retrain":
        raise ContractViolation(
            f"{file} decides `{decision}`: {found['sentence']} Retraining is requested only where it decides `retrain`."
        )
    content = {
        "project": settings.name,
        "model": found["model"],
        "version": found["version"],
        "reason": found["sentence"],
        "columns": [
            {"column": column["column"], "aspect": column["aspect"], "change": column["sentence"]}
            for column in found["columns"]
            if column["drifted"]
        ],
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": COMMAND,
        "explanation": f"FOLDER is the folder with the pipeline.yaml of the project {settings.name}.",
    }
    write_whole(request, json.dumps(content, indent=2, ensure_ascii=False))
    return {**content, "summary": f"retraining of {settings.name} requested"}


def announce(content: dict[str, Any]) -> str:
    """The request as a person reads it in the log."""
    changes = [f"  - {item['column']}: {item['change']}" for item in content["columns"]]
    return "\n".join(
        [
            f"Retraining of {content['model']} (version {content['version']}) is requested. {content['reason']}",
            *changes,
            f"Nothing was started. To train: {content['command']}",
            content["explanation"],
        ]
    )
