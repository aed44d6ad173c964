"""Quality gate: every rule of the project against what was measured."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from kfp_lifecycle.artifacts.evaluation import Metric, Suspect
from kfp_lifecycle.artifacts.verdict import Judgement
from kfp_lifecycle.config.gate import Bound, GateRule, Unmeasured


def judge(rule: GateRule, metrics: Mapping[str, Metric], notes: Sequence[str]) -> Judgement:
    """Judge one rule.

    Args:
        rule: A metric and its thresholds, which still pass when they are met exactly.
        metrics: What was measured, by full name.
        notes: Sentences of the evaluation; those that speak of an unmeasured metric are its reason.
    """
    measured = metrics.get(rule.metric)
    if measured is None:
        return _unmeasured(rule, metrics, notes)
    confident = rule.bound is Bound.confidence
    demands = []
    if rule.min is not None:
        judged = measured.low if confident else measured.value
        demands.append((judged - rule.min, f"at least {number(rule.min)}", "lower"))
    if rule.max is not None:
        judged = measured.high if confident else measured.value
        demands.append((rule.max - judged, f"at most {number(rule.max)}", "upper"))
    margin, demand, end = min(demands)
    of_end = f" of the {end} end of the interval" if confident else ""
    outcome = f"passed with {number(margin)} to spare" if margin >= 0 else f"missed by {number(-margin)}"
    interval = f"(95% {number(measured.low)} to {number(measured.high)})"
    return Judgement(
        metric=rule.metric,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        rows=measured.rows,
        min=rule.min,
        max=rule.max,
        bound=rule.bound,
        passed=margin >= 0,
        margin=margin,
        why=rule.why,
        sentence=f"{rule.metric} is {number(measured.value)} {interval}; {demand} is required{of_end}: {outcome}.",
    )


def judge_suspect(suspect: Suspect, waivers: Mapping[str, str]) -> Judgement:
    """Judge a feature that may leak the label: it is refused, unless the project says why it is no leak.

    Args:
        suspect: What the evaluation found.
        waivers: Reasons by feature (`gate.waivers`).
    """
    reason = waivers.get(suspect.feature)
    if reason is None:
        said = f"Where it is known, say how: gate.waivers: {{{suspect.feature}: REASON}}."
    else:
        said = f"The finding is waived (gate.waivers): {reason}"
    measured = suspect.roc_auc
    return Judgement(
        metric=f"leakage.roc_auc_alone.{suspect.feature}",
        value=measured.value,
        low=measured.low,
        high=measured.high,
        rows=measured.rows,
        max=suspect.others,
        bound=Bound.estimate,
        waived=reason is not None,
        passed=reason is not None,
        margin=suspect.others - measured.value,
        why=reason or "a feature alone ranks no better than all the others together",
        sentence=f"{suspect.sentence} {said}",
    )


def _unmeasured(rule: GateRule, metrics: Mapping[str, Metric], notes: Sequence[str]) -> Judgement:
    reasons = _reasons(rule.metric, metrics, notes)
    waived = bool(reasons) and rule.unmeasured is Unmeasured.waive
    if waived:
        said = ["The rule is waived (unmeasured: waive): the others decide."]
    elif reasons:
        said = ["What was not measured is not met."]
    else:
        said = ["No evaluation measures it, so that its rule cannot be met.", _nearest(rule.metric, metrics)]
    return Judgement(
        metric=rule.metric,
        min=rule.min,
        max=rule.max,
        bound=rule.bound,
        waived=waived,
        passed=waived,
        why=rule.why,
        sentence=" ".join([f"{rule.metric} was not measured.", *reasons, *said]),
    )


def _reasons(name: str, metrics: Mapping[str, Metric], notes: Sequence[str]) -> list[str]:
    """Why a known metric was not measured: the notes that name it in full or its slice, or that a slice is missing."""
    full = [note for note in notes if _names(note, name)]
    dimension, _, rest = name.partition(".")
    metric, _, piece = rest.partition(".")
    if full or not piece:
        return full
    told = [note for note in notes if _names(note, piece)]
    if told:
        # A sentence about the dimension is nearer than one about a group of that column.
        return sorted(told, key=lambda note: dimension not in note.lower())[:2]
    column, equals, _ = piece.partition("=")
    if equals and any(other.startswith(f"{dimension}.{metric}.{column}=") for other in metrics):
        return [f"No slice {piece} of the test rows is large enough to judge."]
    return []


def _names(note: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", note) is not None


def _nearest(name: str, metrics: Mapping[str, Metric]) -> str:
    close = difflib.get_close_matches(name, metrics, n=2, cutoff=0.8)
    if close:
        return f"The nearest that was: {' and '.join(close)}."
    dimension = name.partition(".")[0]
    same = [other for other in metrics if other.startswith(f"{dimension}.")]
    if same:
        return f"Measured of {dimension}: {', '.join(same[:5])}{' and others' if len(same) > 5 else ''}."
    return f"Measured dimensions: {', '.join(dict.fromkeys(other.partition('.')[0] for other in metrics))}."


def number(value: float) -> str:
    """A figure as people read it: four significant digits, thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
