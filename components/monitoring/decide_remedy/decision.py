"""Decision of a window: one verdict of all that was found, the remedy, and both in a sentence.

The order is that of what forbids what: broken data is repaired and never learned from, whatever else was seen; then
outcomes, which say what happened; then features, which say what may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import Drift, Finding, told
from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Outcomes, OutcomeWeek, Segment, VersionOutcomes
from kfp_lifecycle.artifacts.remedy import Reason, Remedy, RemedyName, RemedyVerdict, Span
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.decide_remedy.adjusting import (
    SIGNIFICANCE,
    adjustment,
    labels_known,
    settled_since,
)
from kfp_lifecycle.components.monitoring.decide_remedy.followed import Followed, Ratio, acted_upon, followed, same_rate
from kfp_lifecycle.components.monitoring.decide_remedy.predecessor import Release, beside
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Ranking, Week, lost, measure, weeks_at_risk
from kfp_lifecycle.components.monitoring.decide_remedy.worth import (
    Worth,
    choose,
    worth_of_remedies,
)
from kfp_lifecycle.config.training import Costs

# Two versions are told apart where either's events were expected at least so often.
FEWEST_EXPECTED = 5.0
TO_DO: Mapping[RemedyName, str] = {
    "recalibrate": "recalibrate the scores",
    "set the threshold": "set the decision's threshold anew",
    "retrain": "retrain",
}


@dataclass(frozen=True)
class Evidence:
    """What a window is judged by."""

    drift: Drift
    outcomes: Outcomes
    table: pd.DataFrame
    """Of the outcomes."""
    skew: ServingSkew
    label: str
    """Name of what is foretold."""
    costs: Costs
    ratio: float
    """`monitoring.outcome_ratio`: as far as outcomes are off, before it matters."""
    run_length: float
    """`monitoring.ranking_run_length`: weeks between two false alarms about the ranking, at least."""
    seed: int
    by_costs: bool = True
    """Whether the project's decisions are made by its costs (`training.threshold`)."""
    features: Callable[[], pd.DataFrame | None] = lambda: None
    """Reads what was logged of each row of the table, when it is needed; None where features are not logged."""
    decisions: Callable[[str], NDArray[np.bool_] | None] = lambda version: None
    """Whom a version would have acted upon, of each row of the table that the judged version answered; None where it
    cannot be told."""

    @property
    def own(self) -> VersionOutcomes | None:
        """What became of those whom the version predicted that the window is judged by."""
        return next((found for found in self.outcomes.versions if found.version == self.drift.version), None)

    @property
    def before(self) -> VersionOutcomes | None:
        """That of the version before it: of the older ones, the one that answered last before it first did."""
        version, made = self.table["version"], self.table["time"]
        earlier = made < made[version == self.drift.version].min()
        older = [found for found in self.outcomes.versions if _number(found.version) < _number(self.drift.version)]

        def answered_last(found: VersionOutcomes) -> tuple[bool, pd.Timestamp, tuple[int, str]]:
            last = made[earlier & (version == found.version)].max()
            return pd.notna(last), last if pd.notna(last) else made.min(), _number(found.version)

        return max(older, key=answered_last, default=None)

    def followed(self, version: str, since: datetime) -> Followed:
        """What was observed and expected of a version's predictions since a moment."""
        chosen = (self.table["version"] == version).to_numpy()
        rows = self.table[chosen].assign(place=chosen.nonzero()[0])
        return followed(rows, self.outcomes, since)

    def weeks(self, version: str) -> list[Week]:
        """Who was at risk in each week, of a version's predictions that nobody acted upon."""
        return weeks_at_risk(self.table, self.outcomes, version)


@dataclass(frozen=True)
class Case:
    """A verdict on its way to be written down."""

    verdict: RemedyVerdict
    remedy: RemedyName
    sentence: str
    since: datetime | None = None
    worths: Sequence[Worth] = ()


