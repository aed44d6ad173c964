"""Candidate against champion on the same moments: what both were asked, how each answered, and what that proves.

Requests of the release itself, and those that people asked before, are given to both in turn. Of people's requests now
each gets its share, at random, so that what happens in a moment happens to both; a mirrored candidate sees a copy of
all. Evidence is kept over all stages of a release, and may be looked at after every request
(`uncertainty/sequential.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

import numpy as np

from kfp_lifecycle.artifacts.verdict import ScorePair
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.serving.client import MISSING_HEADER, Answer, quantile, scores_in
from kfp_lifecycle.serving.release.replay import Replayed
from kfp_lifecycle.serving.release.traffic import Counts
from kfp_lifecycle.uncertainty.sequential import EventTest, MeanTest

# A slower answer counts from here on: a front counts in whole milliseconds, and nobody waits for a fraction of one.
GRAIN_MS = 1.0
# Slow are the slowest tenth of the champion's answers; known after some dozens.
SLOWEST, FEWEST_TIMES, FEWEST_SCORES = 0.9, 30, 30
# Evidence that is no proof but too much to go on with: ten to one.
SUSPICION = 10.0


class Kind(StrEnum):
    """What a candidate can be worse in."""

    server_errors = "server errors"
    client_errors = "refused requests"
    misses = "missing features"
    latency = "latency"
    slowest = "latency of the slowest answers"


TIMES = (Kind.latency, Kind.slowest)


@dataclass
class Comparison:
    """Everything that a release has seen of the two."""

    deployment: Deployment
    foreseen: Sequence[ScorePair] = ()
    """What both gave to the same rows when the candidate was judged; without it, the champion's own scores are
    expected of the candidate."""
    tests: dict[Kind, EventTest] = field(default_factory=lambda: {kind: EventTest() for kind in Kind})
    real_times: dict[Kind, EventTest] = field(default_factory=lambda: {kind: EventTest() for kind in TIMES})
    """Of people's requests times are counted more coarsely: what that hides must not speak for the candidate."""
    missing: dict[str, EventTest] = field(default_factory=dict)
    """By feature that both look up: of the same entities, how often a value is missing."""
    shift: MeanTest = field(default_factory=MeanTest)
    """How far the candidate's score is from what was expected of it, row by row."""
    spread: MeanTest = field(default_factory=MeanTest)
    """Of the same rows, how much farther its score is from its own mean than what was expected is from its."""
    pairs: int = 0
    """Requests that the release gave to both, and that the champion answered well."""
    replayed: int = 0
    """Of these, requests that people asked before."""
    real: int = 0
    """Requests of people that the candidate got."""
    _rows: set[int] = field(default_factory=set)
    _scores: list[float] = field(default_factory=list)
    _expected_scores: list[float] = field(default_factory=list)
    _champion_scores: list[float] = field(default_factory=list)
    _champion_ms: list[float] = field(default_factory=list)
    _real_times: Counts = field(default_factory=Counts)
    _pending: tuple[Counts, Counts] = (Counts(), Counts())
    """What people asked of one of them since both were last seen to be asked."""

    @property
    def alpha(self) -> float:
        """For each test its part of the false alarms that a release may have."""
        return self.deployment.false_alarm_rate / (len(Kind) + 2)

    def add_pair(self, row: int, candidate: Answer, champion: Answer, replayed: Replayed | None = None) -> None:
        """The same request, asked of both.

        Args:
            row: Which of the requests it is: the same scores again would prove nothing.
            candidate: The candidate's answer.
            champion: The champion's.
            replayed: Where people asked it before.
        """
        ours, theirs = score_in(candidate), score_in(champion)
        refused, champion_refused = is_refused(candidate), is_refused(champion)
        failed, champion_failed = ours is None and not refused, theirs is None and not champion_refused
        self.tests[Kind.server_errors].add(failed, champion_failed, share=0.5)
        self.tests[Kind.client_errors].add(refused, champion_refused, share=0.5)
        if theirs is None:
            return
        self.pairs += 1
        self.replayed += replayed is not None
        if ours is None:
            return
        self._add_misses(candidate, champion, frozenset() if replayed is None else replayed.inputs)
        self._add_times(candidate.seconds * 1000, champion.seconds * 1000)
        if row not in self._rows:
            self._rows.add(row)
            self._add_scores(ours, theirs)

    def _add_misses(self, candidate: Answer, champion: Answer, inputs: frozenset[str]) -> None:
        ours, theirs = (missing_in(answer) for answer in (candidate, champion))
        if ours is None or theirs is None:
            return
        # A feature that only the candidate has is no regression where nobody knows a value of it.
        for name in inputs:
            self.missing.setdefault(name, EventTest()).add(name in ours, name in theirs, share=0.5)

    def _add_times(self, candidate: float, champion: float) -> None:
        # In units of the champion's: what is left is slower by more than the ratio that is allowed.
        scaled = max(0.0, candidate - GRAIN_MS) / self.deployment.max_latency_ratio
        slower = int(scaled > champion)
        self.tests[Kind.latency].add(slower, 1 - slower, share=0.5)
        if len(self._champion_ms) >= FEWEST_TIMES:
            # By answers before this one: a bound that these two have moved would bend the bet.
            bound = quantile(self._champion_ms[-200:], SLOWEST)
            self.tests[Kind.slowest].add(int(scaled > bound), int(champion > bound), share=0.5)
        self._champion_ms.append(champion)

    def _add_scores(self, candidate: float, champion: float) -> None:
        expected = expected_score(champion, self.foreseen)
        self.shift.add([candidate - expected])
        if self._scores:
            # Means of the rows before this one: it must not move what it is measured by.
            ours, theirs = statistics.fmean(self._scores), statistics.fmean(self._expected_scores)
            self.spread.add([abs(candidate - ours) - abs(expected - theirs)])
        self._scores.append(candidate)
        self._expected_scores.append(expected)
        self._champion_scores.append(champion)

    def begin_stage(self) -> None:
        """Shares change: what one was asked before is not of the moments in which the other is asked."""
        self._pending = (Counts(), Counts())

    def add_real(self, candidate: Counts, champion: Counts) -> None:
        """What people asked of each since the last look."""
        self.real += candidate.requests
        candidate, champion = (
            before.plus(now) for before, now in zip(self._pending, (candidate, champion), strict=True)
        )
        if not candidate.requests or not champion.requests:
            # Counted at different times: what one was asked waits for what the other was.
            self._pending = (candidate, champion)
            return
        self._pending = (Counts(), Counts())
        everyone = candidate.requests + champion.requests
        share = candidate.requests / everyone
        self.tests[Kind.server_errors].add(candidate.server_errors, champion.server_errors, share)
        self.tests[Kind.client_errors].add(candidate.client_errors, champion.client_errors, share)
        for kind, level in zip(TIMES, (0.5, SLOWEST), strict=True):
            bound = bound_at(self._real_times, level)
            allowed = bound * self.deployment.max_latency_ratio + GRAIN_MS
            wider = min((each for each in candidate.slower if each >= allowed), default=None)
            if bound > 0 and wider is not None:
                self.real_times[kind].add(candidate.slower[wider], champion.slower.get(bound, 0), share)
        self._real_times = self._real_times.plus(champion)

    def odds(self, kind: Kind) -> float:
        """Against the candidate: the mean of several e-processes is one, however they depend on each other."""
        if kind is Kind.misses:
            return statistics.fmean(test.evidence for test in self.missing.values()) if self.missing else 1.0
        if kind not in TIMES:
            return self.tests[kind].evidence
        return (self.tests[kind].evidence + self.real_times[kind].evidence) / 2

    def proof(self) -> str | None:
        """What is proven of the candidate, in words; None where nothing is."""
        for kind in Kind:
            if self.odds(kind) >= 1 / self.alpha:
                return self._told(kind)
        limit = self._shift_limit()
        expected = "what its evaluation foresaw by the champion's" if self.foreseen else "the champion's"
        moved = {
            f"from {expected}": self.shift,
            f"farther from their own mean than {expected} is": self.spread,
        }
        for how, test in moved.items():
            if test.count >= FEWEST_SCORES and test.exceeds(limit, self.alpha):
                return (
                    f"its scores are {test.mean:+.4f} {how} on the same {test.count} rows, more than {limit:.4f} "
                    f"(deployment.max_score_shift is {self.deployment.max_score_shift:g} standard deviations of the "
                    "champion's)"
                )
        return None

    def _told(self, kind: Kind) -> str:
        test = self.tests[kind]
        asked = f"{self.pairs} requests to both and {self.real} of people's to it"
        odds = f"odds of {min(self.odds(kind), 1e9):,.0f} to 1 against it by {asked}"
        if kind in (Kind.server_errors, Kind.client_errors):
            return f"more {kind} than the champion's in the same moments, {test.candidates} to {test.champions}; {odds}"
        if kind is Kind.misses:
            name, worst = max(self.missing.items(), key=lambda item: item[1].evidence)
            return (
                f"more {kind} than the champion's of the same entities, such as {name}, {worst.candidates} to "
                f"{worst.champions}; {odds}"
            )
        ratio = self.deployment.max_latency_ratio
        return (
            f"worse {kind} than the champion's in the same moments by more than a factor of {ratio:g} "
            f"(deployment.max_latency_ratio); {odds}"
        )

    def suspicion(self, least: float) -> str | None:
        """What speaks against the candidate by at least these odds without being proof; None where nothing does."""
        return next((self._told(kind) for kind in Kind if self.odds(kind) > least), None)

    def evidence(self) -> dict[str, float]:
        """The odds by kind, and how scores are shifted and spread, in standard deviations of the champion's."""
        found = {kind.value: round(min(self.odds(kind), 1e9), 4) for kind in Kind}
        unit = self._deviation()
        scores = {"score shift": self.shift, "score spread": self.spread} if unit > 0 else {}
        return found | {name: round(test.mean / unit, 4) for name, test in scores.items()}

    def _deviation(self) -> float:
        return statistics.pstdev(self._champion_scores) if len(self._champion_scores) > 1 else 0.0

    def _shift_limit(self) -> float:
        # A champion that gives everyone the same score has no spread to measure by.
        return self.deployment.max_score_shift * self._deviation() or 1.0


