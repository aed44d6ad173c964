"""Drift decision: how far production is from the training data, column by column, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.titles import title_of
from kfp_lifecycle.config.monitoring import DriftTest

# A move of the score that three digits do not show is none worth telling.
LEAST_MOVE = 0.0005
# A sentence names so many columns.
NAMED = 3
SCORE = "score"
"""How a finding calls the score; all other columns are features."""
Aspect = Literal["values", "missing", "new"]
Fault = Literal["", "missing", "constant", "unit", "swapped", "new categories"]
Verdict = Literal["keep", "undecided", "broken data", "world moved", "model worse"]
Decision = Literal["keep", "undecided", "repair", "recalibrate", "retrain", "roll back"]


class Finding(Part):
    """What the comparison of one column says."""

    column: str
    """The feature, or `score`."""
    title: str = ""
    """What people call it, where that is another name."""
    aspect: Aspect
    """`values`: the values that are there; `missing`: how many are not; `new`: how many the baseline does not know."""
    measure: str
    """What differs most: level, spread, a share."""
    test: str
    """The test behind the p-value."""
    p_value: float
    """Probability of a difference at least this large between two windows of an unchanged world."""
    corrected_p_value: float
    """The same, corrected by Holm for the number of comparisons."""
    effect: float
    """The difference in standard deviations of the baseline; of shares, Cohen's h."""
    distance: float | None
    """Evidently's distance of the column: Wasserstein's over the standard deviation for numbers, Jensen-Shannon's for
    categories; none where there are no values to compare, and for `missing` and `new`."""
    drifted: bool
    """Whether p-value and effect are beyond the rule's limits."""
    sentence: str
    """What changed, in words."""
    fault: Fault = ""
    """What is broken about the column where its values cannot be the world's doing; empty where nothing is."""
    since: datetime | None = None
    """Change point: the first prediction after it; the window's start where it lies before; none where none drifted."""
    moved_score: float | None = None
    """How far the mean score is from where it would be with the baseline's values in this column; none where it did
    not drift, or is the score itself."""

    @property
    def called(self) -> str:
        """The column as people call it."""
        return called(self.column, self.title)


class Bar(Part):
    """A bin of values or a category, before and after."""

    label: str
    """Where the bin begins, or what the category is called."""
    before: float
    """Share of the baseline's rows, in percent."""
    after: float
    """Share of the window's."""


class Picture(Part):
    """What a column was like before and after."""

    column: str
    """The feature, or `score`."""
    aspect: Aspect
    """Of the finding that it shows."""
    histogram: bool
    """Whether bars are the bins of a histogram, the last of which is its end and has no rows; else categories, those
    whose share changed most first."""
    bars: list[Bar]
    """In their order."""


class Weight(Part):
    """How much scores rest on a feature: its mean absolute contribution (SHAP value) as a share of all features'."""

    column: str
    """The feature's name."""
    title: str = ""
    """What people call it, where that is another name."""
    before: float
    """In the baseline's newest date, 0 to 1."""
    after: float
    """In the window."""

    @property
    def called(self) -> str:
        """The feature as people call it."""
        return called(self.column, self.title)


class Explanations(Part):
    """What scores rest on, before and after. It is told, and decides nothing."""

    distance: float
    """Total variation distance of the weights, 0 to 1."""
    usual: float | None
    """The largest such distance of an older date of the baseline; none where it has one date alone."""
    rows: int
    """Of the window that were explained."""
    weights: list[Weight]
    """Those that changed most first."""

    @property
    def sentence(self) -> str:
        """In words."""
        usual = "" if self.usual is None else f", where older dates of the baseline differ by up to {self.usual:.1%}"
        first = next(iter(self.weights), None)
        most = f"; most of all on {first.called}: {first.before:.1%} → {first.after:.1%}" if first else ""
        return f"Scores rest on other features by {self.distance:.1%}{usual}{most}."


class CallerLeftOut(Part):
    """Who would have decided alone, and does not."""

    caller: str
    """As the prediction log names it."""
    rows: int
    """How many of the predictions compared it asked for."""
    share: float
    """The same, 0 to 1."""
    sentence: str
    """Who, how much, and what its rows would have made of the verdict."""