def decide(evidence: Evidence) -> Remedy:
    """Give the verdict.

    Args:
        evidence: What `detect_drift` and `join_outcomes` found.
    """
    drift, own = evidence.drift, evidence.own
    alarm, segment = standing_alarm(own), standing_segment(own)
    weeks = evidence.weeks(drift.version)
    ranked = lost(weeks, evidence.run_length)
    release = since_taken_over(evidence)
    if drift.verdict == "broken data":
        case = Case("broken data", "repair", drift.sentence, _first(drift))
    elif evidence.skew.skewed:
        case = of_skew(evidence.skew)
    elif release is not None and release.is_worse:
        case = of_release(evidence, release)
    elif alarm is not None:
        case = of_alarm(evidence, alarm)
    elif ranked is not None:
        case = of_ranking(evidence, ranked)
    elif segment is not None:
        case = of_segment(evidence, segment)
    elif drift.verdict == "world moved":
        case = of_drift(evidence)
    elif drift.verdict == "undecided":
        case = Case("undecided", "nothing", drift.sentence)
    else:
        case = Case("keep", "nothing", _quiet(drift, own))
    return Remedy(
        verdict=case.verdict,
        remedy=case.remedy,
        sentence=f"{case.sentence} {drift.caller.sentence}" if drift.caller else case.sentence,
        since=case.since,
        reasons=reasons(evidence, ranked or measure(weeks), release),
        gains=[worth.gain() for worth in case.worths],
        currency=evidence.costs.currency if case.worths else "",
        adjustment=adjustment(
            next((worth for worth in case.worths if worth.remedy == case.remedy), None),
            drift.version,
            evidence.outcomes,
            evidence.by_costs,
        ),
        model=drift.model,
        version=drift.version,
        window=Span(start=drift.start, end=drift.end),
    )


def standing_alarm(found: VersionOutcomes | None) -> OutcomeAlarm | None:
    """A version's alarm, unless its chart has come back to zero since."""
    return found.alarm if found is not None and _stands(found.alarm, found.weeks[-1:]) else None


def standing_segment(found: VersionOutcomes | None) -> Segment | None:
    """Of a version's groups the one whose alarm stands, and whose events are farthest from what was expected."""
    standing = [item for item in found.segments if _stands(item.alarm, [item])] if found is not None else []
    return max(standing, key=lambda item: max(item.more, item.fewer), default=None)


def _stands(alarm: OutcomeAlarm | None, newest: Sequence[OutcomeWeek | Segment]) -> bool:
    return alarm is not None and any((item.more if alarm.direction == "more" else item.fewer) > 0 for item in newest)


def of_skew(skew: ServingSkew) -> Case:
    """What it means that features were served otherwise than they are computed for training."""
    since = min(item.since for item in skew.differences if item.feature in skew.skewed)
    return Case(
        "broken data",
        "repair",
        f"Broken data: {skew.sentence.rstrip('.')}: repair what fills the online store or what asks, and learn nothing "
        "from this window.",
        since,
    )


def since_taken_over(evidence: Evidence) -> Release | None:
    """The version beside the one before it, on its own predictions; None where that cannot be told."""
    before, version = evidence.before, evidence.drift.version
    acted = evidence.decisions(before.version) if before is not None else None
    if before is None or acted is None:
        return None
    found = evidence.followed(version, evidence.outcomes.start)
    return beside(found, acted[found.rows["place"]], version, before.version, evidence.costs)


def of_release(evidence: Evidence, release: Release) -> Case:
    """What it means that the version before would have been worth more: to roll back, or what pays beyond that."""
    what = f"The model is worse: {release.sentence}"
    found = evidence.followed(release.version, evidence.outcomes.start)
    worths = [release.worth, *_worths(evidence, found, release.since)]
    chosen = choose(worths)
    if chosen is None or chosen.remedy == "roll back":
        sentence = f"{what}: roll back to version {release.before}."
        return Case("model is worse", "roll back", sentence, release.since, worths)
    sentence = f"{what}: {TO_DO[chosen.remedy]} ({chosen.sentence})."
    return Case("model is worse", chosen.remedy, sentence, release.since, worths)


def of_alarm(evidence: Evidence, alarm: OutcomeAlarm) -> Case:
    """What an alarm about outcomes means."""
    drift, since = evidence.drift, alarm.since
    found = evidence.followed(drift.version, since)
    what = _off(evidence, alarm)
    acted = acted_upon(found.rows)
    others = found.of(~acted).ratio
    if alarm.direction == "fewer" and acted.any() and _as_foretold(others, evidence.ratio):
        return Case(
            "keep",
            "nothing",
            f"Keep: {what}, but only among those that were acted upon ({others.observed:,} of the others, and "
            f"{others.expected:,.1f} foretold): so it looks when actions work; leave a group alone to be certain.",
            since,
        )
    released = since_release(evidence, since, found.ratio)
    if released:
        return Case(
            "model is worse",
            "roll back",
            f"The model is worse: {what}; {released}: roll back to version {_before(evidence)}.",
            since,
        )
    moved = f", and with it moved {told(drifted)}" if (drifted := _drifted(drift)) else ""
    settled = settled_since(evidence.own.weeks if evidence.own is not None else [], alarm)
    worths: list[Worth] = []
    if settled > since:
        found_now = evidence.followed(drift.version, settled)
        now = found_now.ratio
        moved += f"; it wears off: {now.observed:,} times where {now.expected:,.1f}, since {settled:%Y-%m-%d}"
        # What pays is told of how things are now, where that is known.
        worths = _worths(evidence, found_now, settled)
    worths = worths or _worths(evidence, found, since)
    return _by_worth(evidence, "world moved", f"The world moved: {what}{moved}", since, worths, "retrain")


