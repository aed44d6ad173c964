"""Verdict of a window: what has happened, what to do about it, and both in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kfp_lifecycle.artifacts.drift import NAMED, SCORE, Decision, Finding, Verdict, told
from kfp_lifecycle.config.monitoring import Monitoring


@dataclass(frozen=True)
class Judgement:
    """What a window's findings mean."""

    verdict: Verdict
    decision: Decision
    sentence: str


def decide(findings: Sequence[Finding], inputs: int, predictions: int, rule: Monitoring) -> Judgement:
    """What follows from the findings.

    A model that is worse cannot be seen here: it takes outcomes.

    Args:
        findings: Of all columns; empty where too few predictions were there to compare.
        inputs: How many inputs the model has.
        predictions: How many were compared.
        rule: `min_window` and `max_drifted_share`.
    """
    if predictions < rule.min_window:
        return Judgement(
            "undecided",
            "undecided",
            f"Undecided: {predictions:,} predictions are too few to decide anything; monitoring.min_window is "
            f"{rule.min_window:,}.",
        )
    broken = [item for item in findings if item.fault]
    if broken:
        columns = list(dict.fromkeys(item.called for item in broken if item.column != SCORE))
        others = " and others" if len(columns) > NAMED else ""
        sources = f"the source of {', '.join(columns[:NAMED])}{others}" if columns else "what serves the model"
        return Judgement(
            "broken data",
            "repair",
            f"Broken data: {told(broken)}. Repair {sources}; learn nothing from this window.",
        )
    drifted = [item for item in findings if item.drifted]
    names = drifted_inputs(drifted)
    if not drifted:
        return Judgement("keep", "keep", f"Keep: none of {inputs} features nor the score moved by more than is usual.")
    score = any(item.column == SCORE for item in drifted)
    moved = f"The world moved: {told(drifted)}"
    share = f"{len(names)} of {inputs} features drifted"
    if score or len(names) > rule.max_drifted_share * inputs:
        why = f"{share}, and the score did" if score else f"{share}, more than {rule.max_drifted_share:.0%}"
        return Judgement("world moved", "retrain", f"{moved}. {why}: retrain.")
    return Judgement(
        "world moved",
        "recalibrate",
        f"{moved}. {share}, and the score is where it was: look at calibration and threshold as outcomes come, and "
        "retrain if they fail.",
    )


def drifted_inputs(findings: Sequence[Finding]) -> list[str]:
    """Names of the inputs that drifted, each once."""
    return list(dict.fromkeys(item.column for item in findings if item.drifted and item.column != SCORE))
