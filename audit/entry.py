"""Entry of the audit record: who did what to which version, chained to the entry before it by SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Action = Literal[
    "retraining approved",
    "waived",
    "approval asked",
    "approved",
    "rejected",
    "release begun",
    "released",
    "release rolled back",
    "release paused",
    "release abandoned",
    "overridden",
    "traffic returned",
    "promoted",
    "forgetting begun",
    "forgotten",
]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True)
class Entry:
    """One entry."""

    number: int
    """Its place in the record, from 1 on."""
    at: str
    """When, ISO, UTC."""
    by: str
    """Who, as `author` says."""
    action: Action
    model: str
    """The model's name in the registry; empty where it is about no model."""
    version: str
    """The version that it is about."""
    reason: str
    """Why, as whoever acted gives it."""
    details: Mapping[str, Any]
    """What belongs to the action: the champion, the evidence of a release, the counts of what was forgotten."""
    previous: str
    """Hash of the entry before; empty in the first."""
    hash: str
    """SHA-256 of all of the above."""


def sealed(values: Mapping[str, Any]) -> Entry:
    """An entry of these values, with their hash."""
    return Entry(**values, hash=hash_of(values))


def hash_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of an entry's values without the hash itself, written in one way."""
    return hashlib.sha256(_written({key: value for key, value in values.items() if key != "hash"}).encode()).hexdigest()


def line_of(entry: Entry) -> str:
    """The entry as it is kept: one line of JSON, without its end."""
    return _written(asdict(entry))


def read_entry(line: str) -> tuple[Entry, str]:
    """An entry out of its line, and the hash that its values have now.

    Raises:
        ValueError: the line is no entry, or half of one.
    """
    values = json.loads(line)
    try:
        entry = Entry(**values)
    except TypeError as error:
        raise ValueError(f"it is no entry: {error}") from error
    if entry.action not in ACTIONS or not isinstance(entry.number, int):
        raise ValueError("it is no entry: its action or its number is unknown")
    return entry, hash_of(values)


def _written(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