def of_segment(evidence: Evidence, segment: Segment) -> Case:
    """What it means that a group's outcomes are not as foretold, where those of all together are."""
    alarm = segment.alarm
    assert alarm is not None
    what = _off(evidence, alarm, f" for {segment.group}")
    worths = _worths(evidence, evidence.followed(evidence.drift.version, alarm.since), alarm.since)
    return _by_worth(evidence, "world moved", f"The world moved: {what}", alarm.since, worths, "retrain")


def since_release(evidence: Evidence, since: datetime, own: Ratio) -> str:
    """Whether the version before did better on the same days, or a decline began with the release; in words, or empty.

    On the same days two versions' events are one binomial count (`same_rate`).
    """
    version, before = evidence.own, evidence.before
    if version is None or before is None:
        return ""
    other = evidence.followed(before.version, since).ratio
    if min(other.expected, own.expected) >= FEWEST_EXPECTED:
        if same_rate(own, other) >= SIGNIFICANCE or abs(other.value - 1) >= abs(own.value - 1):
            return ""
        return (
            f"on the same days it came {other.observed:,} times where version {before.version} foretold "
            f"{other.expected:,.1f}"
        )
    first = next((week for week in version.weeks if week.expected > 0), None)
    if first is None or since < first.end - (version.weeks[-1].end - version.weeks[-2].end) or since >= first.end:
        return ""
    return "it began with its release" if standing_alarm(before) is None and before.complete else ""


def of_ranking(evidence: Evidence, ranked: Ranking) -> Case:
    """What a ranking means that is worse than its scores promise."""
    version, before, since = evidence.drift.version, evidence.before, ranked.since
    area = ranked.measured
    what = (
        f"The model is worse: ROC AUC of version {version} is {area.value:.3f} (95% {area.low:.3f} to {area.high:.3f}) "
        f"where its scores promise {ranked.expected:.3f}, of {ranked.events:,} events since {since:%Y-%m-%d}"
    )
    other = None
    if before is not None:
        other = measure([week for week in evidence.weeks(before.version) if week.start >= since])
    if before is not None and other is not None and other.measured.low > area.high:
        better = f"in the same weeks version {before.version} reached {other.measured.value:.3f}"
        return Case("model is worse", "roll back", f"{what}; {better}: roll back to version {before.version}.", since)
    worths = _worths(evidence, evidence.followed(version, since), since)
    gain = next((worth for worth in worths if worth.remedy == "retrain"), None)
    told_gain = f" ({gain.sentence})" if gain else ""
    return Case("model is worse", "retrain", f"{what}: retrain{told_gain}.", since, worths)


def of_drift(evidence: Evidence) -> Case:
    """What features mean that moved while outcomes do not alarm."""
    drift, since = evidence.drift, _first(evidence.drift)
    moved = f"The world moved: {told(_drifted(drift))}"
    begun = since or drift.start
    found = evidence.followed(drift.version, begun)
    worths = _worths(evidence, found, begun)
    chosen = choose(worths)
    if chosen is None and _as_foretold(found.ratio, evidence.ratio):
        ratio = found.ratio
        return Case(
            "world moved",
            "nothing",
            f"{moved}; {evidence.label} came {ratio.observed:,} times since, and {ratio.expected:,.1f} were foretold: "
            "the model holds, and nothing is to do.",
            since,
            worths,
        )
    fallback: RemedyName = "retrain" if drift.decision == "retrain" else "nothing"
    return _by_worth(evidence, "world moved", moved, since, worths, fallback)


