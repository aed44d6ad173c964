"""Configuration of the quality gate: what a candidate must meet to be approved."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kfp_lifecycle.config.section import Section, text


class Bound(StrEnum):
    """What of a measured value has to meet the threshold."""

    estimate = "estimate"
    confidence = "confidence"


class Unmeasured(StrEnum):
    """What becomes of a rule whose metric the evaluation could not measure."""

    fail = "fail"
    waive = "waive"


class Approval(StrEnum):
    """Whether a person has to let an approved candidate be released."""

    none = "none"
    required = "required"


class Unreachable(StrEnum):
    """What becomes of a candidate when there is a champion that cannot be compared with."""

    refuse = "refuse"
    judge_absolutely = "judge_absolutely"


Compared = Literal[
    "roc_auc",
    "average_precision",
    "brier_score",
    "log_loss",
    "expected_value_per_1000",
    "lift_at_10_percent",
    "accuracy",
    "precision",
    "recall",
    "f1",
]
NonInferiorityMargin = Annotated[float, Field(gt=0)]


class GateRule(Section):
    """One condition for approval."""

    metric: Annotated[
        str,
        text(
            r"^[a-z_]+\.[A-Za-z0-9_]+(\.[^\n]*[^\s])?$",
            "a metric is named as the evaluation does: DIMENSION.METRIC or DIMENSION.METRIC.SLICE, such as "
            "performance.roc_auc",
        ),
    ]
    """`dimension.metric` or `dimension.metric.slice`, as the evaluation names it, such as
    `fairness.demographic_parity_ratio.gender` or `performance.roc_auc.plan=pro`."""
    min: float | None = None
    """The smallest value that passes."""
    max: float | None = None
    """The largest value that passes."""
    bound: Bound = Bound.estimate
    """`estimate` compares the value itself, `confidence` the worse end of its 95% interval."""
    unmeasured: Unmeasured = Unmeasured.fail
    """Where the evaluation says that the metric is undefined, or its rows too few to judge: `fail` misses the rule,
    `waive` says so and lets the other rules decide. A metric that no evaluation knows always fails."""
    why: str = ""
    """The reason for the rule, shown in reports."""

    @model_validator(mode="after")
    def _has_a_threshold(self) -> GateRule:
        if self.min is None and self.max is None:
            raise ValueError(f"the gate rule for {self.metric} needs min, max or both")
        return self


def _usual_non_inferiority(told: dict[str, Any]) -> dict[Compared, float]:
    """What a candidate must not be worse in where nobody says it."""
    return {} if told.get("metric") == "expected_value_per_1000" else {"roc_auc": 0.02}


class Champion(Section):
    """The comparison with the model in production, both on the same rows. Each demand is on the worse end of the 95%
    interval of the lead, so that it is met by accident in at most one of forty cases."""

    metric: Compared = "roc_auc"
    """What the candidate has to be better in, on the newest snapshots with known labels. `expected_value_per_1000` is
    what its decisions are worth by `training.costs`, at its own threshold."""
    margin: float = Field(default=0.0, ge=0)
    """By how much at the least, in the metric's own unit."""
    non_inferiority: dict[Compared, NonInferiorityMargin] = Field(default_factory=_usual_non_inferiority)
    """What the candidate must not be worse in, and the loss that is still put up with, in the metric's own unit: on the
    newest snapshots, and on those that the champion was judged by. Without it `roc_auc: 0.02`; with `metric:
    expected_value_per_1000` nothing, since that counts every error by what it costs."""
    unreachable: Unreachable = Unreachable.refuse
    """Where the champion's files are damaged, or it was trained on feature definitions that cannot be used on today's
    tables: `refuse` rejects the candidate, `judge_absolutely` lets the rules alone decide, as for a first model. The
    verdict says so."""


Reason = Annotated[str, text(r"\S", "a waiver says why")]


class Gate(Section):
    """What a candidate must meet, all of it, to be approved."""

    rules: list[GateRule] = Field(min_length=1)
    """All must hold."""
    waivers: dict[str, Reason] = Field(default={})
    """Features that look as if they leaked the label and do not, by name, with the reason: how it is known when the
    prediction is made. Any other such feature refuses the candidate; the verdict repeats the reason."""
    champion: Champion = Champion()
    """And the candidate must be better than this."""
    approval: Approval = Approval.none
    """`required`: an approved candidate is registered, and nobody releases it before a person approved it
    (`lifecycle approve`); `none`: it is released at once."""
