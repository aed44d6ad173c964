"""Strategies of a release, apart from its settings: a command line that names them needs no more to start."""

from __future__ import annotations

from enum import StrEnum


class Strategy(StrEnum):
    """How traffic moves to a new model."""

    canary = "canary"
    blue_green = "blue_green"
    shadow = "shadow"