def expected_score(champion: float, foreseen: Sequence[ScorePair]) -> float:
    """What a candidate is expected to give, by what the champion gives: the score of the same rank.

    Linear between two ranks; outside of them the difference at the end. That holds for means and spreads over many
    rows, and says nothing of a single one. A retraining after a change is meant to score otherwise, by as much as its
    evaluation has seen.
    """
    if not foreseen:
        return champion
    by_champion = [pair.champion for pair in foreseen]
    difference = [pair.candidate - pair.champion for pair in foreseen]
    return champion + float(np.interp(champion, by_champion, difference))


def score_in(answer: Answer) -> float | None:
    """The score that an answer gives; None where it gives none: an error, or no finite number."""
    scores = scores_in(answer)
    return scores[0] if len(scores) == 1 and math.isfinite(scores[0]) else None


def missing_in(answer: Answer) -> frozenset[str] | None:
    """The features that had no value when they were looked up; None where nothing was, or the server does not say."""
    told = answer.headers.get(MISSING_HEADER)
    return None if told is None else frozenset(unquote(name) for name in told.split(",") if name)


def is_refused(answer: Answer) -> bool:
    """Whether the request is said to be at fault."""
    return 400 <= answer.status < 500


def bound_at(counts: Counts, share: float) -> float:
    """The smallest counted bound that at least this share of the answers did not exceed; 0 where that is not known."""
    if counts.requests < FEWEST_TIMES:
        return 0.0
    allowed = (1 - share) * counts.requests
    return min((bound for bound, slower in counts.slower.items() if slower <= allowed), default=0.0)
