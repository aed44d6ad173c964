"""Findings of a doctor: what a run needs, and whether it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from kfp_lifecycle.backends.backend import BackendError, NotThere


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


def looked_at(what: str, look: Callable[[], Iterator[Finding]], remedy: str) -> Iterator[Finding]:
    """Findings; where the question itself is not answered, that it is not known, and what is missing for it.

    Args:
        what: What is looked at.
        look: Looks.
        remedy: What to do where it is not there.
    """
    try:
        yield from look()
    except NotThere as error:
        yield Finding(what, Found.bad, str(error), remedy)
    except BackendError as error:
        yield Finding(what, Found.unknown, str(error), "ask who may")
