"""Cases of a window: what each finding means, the remedy that pays, and both in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from kfp_lifecycle.artifacts.drift import Drift, Finding, told
from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, OutcomeWeek, Segment, VersionOutcomes
from kfp_lifecycle.artifacts.remedy import RemedyName, RemedyVerdict
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.decide_remedy.adjusting import (
    SIGNIFICANCE,
    alarm_after_adjustment,
    labels_known,
    settled_since,
)
from kfp_lifecycle.components.monitoring.decide_remedy.evidence import Evidence
from kfp_lifecycle.components.monitoring.decide_remedy.followed import Followed, Ratio, acted_upon, same_rate
from kfp_lifecycle.components.monitoring.decide_remedy.predecessor import Release
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Ranking, measure
from kfp_lifecycle.components.monitoring.decide_remedy.worth import Worth, choose, worth_of_remedies

# Two versions are told apart where either's events were expected at least so often.
FEWEST_EXPECTED = 5.0
TO_DO: Mapping[RemedyName, str] = {
    "recalibrate": "recalibrate the scores",
    "set the threshold": "set the decision's threshold anew",
    "retrain": "retrain",
}


@dataclass(frozen=True)
class Case:
    """A verdict on its way to be written down."""

    verdict: RemedyVerdict
    remedy: RemedyName
    sentence: str
    since: datetime | None = None
    worths: Sequence[Worth] = ()


def standing_alarm(found: VersionOutcomes | None) -> OutcomeAlarm | None:
    """A version's alarm, unless its chart has come back to zero since."""
    return found.alarm if found is not None and stands(found.alarm, found.weeks[-1:]) else None


def stands(alarm: OutcomeAlarm | None, newest: Sequence[OutcomeWeek | Segment]) -> bool:
    """Whether a chart has not come back to zero since its alarm."""
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


def of_adjusted(evidence: Evidence) -> Case | None:
    """What it means that a version which monitoring adjusted is off again: it is adjusted again where that gains; None
    where it is not off, or nothing is gained so far."""
    alarm = alarm_after_adjustment(evidence.own, evidence.outcomes) if evidence.own is not None else None
    case = of_alarm(evidence, alarm) if alarm is not None else None
    return case if case is not None and case.remedy in ("recalibrate", "set the threshold", "roll back") else None


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
    # Of a version that hardly answered nobody knows that it did better.
    known = before.complete and sum(week.expected for week in before.weeks) >= FEWEST_EXPECTED
    return "it began with its release" if known and standing_alarm(before) is None else ""


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
    drift, since = evidence.drift, first_drift(evidence.drift)
    moved = f"The world moved: {told(_drifted(drift))}"
    begun = since or drift.start
    found = evidence.followed(drift.version, begun)
    worths = _worths(evidence, found, begun)
    holds = _as_foretold(found.ratio, evidence.ratio)
    if holds:
        # Then the level is no reason to release another version, however little would be gained by it.
        worths = [worth for worth in worths if worth.fit is None]
    if holds and choose(worths) is None:
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

    While no label of a date since the change is known there is nothing to train from. Of what needs no training the
    best is done meanwhile, where it pays; else scores that are off beyond chance are recalibrated, where that gains by
    what is known so far.
    """
    chosen = choose(worths)
    waits = ""
    fitted = [worth for worth in worths if worth.fit is not None]
    if not evidence.by_costs or since is None or labels_known(since, evidence.outcomes):
        fitted = []
    meanwhile = choose(fitted)
    if chosen is not None and chosen.fit is None and meanwhile is not None:
        waits = f"; a retraining, worth {chosen.metric.value:+,.0f}, waits for labels"
        chosen = meanwhile
    if chosen is not None:
        told_worth = f"{TO_DO[chosen.remedy]} ({chosen.sentence}{waits})"
        return Case(verdict, chosen.remedy, f"{what}: {told_worth}.", since, worths)
    level = next((worth for worth in fitted if worth.remedy == "recalibrate"), None)
    if level is not None and fallback == "retrain" and evidence.adjustment(level) is not None:
        what = f"{what}: recalibrate the scores, which are off beyond chance; that it pays is not shown so far"
        return Case(verdict, "recalibrate", f"{what} ({level.sentence}).", since, worths)
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


def _off(evidence: Evidence, alarm: OutcomeAlarm, of: str = "") -> str:
    """How far outcomes are from what was foretold, and since when."""
    return (
        f"{evidence.label} came {alarm.observed:,} times where version {evidence.drift.version} foretold "
        f"{alarm.expected:,.1f}{of}, since {alarm.since:%Y-%m-%d}"
    )


def _worths(evidence: Evidence, found: Followed, since: datetime) -> list[Worth]:
    features = evidence.features(found.rows["place"])
    if features is not None:
        # All remedies are held against each other on the same rows.
        found = found.of(found.rows["place"].isin(features.index).to_numpy(np.bool_))
        features = features.loc[found.rows["place"]].reset_index(drop=True)
    return worth_of_remedies(found, evidence.costs, features, evidence.seed, since)


def _as_foretold(ratio: Ratio, limit: float) -> bool:
    """Whether outcomes are known well enough, and are what was foretold."""
    return ratio.expected > 0 and ratio.low > 1 / limit and ratio.high < limit


def _drifted(drift: Drift) -> list[Finding]:
    return [item for item in drift.columns if item.drifted]


def first_drift(drift: Drift) -> datetime | None:
    """When the first column began to drift; None where none did, or it is not known."""
    return min((item.since for item in drift.columns if item.drifted and item.since is not None), default=None)


def _before(evidence: Evidence) -> str:
    return evidence.before.version if evidence.before is not None else ""
