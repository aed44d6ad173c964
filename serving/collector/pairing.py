"""Pairing: the request and the answer of one prediction, which come as events of their own, in any order, or alone.

By source and id; where a client gives several of its requests one id, by their times too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from kfp_lifecycle.serving.collector.cloud_event import Half

# Longer than a request may take, so that whatever has come alone by then comes alone.
PATIENCE_SECONDS = 120.0
MOST_WAITING_BYTES = 256 * 2**20
# What an event takes beside its body.
EVENT_BYTES = 2_048

Name = tuple[str, str]
Event = tuple[str, str, bool, datetime]


@dataclass(frozen=True, slots=True)
class Alone:
    """What waited for its other half in vain."""

    half: Half
    crowded_out: bool = False
    """Whether it had to make room, before its time."""


class Pairs:
    """Halves that wait, each for a while."""

    def __init__(self, patience: float = PATIENCE_SECONDS, most_bytes: int = MOST_WAITING_BYTES) -> None:
        """Say how long they may wait, and how much may."""
        self._patience, self._most = patience, most_bytes
        self._waiting: dict[Name, list[Half]] = {}
        self._arrivals: OrderedDict[Event, tuple[float, Half]] = OrderedDict()
        self._seen: OrderedDict[Event, float] = OrderedDict()
        self._bytes = 0

    def is_new(self, half: Half) -> bool:
        """Whether this very event has not come before; from now on it has."""
        event = _event(half)
        if event in self._seen:
            return False
        self._seen[event] = time.monotonic()
        return True

    def add(self, half: Half) -> tuple[Half, Half] | None:
        """Keep a half until the other one comes; if that is here, both: the request, and the answer."""
        others = [other for other in self._waiting.get((half.source, half.id), ()) if _fit(half, other)]
        if others:
            # Of several the nearest in time.
            other = min(others, key=lambda one: abs(one.time - half.time))
            self._remove(other)
            return (other, half) if half.is_answer else (half, other)
        self._waiting.setdefault((half.source, half.id), []).append(half)
        self._arrivals[_event(half)] = time.monotonic(), half
        self._bytes += _size(half)
        return None

    def left_alone(self) -> Iterator[Alone]:
        """Give up those whose time is over, and the oldest where there are too many."""
        now = time.monotonic()
        while self._seen and next(iter(self._seen.values())) <= now - self._patience:
            self._seen.popitem(last=False)
        while self._arrivals:
            since, half = next(iter(self._arrivals.values()))
            is_over = since <= now - self._patience
            if not is_over and self._bytes <= self._most:
                return
            self._remove(half)
            yield Alone(half, crowded_out=not is_over)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._arrivals)

    def _remove(self, half: Half) -> None:
        del self._arrivals[_event(half)]
        self._bytes -= _size(half)
        name = half.source, half.id
        self._waiting[name].remove(half)
        if not self._waiting[name]:
            del self._waiting[name]


def _fit(one: Half, other: Half) -> bool:
    request, answer = (other, one) if one.is_answer else (one, other)
    return not request.is_answer and answer.is_answer and request.time <= answer.time


def _event(half: Half) -> Event:
    return half.source, half.id, half.is_answer, half.time


def _size(half: Half) -> int:
    return len(half.body) + EVENT_BYTES
