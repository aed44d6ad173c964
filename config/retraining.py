"""Configuration of retraining: whether what monitoring asks for is started by itself, and how often."""

from __future__ import annotations

from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from kfp_lifecycle.config.schedules import known_zone
from kfp_lifecycle.config.section import Section, text

RetrainingMode = Literal["automatic", "approval", "off"]
TimeOfDay = Annotated[str, text(r"^([01]\d|2[0-3]):[0-5]\d$", "a time of day looks like 22:30")]


class TrainingRemedy(StrEnum):
    """What a training run makes anew."""

    retrain = "retrain"
    """The whole model."""
    recalibrate = "recalibrate"
    """Calibration and threshold of the model in production, whose estimator stays."""
    threshold = "set the threshold"
    """The threshold of the model in production, whose scores stay."""


class QuietHours(Section):
    """A part of every day in which nothing is started."""

    begin: TimeOfDay
    """Its first minute, such as `"22:00"`."""
    end: TimeOfDay
    """The minute after its last one; earlier than `begin` where it spans midnight."""
    zone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    """The time zone that both are read in."""

    def holds(self, moment: datetime) -> bool:
        """Whether a moment is in it."""
        here = moment.astimezone(ZoneInfo(self.zone)).time()
        begin, end = time.fromisoformat(self.begin), time.fromisoformat(self.end)
        return begin <= here < end if begin <= end else here >= begin or here < end


class Retraining(Section):
    """What becomes of it when monitoring finds that the model should be trained anew."""

    mode: RetrainingMode = "automatic"
    """`automatic`: the training pipeline is started; `approval`: a person starts it, by `lifecycle trigger approve`;
    `off`: it is only told."""
    cool_down_days: float = Field(default=7, ge=0)
    """From the window that led to a retraining to one that may lead to the next."""
    budget_runs: PositiveInt = 4
    """At most so many retrainings …"""
    budget_days: PositiveFloat = 30
    """… in so many days."""
    quiet_hours: QuietHours | None = None
    """Nothing is started then; the next run of monitoring decides anew."""
    new_label_days: float = Field(default=14, ge=0)
    """A retraining whose candidate was rejected is repeated for the same reason only when the labels of so many more
    days are known."""
    current_days: PositiveFloat = 2
    """A window that ended longer ago starts nothing: what a backfill finds was so once."""
