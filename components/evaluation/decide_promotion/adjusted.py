"""Candidate that is a version in production, adjusted by outcomes that monitoring followed: what decides about it.

Its level was measured on events that are newer than any label, so that labelled rows cannot judge the level. Monitoring
has judged it: fitted and tried on different entities (cross-fitted), against the decisions that were made.
"""

from __future__ import annotations

import re

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.verdict import Comparison, Judgement, Window
from kfp_lifecycle.components.evaluation.decide_promotion.gate import number
from kfp_lifecycle.config.gate import Champion as Rule

# What says how high scores are, or what decisions at a threshold are worth: an adjustment moves it on older rows.
OF_THE_LEVEL = re.compile(
    r"calibration\.|robustness\.(worst_slice_calibration_gap|decisions_changed)"
    r"|performance\.(accuracy|precision|recall|f1|expected_value_per_1000|brier_score|log_loss)\b"
)


def set_aside(judged: Judgement, by: Adjustment) -> Judgement:
    """A rule that labelled rows cannot decide, where it is one; ranking, fairness, latency and all else are judged."""
    if judged.passed or not OF_THE_LEVEL.match(judged.metric):
        return judged
    said = judged.sentence.rstrip(".")
    return judged.model_copy(
        update={
            "passed": True,
            "set_aside": True,
            "sentence": f"{said}. Set aside: labelled rows are older than the outcomes that decide how high scores "
            f"have to be ({by.counted}).",
        }
    )


def compare_adjusted(by: Adjustment, rule: Rule) -> tuple[Comparison, Window]:
    """What monitoring measured, as the comparison with the champion.

    Args:
        by: What was measured; the champion is its version.
        rule: `gate.champion`, whose margin holds where its metric is `expected_value_per_1000`.
    """
    gain, margin = by.gain, rule.margin if rule.metric == "expected_value_per_1000" else 0.0
    by_level = gain.low <= margin == 0 and by.level_is_off
    passed = gain.low > margin or by_level
    required = f"more than {number(margin)} is required"
    if by_level:
        required = (
            f"the gain may be chance, but not that events come {by.hazard_ratio:.2f} times as often as that version "
            f"foretells (95% {by.hazard_ratio_low:.2f} to {by.hazard_ratio_high:.2f}), and this one is right about it"
        )
    sentence = (
        f"Its decisions would have been worth {gain.value:+,.0f} {by.currency} for 1,000 predictions beside those of "
        f"version {by.version} (95% {gain.low:+,.0f} to {gain.high:+,.0f}), on predictions that monitoring followed: "
        f"{by.counted}; {required}: {'passed' if passed else 'missed'}."
    )
    comparison = Comparison(
        metric="expected_value_per_1000",
        window="followed",
        demand="superiority",
        margin=margin,
        difference=gain.value,
        low=gain.low,
        high=gain.high,
        method="cross-fitted",
        passed=passed,
        sentence=sentence,
    )
    window = Window(
        name="followed",
        snapshots=[f"{by.since:%Y-%m-%d}", f"{by.until:%Y-%m-%d}"],
        rows=gain.rows,
        positives=by.observed,
        entities=by.entities,
        learned_from=True,
    )
    return comparison, window
