"""Decision of a window: one verdict of all that was found, the remedy, and both in a sentence.

The order is that of what forbids what: broken data is repaired and never learned from, whatever else was seen; then
outcomes, which say what happened; then features, which say what may.
"""

from __future__ import annotations

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.outcomes import Segment, VersionOutcomes
from kfp_lifecycle.artifacts.remedy import Reason, Remedy, Span
from kfp_lifecycle.components.monitoring.decide_remedy.cases import (
    Case,
    first_drift,
    of_adjusted,
    of_alarm,
    of_drift,
    of_ranking,
    of_release,
    of_segment,
    of_skew,
    standing_alarm,
    stands,
)
from kfp_lifecycle.components.monitoring.decide_remedy.evidence import Evidence
from kfp_lifecycle.components.monitoring.decide_remedy.predecessor import Release, beside
from kfp_lifecycle.components.monitoring.decide_remedy.ranking import Ranking, lost, measure


def decide(evidence: Evidence) -> Remedy:
    """Give the verdict.

    Args:
        evidence: What `detect_drift` and `join_outcomes` found.
    """
    drift, own = evidence.drift, evidence.own
    alarm, segment = standing_alarm(own), standing_segment(own)
    again = of_adjusted(evidence) if alarm is None and own is not None and evidence.adjusted() else None
    weeks = evidence.weeks(drift.version)
    ranked = lost(weeks, evidence.run_length)
    release = since_taken_over(evidence)
    if drift.verdict == "broken data":
        case = Case("broken data", "repair", drift.sentence, first_drift(drift))
    elif evidence.skew.skewed:
        case = of_skew(evidence.skew)
    elif release is not None and release.is_worse:
        case = of_release(evidence, release)
    elif alarm is not None:
        case = of_alarm(evidence, alarm)
    elif again is not None:
        case = again
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
        adjustment=evidence.adjustment(next((worth for worth in case.worths if worth.remedy == case.remedy), None)),
        model=drift.model,
        version=drift.version,
        window=Span(start=drift.start, end=drift.end),
    )


def standing_segment(found: VersionOutcomes | None) -> Segment | None:
    """Of a version's groups the one whose alarm stands, and whose events are farthest from what was expected."""
    standing = [item for item in found.segments if stands(item.alarm, [item])] if found is not None else []
    return max(standing, key=lambda item: max(item.more, item.fewer), default=None)


def since_taken_over(evidence: Evidence) -> Release | None:
    """The version beside the one before it, on its own predictions; None where that cannot be told."""
    before, version = evidence.before, evidence.drift.version
    acted = evidence.decisions(before.version) if before is not None else None
    if before is None or acted is None:
        return None
    found = evidence.followed(version, evidence.outcomes.start)
    return beside(found, acted[found.rows["place"]], version, before.version, evidence.costs)


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


def _quiet(drift: Drift, own: VersionOutcomes | None) -> str:
    weeks = own.weeks if own is not None else []
    came, expected = sum(week.observed for week in weeks), sum(week.expected for week in weeks)
    if own is not None and own.complete:
        outcomes = f"{own.complete:,} outcomes are as foretold"
    elif expected:
        outcomes = f"so far {came:,} events came where {expected:,.1f} were foretold"
    else:
        outcomes = "no outcome is known yet"
    return f"{drift.sentence.rstrip('.')}, and {outcomes}."
