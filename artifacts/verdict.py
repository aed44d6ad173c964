"""Verdict of the quality gate on a candidate, with every rule and the comparison with the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.config.gate import Bound, Compared


class Judgement(Part):
    """One rule of the gate."""

    metric: str
    """The metric's full name, `dimension.metric[.slice]`."""
    value: float | None = None
    """What was measured; null where nothing was."""
    low: float | None = None
    """Lower end of its 95% interval."""
    high: float | None = None
    """Upper end of its 95% interval."""
    rows: int | None = None
    """Rows behind the value."""
    min: float | None = None
    """The smallest value that passes."""
    max: float | None = None
    """The largest value that passes."""
    bound: Bound
    """Whether the value itself or the worse end of its interval has to meet the threshold."""
    waived: bool = False
    """Whether it lets the others decide: nothing was measured, or the project says why a finding is none."""
    set_aside: bool = False
    """Whether it is missed on labelled rows that cannot decide it: the candidate is adjusted by newer outcomes."""
    passed: bool
    """Whether the rule stands in the way of an approval: it does not when it is met, waived or set aside."""
    margin: float | None = None
    """How far the judged value is inside the threshold, in the metric's unit; negative outside."""
    why: str = ""
    """The reason for the rule, as the project gives it."""
    sentence: str
    """The outcome in plain words."""


class Window(Part):
    """Rows that both models were compared on."""

    name: Literal["newest", "champion", "followed"]
    """`newest`: the candidate's test snapshots; `champion`: those that the champion was judged by; `followed`:
    predictions whose outcomes monitoring followed."""
    snapshots: list[str]
    """Their dates, ISO; of `followed` the first and the last day."""
    rows: int
    """How many."""
    positives: int
    """How many of them with the event."""
    entities: int
    """How many entities they are of."""
    learned_from: bool
    """Whether the candidate saw these rows and their labels in training or calibration: a lead on them proves little, a
    loss all the more."""


class Comparison(Part):
    """One metric of both models on the same rows."""

    metric: Compared
    """What was compared."""
    window: Literal["newest", "champion", "followed"]
    """On which rows."""
    demand: Literal["superiority", "non_inferiority"]
    """Whether the candidate has to be better, or not worse."""
    margin: float
    """The lower end of `difference` must be above this for superiority, above its negative for non-inferiority."""
    champion: float | None = None
    """The champion's value; null where it is undefined, or monitoring measured the difference alone."""
    candidate: float | None = None
    """The candidate's value; null likewise."""
    difference: float | None = None
    """How much better the candidate is, whichever direction is better; negative where it is worse."""
    low: float | None = None
    """Lower end of the difference's 95% interval."""
    high: float | None = None
    """Upper end of it."""
    method: Literal["DeLong", "paired bootstrap", "cross-fitted"]
    """How the interval was made; each takes all rows of an entity together. `cross-fitted`: by monitoring, fitted and
    tried on different entities."""
    passed: bool
    """Whether the demand is met."""
    sentence: str
    """The outcome in plain words."""


class ScorePair(Part):
    """Scores of two models at the same ranks."""

    champion: float
    """The champion's, 0 to 1."""
    candidate: float
    """The candidate's, 0 to 1."""


class ChampionOutcome(Part):
    """The comparison with the model in production."""

    version: str
    """The champion's version in the registry."""
    compared: bool
    """Whether it could be asked; else `sentence` says why not, and `passed` follows `gate.champion.unreachable`."""
    passed: bool
    """Whether every comparison is."""
    sentence: str
    """The outcome in plain words."""
    notes: list[str] = Field(default=[])
    """What a reader must know of the rows: what was seen before, what could not be made any more."""
    windows: list[Window] = Field(default=[])
    """The rows of the comparisons."""
    comparisons: list[Comparison] = Field(default=[])
    """Superiority first."""
    scores: list[ScorePair] = Field(default=[])
    """What both give to the newest rows, each one's sorted and in the means of equal groups, from the lowest on: by
    this a release foresees how the candidate's scores will lie, and be spread, beside the champion's."""


class Verdict(Document):
    """What `decide_promotion` decided of a candidate, and why. It travels with an approved model as `verdict.json`."""

    FILE = "verdict.json"
    WRITER = "decide_promotion"

    decision: Literal["approved", "rejected"]
    """`approved`: may be released; `rejected`: what serves goes on serving."""
    model: str
    """The model's name in the registry."""
    run_id: str
    """The candidate's run in MLflow."""
    asked_by: str = ""
    """The run of monitoring that asked for this training; empty where a person or a schedule started it."""
    decided_at: str
    """When, ISO, UTC."""
    feature_version: str
    """Of the candidate's features."""
    snapshots: list[str]
    """Dates of the test snapshots it was judged by, ISO."""
    rules: list[Judgement] = Field(min_length=1)
    """Every rule of the gate, in the project's order."""
    champion_version: str | None = None
    """The version that was in production when this was decided, and that promotion must find there still; null where
    nothing was in production yet."""
    champion: ChampionOutcome | None = None
    """The comparison with it; null where nothing was in production yet."""
    remarks: list[str] = Field(default=[])
    """What decided nothing and nobody should miss: how a logistic regression does, costs that nobody set."""
    sentences: list[str] = Field(min_length=1)
    """The verdict in plain words, the decision first, then what was missed."""

    @property
    def told_beside(self) -> list[str]:
        """What people should see though nothing was missed: what was waived with a reason or set aside, and remarks."""
        told = [rule.sentence for rule in self.rules if rule.set_aside or (rule.waived and rule.value is not None)]
        return [*told, *self.remarks]


class Rejection(Document):
    """What a rejected candidate leaves in place of a model."""

    FILE = "rejected.json"
    WRITER = "decide_promotion"

    decision: Literal["rejected"] = "rejected"
    """There is no other."""
    model: str
    """The model's name in the registry."""
    sentences: list[str]
    """The verdict in plain words."""
