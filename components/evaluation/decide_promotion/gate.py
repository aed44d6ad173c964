"""The gate: every rule of the project against what was measured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.evaluation.bootstrap import Metric
from project.gate import Bound, GateRule


@dataclass(frozen=True)
class Judgement:
    """One rule's outcome, as the verdict holds it.

    Attributes:
        margin: How far the judged value is inside the threshold, negative outside; None where nothing was measured.
        sentence: The outcome in plain words.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    at_least: float | None
    at_most: float | None
    bound: str
    passed: bool
    margin: float | None
    why: str
    sentence: str

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def judge(rule: GateRule, metrics: Mapping[str, Metric], notes: Sequence[str]) -> Judgement:
    """Judge one rule.

    Args:
        rule: A metric and its thresholds, which still pass when they are met exactly.
        metrics: What was measured, by full name.
        notes: Sentences of the evaluation; one that names an unmeasured metric is its reason.
    """
    measured = metrics.get(rule.metric)
    if measured is None:
        return _outcome(rule, None, False, None, _unmeasured(rule.metric, metrics, notes))
    confident = rule.bound is Bound.confidence
    demands = []
    if rule.at_least is not None:
        judged = measured.low if confident else measured.value
        demands.append((judged - rule.at_least, f"at least {number(rule.at_least)}", "lower"))
    if rule.at_most is not None:
        judged = measured.high if confident else measured.value
        demands.append((rule.at_most - judged, f"at most {number(rule.at_most)}", "upper"))
    margin, demand, end = min(demands)
    of_end = f" of the {end} end of the interval" if confident else ""
    outcome = f"passed with {number(margin)} to spare" if margin >= 0 else f"missed by {number(-margin)}"
    interval = f"(95% {number(measured.low)} to {number(measured.high)})"
    sentence = f"{rule.metric} is {number(measured.value)} {interval}; {demand} is required{of_end}: {outcome}."
    return _outcome(rule, measured, margin >= 0, margin, sentence)


def _outcome(rule: GateRule, measured: Metric | None, passed: bool, margin: float | None, sentence: str) -> Judgement:
    return Judgement(
        metric=rule.metric,
        value=measured.value if measured else None,
        low=measured.low if measured else None,
        high=measured.high if measured else None,
        at_least=rule.at_least,
        at_most=rule.at_most,
        bound=rule.bound.value,
        passed=passed,
        margin=margin,
        why=rule.why,
        sentence=sentence,
    )


def _unmeasured(name: str, metrics: Mapping[str, Metric], notes: Sequence[str]) -> str:
    sentence = f"{name} was not measured, and an unmeasured metric fails its rule."
    # A note names a metric in full, or a slice's column.
    reasons = [note for note in notes if note.startswith(f"{name} ")]
    if reasons:
        return f"{sentence} {reasons[0]}"
    close = difflib.get_close_matches(name, metrics, n=2, cutoff=0.7)
    return f"{sentence} Measured was {' and '.join(close)}." if close else sentence


def number(value: float) -> str:
    """A figure as people read it: four significant digits, thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
