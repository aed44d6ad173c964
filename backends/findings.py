"""Findings of a doctor: what a run needs, and whether it is there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Found(StrEnum):
    """How a check came out."""

    good = "good"
    bad = "bad"
    unknown = "unknown"
    """It could not be looked at from here."""


@dataclass(frozen=True)
class Finding:
    """One thing that a run needs."""

    what: str
    found: Found
    detail: str = ""
    remedy: str = ""
    """What to do about it; empty where it is good."""