def _by_worth(
    evidence: Evidence,
    verdict: RemedyVerdict,
    what: str,
    since: datetime | None,
    worths: Sequence[Worth],
    fallback: RemedyName,
) -> Case:
    """The remedy that pays; where none is shown to, another, unless even the best would surely have lost.

    While no label of a date since the change is known there is nothing to train from: of what needs no training the
    best is done meanwhile, where it pays.
    """
    chosen = choose(worths)
    waits = ""
    if chosen is not None and chosen.fit is None and since and not labels_known(since, evidence.outcomes):
        meanwhile = choose([worth for worth in worths if worth.fit is not None]) if evidence.by_costs else None
        if meanwhile is not None:
            waits = f"; a retraining, worth {chosen.metric.value:+,.0f}, waits for labels"
            chosen = meanwhile
    if chosen is not None:
        told_worth = f"{TO_DO[chosen.remedy]} ({chosen.sentence}{waits})"
        return Case(verdict, chosen.remedy, f"{what}: {told_worth}.", since, worths)
    tried = {worth.remedy for worth in worths}
    if "retrain" in tried:
        best = max(worths, key=lambda worth: worth.metric.value)
        if fallback == "retrain" and best.metric.high > 0:
            # A training learns from more than these rows, and what comes of it has to be worth it: let it try.
            what = f"{what}: retrain; that it pays is not shown so far (at best {best.sentence})"
            return Case(verdict, "retrain", f"{what}, and a candidate has to show it.", since, worths)
        return Case(
            verdict, "nothing", f"{what}: no remedy would have paid so far (at best {best.sentence}).", since, worths
        )
    if fallback == "nothing":
        return Case(
            verdict, "nothing", f"{what}: the score is where it was, so wait for what outcomes say.", since, worths
        )
    return Case(verdict, fallback, f"{what}: {fallback}; what it is worth, outcomes do not say yet.", since, worths)


def reasons(evidence: Evidence, ranked: Ranking | None, release: Release | None) -> list[Reason]:
    """All that was looked at, in sentences."""
    drift, found = evidence.drift, []
    found.append(Reason(source="drift", sentence=drift.sentence, columns=drift.drifted))
    if drift.caller is not None:
        found.append(Reason(source="caller", sentence=drift.caller.sentence))
    found.append(Reason(source="skew", sentence=evidence.skew.sentence, columns=evidence.skew.skewed))
    found.append(Reason(source="outcomes", sentence=evidence.outcomes.sentence))
    if release is not None:
        found.append(Reason(source="release", sentence=release.told))
    if ranked is not None:
        found.append(
            Reason(
                source="performance",
                sentence=f"ROC AUC {ranked.measured.value:.3f} (95% {ranked.measured.low:.3f} to "
                f"{ranked.measured.high:.3f}) of {ranked.events:,} events since {ranked.since:%Y-%m-%d}, among those "
                f"that nobody acted upon; {ranked.expected:.3f} is what the scores promise.",
            )
        )
    return found


def _off(evidence: Evidence, alarm: OutcomeAlarm, of: str = "") -> str:
    """How far outcomes are from what was foretold, and since when."""
    return (
        f"{evidence.label} came {alarm.observed:,} times where version {evidence.drift.version} foretold "
        f"{alarm.expected:,.1f}{of}, since {alarm.since:%Y-%m-%d}"
    )


def _worths(evidence: Evidence, found: Followed, since: datetime) -> list[Worth]:
    logged = evidence.features()
    features = None if logged is None else logged.iloc[found.rows["place"]].reset_index(drop=True)
    return worth_of_remedies(found, evidence.costs, features, evidence.seed, since)


def _as_foretold(ratio: Ratio, limit: float) -> bool:
    """Whether outcomes are known well enough, and are what was foretold."""
    return ratio.expected > 0 and ratio.low > 1 / limit and ratio.high < limit


def _quiet(drift: Drift, own: VersionOutcomes | None) -> str:
    known = own.complete if own is not None else 0
    foretold = f"and {known:,} outcomes are as foretold" if known else "and no outcome is known yet"
    return f"{drift.sentence.rstrip('.')}, {foretold}."


def _drifted(drift: Drift) -> list[Finding]:
    return [item for item in drift.columns if item.drifted]


def _first(drift: Drift) -> datetime | None:
    return min((item.since for item in drift.columns if item.drifted and item.since is not None), default=None)


def _before(evidence: Evidence) -> str:
    return evidence.before.version if evidence.before is not None else ""


def _number(version: str) -> tuple[int, str]:
    return len(version), version
