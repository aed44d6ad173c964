"""Traffic interface: what a release needs of the place it releases to, and nothing of how that is done there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kfp_lifecycle.serving.client import Answer


@dataclass(frozen=True)
class Stage:
    """How much of the traffic the candidate gets, and whether it sees a copy of the champion's."""

    percent: int
    mirror: bool = False


@dataclass(frozen=True)
class Counts:
    """What people asked of a version so far; the release's own requests are not among it."""

    requests: int = 0
    server_errors: int = 0
    client_errors: int = 0
    slower: Mapping[float, int] = field(default_factory=dict)
    """By a number of milliseconds how many requests took longer; empty where the place does not say."""

    def since(self, before: Counts) -> Counts:
        """What came after an earlier count; one that began anew meanwhile counts from its beginning."""
        if self.requests < before.requests:
            return self
        return Counts(
            self.requests - before.requests,
            max(0, self.server_errors - before.server_errors),
            max(0, self.client_errors - before.client_errors),
            {bound: max(0, count - before.slower.get(bound, 0)) for bound, count in self.slower.items()},
        )

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        bounds = self.slower.keys() | other.slower.keys()
        return Counts(
            self.requests + other.requests,
            self.server_errors + other.server_errors,
            self.client_errors + other.client_errors,
            {bound: self.slower.get(bound, 0) + other.slower.get(bound, 0) for bound in bounds},
        )


@dataclass
class Tally:
    """What several sources count of one version, as one count that only grows: each may begin anew, or be gone."""

    total: Counts = field(default_factory=Counts)
    _seen: dict[Hashable, Counts] = field(default_factory=dict)

    def take(self, found: Mapping[Any, Counts]) -> Counts:
        """Add what each source has counted since it was looked at last.

        Args:
            found: What each says now; one that does not answer is left out.
        """
        for source, counts in found.items():
            self.total = self.total.plus(counts.since(self._seen.get(source, Counts())))
            self._seen[source] = counts
        return self.total


class Traffic(Protocol):
    """What a release needs of the place it releases to."""

    candidate: str
    champion: str | None
    addressable: bool
    """Whether a version can be asked that has no traffic."""
    champion_stays: bool
    """Whether the champion can still be asked when the candidate has all traffic."""
    counts_come_late: bool
    """Whether what people ask is known after a while only."""

    def start_candidate(self) -> None:
        """Make the candidate answer, without traffic."""

    def shift(self, stage: Stage) -> None:
        """Give the candidate its share; returns when it has it."""

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """Send a v2 request to a version, marked as shadow traffic."""

    def counts(self, version: str) -> Counts:
        """What people asked of a version so far; zeros where the place does not count."""

    def promote(self) -> None:
        """The candidate has all traffic and is the new champion; make the old one ready for a return."""

    def withdraw(self) -> None:
        """All traffic to the champion, whatever the state; the candidate goes."""


@dataclass(frozen=True)
class Return:
    """All traffic given back to the version that served before."""

    url: str
    grpc: str
    version: str
    """The version with the traffic now."""
    previous_version: str
    """The version that had it until now; another return goes back to it."""
