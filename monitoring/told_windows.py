"""`python -m kfp_lifecycle.monitoring.told_windows URI PROJECT MODEL AUDIT WINDOWS`: past windows as JSON.

Newest first, each with what was done about it: for whoever has no MLflow of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from kfp_lifecycle.monitoring.history import WindowRecord, read_history, retrainings
from kfp_lifecycle.monitoring.resolution import Resolution, moves_of, resolutions
from kfp_lifecycle.runtime.contract import ContractViolation


@dataclass(frozen=True)
class ToldWindow:
    """A window, and what was done about it."""

    record: WindowRecord
    done: Resolution


def told_windows(tracking_uri: str, project: str, model: str, audit_record: str, windows: int) -> list[ToldWindow]:
    """The newest windows of a model, newest first.

    Args:
        tracking_uri: MLflow tracking server.
        project: Its name.
        model: Its name in the registry.
        audit_record: Where it is told who released and rolled back; may be empty.
        windows: So many at the most.

    Raises:
        ContractViolation: the server or the audit record cannot be read.
    """
    history = read_history(tracking_uri, project, model)
    done = resolutions(history, retrainings(tracking_uri, project, history), moves_of(audit_record, model))
    return [ToldWindow(*item) for item in zip(history, done, strict=True)][: -windows - 1 : -1]


def read_told(printed: str) -> list[ToldWindow]:
    """What this module has printed."""
    return [
        ToldWindow(WindowRecord.model_validate(item["record"]), Resolution(**item["done"]))
        for item in json.loads(printed)
    ]


def main(arguments: Sequence[str]) -> None:
    """Print them."""
    tracking_uri, project, model, audit_record, windows = arguments
    try:
        found = told_windows(tracking_uri, project, model, audit_record, int(windows))
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))
    print(json.dumps([{"record": item.record.model_dump(mode="json"), "done": asdict(item.done)} for item in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