class Compared(Part):
    """How many predictions there were."""

    window: int
    """In the window."""
    champion: int
    """Of these, by the champion."""
    compared: int
    """Of these, each entity once."""


class DriftRule(Part):
    """The limits of the rule, as `monitoring` sets them."""

    drift_rule: DriftTest
    """`monitoring.drift_rule`."""
    significance: float
    """`monitoring.significance`."""
    min_effect: float
    """`monitoring.min_effect`."""
    max_drifted_share: float
    """`monitoring.max_drifted_share`."""
    min_window: int
    """`monitoring.min_window`."""


class Drift(Document):
    """What `detect_drift` decided, and by what."""

    FILE = "drift.json"
    WRITER = "detect_drift"

    verdict: Verdict
    """What has happened."""
    decision: Decision
    """What to do about it; `undecided` where there are too few predictions."""
    sentence: str
    """Both, in words: which feature, since when, how much, how far it moved the score, and what to do."""
    model: str
    """Its name in the registry."""
    version: str
    """The champion's, whose training data is compared with."""
    start: datetime
    """Of the window; included."""
    end: datetime
    """Of the window; not included."""
    predictions: Compared
    """How many predictions there were, and how many were compared."""
    reference_rows: int
    """Of the baseline's newest date, which the window is compared with."""
    reference_dates: int
    """How many dates the baseline has; how they differ among themselves is what is usual."""
    rule: DriftRule
    """The bounds that decided."""
    drifted_share: float
    """Of the features, 0 to 1."""
    drifted: list[str]
    """Features, in the model's order."""
    columns: list[Finding]
    """The score first, then the features; none where too few predictions were there to compare."""
    mean_score: float | None = None
    """Of the predictions that were compared; none where there are none."""
    pictures: list[Picture] = Field(default=[])
    """Of the columns that drifted, those that moved the score most first; as many as a page shows."""
    explanations: Explanations | None = None
    """What scores rest on; none where too few predictions were compared, or the model brings nothing that explains."""
    caller: CallerLeftOut | None = None
    """Whose rows are in none of this, since they alone would have decided; none where nobody's would."""

    @property
    def drifted_called(self) -> list[str]:
        """Features that drifted, as people call them."""
        titles = {item.column: item.title for item in self.columns if item.title}
        return [title_of(name, titles) for name in self.drifted]

    @property
    def key_figure(self) -> str:
        """Drift in a few words."""
        if self.decision == "undecided":
            return f"{self.predictions.compared:,} predictions"
        return f"{len(self.drifted)} {'feature' if len(self.drifted) == 1 else 'features'} drifted"

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        return {
            "verdict": self.verdict,
            "decision": self.decision,
            "sentence": self.sentence,
            "drifted": self.drifted,
            "drifted_share": self.drifted_share,
            "predictions": self.predictions.model_dump(),
            "version": self.version,
            "caller": self.caller.model_dump() if self.caller else {},
            "summary": f"{self.sentence} {self.caller.sentence}" if self.caller else self.sentence,
        }


def called(column: str, title: str) -> str:
    """A column as people call it."""
    return title_of(column, {column: title} if title else {})


def by_weight(findings: Sequence[Finding]) -> list[Finding]:
    """What drifted, what moved the score most first."""
    drifted = [item for item in findings if item.drifted]
    return sorted(drifted, key=lambda item: (-bool(item.fault), -abs(item.moved_score or 0), -abs(item.effect)))


def told(findings: Sequence[Finding]) -> str:
    """Findings in words: which column, how much, since when, and how far it moved the score."""
    said = []
    for item in by_weight(findings)[:NAMED]:
        words = f"{item.called} {item.sentence}" if item.fault else f"{item.called} ({item.sentence})"
        if item.since is not None:
            words += f" since {item.since:%Y-%m-%d %H:%M} UTC"
        if item.moved_score is not None and abs(item.moved_score) >= LEAST_MOVE:
            words += f", which moved the mean score by {item.moved_score:+.3f}"
        said.append(words)
    others = len(findings) - len(said)
    return "; ".join([*said, *([f"{others} more"] if others else [])])
