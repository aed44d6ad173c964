"""Parameters of a run: what a text among them has to say, beyond the type that KFP knows."""

from __future__ import annotations

from datetime import UTC, date, datetime

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import SplitBy
from kfp_lifecycle.config.retraining import TrainingRemedy


def day_of_change(text: str) -> date | None:
    """The parameter `since` as a day; None where it is empty.

    Raises:
        ValueError: it is no day.
    """
    try:
        return datetime.fromisoformat(text).date() if text else None
    except ValueError:
        raise ValueError(
            f"The run's parameter since is {text!r}, and it has to be the day of a change, such as 2026-05-02."
        ) from None


def window_end(text: str) -> datetime | None:
    """The parameter `as_of` as a time in UTC; None where it is empty.

    Raises:
        ValueError: it is no time.
    """
    try:
        end = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise ValueError(
            f"The run's parameter as_of is {text!r}, which is no time ({error}). Give one such as "
            "2026-01-31T06:00:00Z, or none for now."
        ) from None
    if end is None or end.tzinfo is not None:
        return end and end.astimezone(UTC)
    return end.replace(tzinfo=UTC)


def training_remedy(text: str) -> TrainingRemedy:
    """The parameter `remedy`.

    Raises:
        ValueError: a training knows no such remedy.
    """
    try:
        return TrainingRemedy(text)
    except ValueError:
        raise ValueError(
            f"The run's parameter remedy is {text!r}, and a training can {', '.join(TrainingRemedy)}: give one of "
            "these, or leave it out to train a whole model."
        ) from None


def check_meaning(name: str, value: object, configuration: Configuration, now: datetime) -> None:
    """See that a parameter's text means something that a run of a project can do.

    Args:
        name: The parameter; what is not known here may be any text.
        value: Its value, of the type that the pipeline says.
        configuration: The project's.
        now: The time on this machine, with a zone.

    Raises:
        ValueError: it means nothing, or something that no run can do; the message says the rule and the remedy.
    """
    if name == "since" and (day := day_of_change(str(value))) is not None:
        by = configuration.split.by
        if by is not SplitBy.time:
            raise ValueError(
                f"The run's parameter since is {day}, the day of a change, and split.by is {by.value}, which knows no "
                "days: leave the parameter out, or split by time."
            )
        # It may be the next day already where the change was noted.
        if (day - now.astimezone(UTC).date()).days > 1:
            raise ValueError(
                f"The run's parameter since is {day}, and that day has not come: nothing was recorded since. Give the "
                "day on which the business changed, or leave it out."
            )
    if name == "remedy":
        training_remedy(str(value))
    if name == "as_of" and (end := window_end(str(value))) is not None and end > now:
        raise ValueError(
            f"The run's parameter as_of is {value!r}, and that time has not come, by this machine's clock "
            f"({now.astimezone(UTC):%Y-%m-%dT%H:%MZ}). A window ends in the past: give an earlier time, or none."
        )
