"""Outcomes of predictions: what became of those who were predicted, and how good the predictions were."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.evaluation import Metric

Told = Literal["by the event", "by its absence", "at the horizon's end"]


class TimingPoint(Part):
    """How much of what happens within the horizon has happened by a part of it."""

    elapsed: float
    """Of the horizon, 0 to 1."""
    share: float
    """Of the events, 0 to 1."""


class OutcomeWeek(Part):
    """A week of one version's chart."""

    end: datetime
    """Not included; it is seven days long."""
    observed: int
    """Events."""
    expected: float
    """Events, by the scores and the time that had passed."""
    more: float
    """The CUSUM's side for more events than expected, at the week's end."""
    fewer: float
    """That for fewer."""


class OutcomeAlarm(Part):
    """Where a chart passed its threshold."""

    direction: Literal["more", "fewer"]
    """Than the scores foretell."""
    noticed: datetime
    """End of the week at which the chart passed its threshold."""
    since: datetime
    """Start of the first week of the change, as the chart estimates it."""
    observed: int
    """Events since then, up to the newest week."""
    expected: float
    """Events that the scores foretell in that time."""
    sentence: str
    """In words."""


class Segment(Part):
    """The chart of one group of a version's predictions, from its first week to its newest."""

    group: str
    """`column: value` of a sensitive column."""
    observed: int
    """Events."""
    expected: float
    """Events, by the scores and the time that had passed."""
    more: float
    """The CUSUM's side for more events than expected, at the newest week's end."""
    fewer: float
    """That for fewer."""
    alarm: OutcomeAlarm | None = None
    """The first one; null where there is none. Its threshold is higher, by the number of groups that are charted."""


class Measured(Part):
    """How good predictions were, where the whole horizon has passed."""

    group: str = ""
    """`column: value` of a sensitive column; empty for all."""
    rows: int
    """Predictions whose outcome is known."""
    events: int
    """Of these, with the label 1."""
    metrics: dict[str, Metric]
    """`roc_auc`, `log_loss`, and `observed_over_expected` (1 is calibrated), each with its 95% interval; none where
    there are too few of either outcome."""


class Estimate(Part):
    """How good predictions are whose outcome is not known yet, from their scores alone (CBPE).

    It holds where scores are calibrated and what they mean has not changed: a label that follows features otherwise
    than before is not seen.
    """

    rows: int
    """Predictions whose outcome is not known yet."""
    metrics: dict[str, Metric]
    """`roc_auc`, `log_loss`, `precision` and `recall` at the version's threshold, each with the interval that 95% of
    such samples would be measured in; one that is undefined is absent."""
    judged_rows: int
    """Predictions whose outcome is known by now, which the estimate is held against."""
    errors: dict[str, float]
    """Measured on these less estimated from their scores: what the estimate was wrong by. None where too few are
    known."""


class BusinessWeek(Part):
    """A business metric of the predictions of one week."""

    end: datetime
    """Not included; it is seven days long."""
    rows: int
    """Predictions that counted."""
    value: float
    """The mean over these."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""


class BusinessOutcome(Part):
    """A business metric of one version: a mean over predictions."""

    name: str
    """As `monitoring.business` calls it, or a default's."""
    title: str
    """In words."""
    unit: Literal["money", "share", "number"]
    """`money` is in the currency of `training.costs`."""
    per: int
    """Predictions that it is told for."""
    value: Metric | None
    """With its 95% interval, by drawing whole entities; null where no prediction counts."""
    total: float
    """Sum over all predictions that counted."""
    weeks: list[BusinessWeek]
    """By the week of the prediction, oldest first; those with too few are left out."""


