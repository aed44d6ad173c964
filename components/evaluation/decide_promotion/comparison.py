"""Candidate against champion on the same rows."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.champion import Champion
from components.contract import ContractViolation
from components.evaluation.bootstrap import Bootstrap, interval
from components.evaluation.decide_promotion.gate import number
from components.evaluation.ranking import Performance
from components.training.dataset import Part, model_inputs
from components.training.scoring import ModelFolder
from project.gate import Champion as ChampionRule
from project.training import Costs

# The rule's names of metrics, as `Performance` calls them.
NAMES = {"expected_value": "expected_value_per_1000"}
LOWER_IS_BETTER = ("brier_score", "log_loss")


@dataclass(frozen=True)
class Comparison:
    """The outcome, as the verdict holds it.

    Attributes:
        version: Of the champion.
        metric: What was compared.
        champion, candidate: Their values on the test part; None where the champion could not be asked.
        difference: How much better the candidate is, negative where it is worse, with the 95% interval `low` to `high`.
        passed: Whether the whole interval is above the required margin, so that the lead is no accident of the sample.
        sentence: The outcome in plain words.
    """

    version: str
    metric: str
    champion: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    passed: bool
    sentence: str

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare(
    champion: Champion, candidate: ModelFolder, part: Part, bootstrap: Bootstrap, rule: ChampionRule, costs: Costs
) -> Comparison:
    """Score the same rows with both and compare, each replicate drawing the same entities for both.

    Args:
        champion: The model in production.
        candidate: The model that may take its place.
        part: Rows that both have never seen: the candidate's test part.
        bootstrap: Of the same rows.
        rule: Metric and margin.
        costs: What decisions are worth, for the expected value.
    """
    try:
        with tempfile.TemporaryDirectory() as place:
            champion.fetch(Path(place), "model.json")
            champion.fetch(Path(place), "model.onnx")
            incumbent = ModelFolder(Path(place))
            missing = [item.name for item in incumbent.features if item.name not in part.frame]
            if missing:
                raise ContractViolation(f"it reads {', '.join(missing)}, which the training set does not have")
            inputs = model_inputs(part.frame, incumbent.features, "test.parquet")
            incumbent_score = incumbent.scorer().score(inputs)
    except ContractViolation as violation:
        return Comparison(
            *(champion.version, rule.metric, None, None, None, None, None, False),
            f"The candidate could not be compared with version {champion.version}, which is in production: "
            f"{violation}. Nothing is promoted unseen: give the features back, or take the alias "
            "`champion` from the version.",
        )
    candidate_score = candidate.scorer().score(part.features)
    position = Performance.names.index(NAMES.get(rule.metric, rule.metric))
    sign = -1 if rule.metric in LOWER_IS_BETTER else 1
    theirs = Performance(part.label, incumbent_score, incumbent.threshold, costs)
    ours = Performance(part.label, candidate_score, candidate.threshold, costs)
    whole = np.ones((1, len(part.label)))
    before, now = float(theirs(whole)[0, position]), float(ours(whole)[0, position])
    replicates = sign * (bootstrap.replicate(ours) - bootstrap.replicate(theirs))[:, position]
    lead = interval(sign * (now - before), replicates, len(part.label))
    passed = lead.low > rule.margin
    return Comparison(
        champion.version,
        rule.metric,
        before,
        now,
        lead.value,
        lead.low,
        lead.high,
        passed,
        _sentence(champion.version, rule, before, now, lead.value, (lead.low, lead.high), passed),
    )


def _sentence(
    version: str,
    rule: ChampionRule,
    before: float,
    now: float,
    lead: float,
    bounds: tuple[float, float],
    passed: bool,
) -> str:
    figures = f"{rule.metric} is {number(now)}, that of version {version}, which is in production, {number(before)}"
    low, high = bounds
    if lead == low == high == 0:
        return f"{figures}: there is no difference and nothing to gain."
    lead_in_words = f"better by {number(lead)}" if lead >= 0 else f"worse by {number(-lead)}"
    better = f"the candidate is {lead_in_words} (95% of its lead {number(low)} to {number(high)})"
    required = f"more than {number(rule.margin)}" if rule.margin else "a lead that is no accident of the sample"
    return f"{figures}: {better}; {required} is required: {'passed' if passed else 'missed'}."
