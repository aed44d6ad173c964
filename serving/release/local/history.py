"""Release history of a serving folder: who changed what, when, why and on what evidence. Lines are only added."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kfp_lifecycle.audit.entry import Action
from kfp_lifecycle.audit.record import file_of, open_record
from kfp_lifecycle.runtime.contract import ContractViolation

FILE = "releases.jsonl"

Outcome = Literal["begun", "promoted", "rolled back", "paused", "abandoned", "returned"]
AUDITED: dict[Outcome, Action] = {
    "begun": "release begun",
    "promoted": "released",
    "rolled back": "release rolled back",
    "paused": "release paused",
    "abandoned": "release abandoned",
    "returned": "traffic returned",
}


def person() -> str:
    """Who works here: `name@host`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


@dataclass(frozen=True)
class Event:
    """One line of the history."""

    model: str
    version: str
    """The version that it is about: the candidate, or where traffic was returned to."""
    champion: str | None
    """The version that had the traffic before."""
    outcome: Outcome
    """`begun`, `promoted`, `rolled back` by judgement or failure, `paused` undecided, `abandoned` by a controller that
    was killed, `returned` by a rollback."""
    strategy: str = ""
    why: str = ""
    evidence: Sequence[dict[str, Any]] = ()
    """What each stage came to."""
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    by: str = field(default_factory=person)


def record(folder: Path, event: Event) -> None:
    """Add a line, whole, and on the disk before anything else is done."""
    told = {"champion": event.champion, "strategy": event.strategy, "evidence": list(event.evidence)}
    open_record(str(file_of(folder))).append(AUDITED[event.outcome], event.model, event.version, event.why, told)
    line = json.dumps(asdict(event), ensure_ascii=False) + "\n"
    with (folder / FILE).open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_history(folder: Path, model: str | None = None) -> list[Event]:
    """All events, oldest first; of one model where it is named.

    Raises:
        ContractViolation: a line cannot be read.
    """
    file = folder / FILE
    if not file.is_file():
        return []
    found = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        try:
            found.append(Event(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ContractViolation(
                f"line {number} of {file} is no event of a release ({error}). Remove it; the rest can be read."
            ) from error
    return [event for event in found if model in (None, event.model)]