class TreatmentEffect(Part):
    """What acting changed: of those whose score says to act, who was acted upon beside who was held out."""

    treated: int
    """Predictions that were acted upon, and whose horizon has passed."""
    held_out: int
    """Likewise, predictions that said to act and were held out."""
    bands: int
    """Score bands that both are compared in."""
    prevented: Metric
    """Share of events that acting prevented, of the acted upon: the rate among the held out of the same score band less
    the rate among the acted upon; 95% interval."""
    value_per_1000: Metric
    """What acting on 1,000 was worth: what it prevented times `saved`, less `action`."""


class VersionOutcomes(Part):
    """What became of those whom one version predicted."""

    version: str
    """The model's version."""
    spells: int
    """Predictions that are followed: of an entity one for each horizon."""
    unknown: int
    """Of these, about entities that the label query did not know at the beginning of that day."""
    complete: int
    """Of those known, predictions whose horizon has passed."""
    weeks: list[OutcomeWeek]
    """The chart, oldest first."""
    alarm: OutcomeAlarm | None
    """The first one in these weeks; null where there is none."""
    segments: list[Segment] = Field(default=[])
    """The charts of groups that are large enough."""
    performance: list[Measured]
    """All first, then the groups that are large enough."""
    held_out: int = 0
    """Of the predictions that are followed, those of entities that are held out: nobody acts upon them."""
    judged_on: Literal["all", "hold-out"] = "all"
    """Whose outcomes `performance` is measured on."""
    estimate: Estimate | None = None
    """Performance before outcomes; null where every outcome is known."""
    business: list[BusinessOutcome] = Field(default=[])
    """What the predictions were worth."""
    effect: TreatmentEffect | None = None
    """What acting changed; null where it cannot be known."""

    @property
    def alarms(self) -> list[OutcomeAlarm]:
        """The version's own, which says more than those of its groups do; without it, these."""
        if self.alarm is not None:
            return [self.alarm]
        return [segment.alarm for segment in self.segments if segment.alarm is not None]


class Outcomes(Document):
    """The outcomes that are known by a moment. Beside it is `outcomes.parquet`."""

    FILE = "outcomes.json"
    WRITER = "join_outcomes"
    TABLE: ClassVar[str] = "outcomes.parquet"

    model: str
    """Its name in the registry."""
    start: datetime
    """Of the predictions that are followed; included."""
    until: datetime
    """What is known of outcomes is known by then: the midnight, UTC, before the end of the window or of the data."""
    horizon_days: int
    """Of the label; 0 where it is not of a later moment, and nothing is followed."""
    told: Told
    """What settles an outcome before its horizon has passed: an event that makes the label 1, one that makes it 0, or
    nothing."""
    timing: list[TimingPoint]
    """What the expected events of a week are by."""
    timing_events: int
    """Past events that the timing is estimated from; 0 where there were too few, and events are taken to be even."""
    ratio: float
    """`monitoring.outcome_ratio`."""
    threshold: float
    """Of the chart, by `monitoring.outcome_run_length`."""
    predictions: int
    """Answers in that time."""
    without_entity: int
    """Of these, those that name no entity: nobody can know what became of them."""
    currency: str = "USD"
    """Of money."""
    versions: list[VersionOutcomes]
    """By their number."""
    notes: list[str] = Field(default=[])
    """What a reader must know, in sentences."""
    sentence: str
    """What follows."""

    @property
    def alarms(self) -> list[OutcomeAlarm]:
        """Those of all versions; of a version without, those of its groups."""
        return [alarm for found in self.versions for alarm in found.alarms]

    def metadata(self) -> dict[str, Any]:
        """What a person would ask first."""
        known = sum(found.complete for found in self.versions)
        quiet = f"{known:,} outcomes known, as foretold" if known else "no outcome is known yet"
        return {
            "model": self.model,
            "until": self.until.isoformat(timespec="seconds"),
            "sentence": self.sentence,
            "alarms": [alarm.sentence for alarm in self.alarms],
            "notes": self.notes,
            "versions": {found.version: found.complete for found in self.versions},
            "summary": self.alarms[0].sentence if self.alarms else quiet,
        }
