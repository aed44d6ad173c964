"""Configuration of recurring runs: cron expressions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from kfp_lifecycle.config.cron import Cron
from kfp_lifecycle.config.section import Section

_CRON_FIELD = r"(\*|\d+(-\d+)?)(/\d+)?(,(\*|\d+(-\d+)?)(/\d+)?)*"


def _readable(expression: str) -> str:
    Cron.parse(expression)
    return expression


CronExpression = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_readable),
    # For editors; what is wrong with an expression is said by who reads it.
    Field(json_schema_extra={"pattern": rf"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$"}),
]


def known_zone(name: str) -> str:
    """A time zone's name, if there is such a zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("it is no time zone of the IANA database, such as UTC or Europe/Berlin") from error
    return name


class Schedule(Section):
    """When a pipeline recurs. One occurrence runs at a time; those that were missed are not made up for on a cluster,
    and on this machine once."""

    cron: CronExpression
    """Minute, hour, day of month, month, day of week."""
    zone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    """The time zone that `cron` is read in."""
    start: AwareDatetime | None = None
    """Nothing runs before it."""
    end: AwareDatetime | None = None
    """Nothing runs after it."""
    parameters: dict[str, str | bool | int | float] = Field(default={})
    """Parameters of the pipeline, the same at each occurrence."""

    def between(self, first: datetime, last: datetime) -> list[datetime]:
        """Moments of a window at which it is due, both ends included; `start` and `end` say nothing of it."""
        return list(Cron.parse(self.cron).between(first, last, ZoneInfo(self.zone)))

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start and self.end and self.end <= self.start:
            raise ValueError("its end has to be later than its start")
        return self


def _from_cron(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


# A cron expression alone is a schedule of defaults.
Recurrence = Annotated[Schedule, BeforeValidator(_from_cron)]


class Schedules(Section):
    """When pipelines recur: a cron expression of minute, hour, day of month, month and day of week in UTC, or a
    schedule with a time zone, a start and an end. `lifecycle schedule apply` brings it to a cluster, or to this
    machine's own timers.

    A pipeline without one is started by a person or another system.
    """

    materialization: Recurrence | None = Schedule(cron="0 5 * * *")
    """The online store is filled. It has to recur well within `features.freshness_days`, after which a feature that
    nobody confirmed is missing."""
    monitoring: Recurrence | None = Schedule(cron="0 6 * * *")
    """Drift is looked for."""
    batch_scoring: Recurrence | None = None
    """All entities are scored."""
    training: Recurrence | None = None
    """A new candidate is trained, whether or not monitoring asks for one."""

    @model_validator(mode="before")
    @classmethod
    def _keep_the_default_times(cls, given: Any) -> Any:
        """A schedule that says something else than when keeps the times that its pipeline has by default."""
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {"cron": defaults[name].cron, **value}
            if isinstance(value, dict) and isinstance(defaults.get(name), Schedule)
            else value
            for name, value in given.items()
        }
