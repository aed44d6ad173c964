"""Split by time: which snapshots train, validate and test, and never on a label that was not yet known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kfp_lifecycle.artifacts.training_set import PartName
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.runtime.contract import ContractViolation

PARTS: tuple[PartName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Snapshots of each part, oldest first, and those left out to keep the parts a label's horizon apart."""

    train: tuple[datetime, ...]
    validation: tuple[datetime, ...]
    test: tuple[datetime, ...]
    left_out: tuple[datetime, ...]

    def part(self, name: PartName) -> tuple[datetime, ...]:
        """The snapshots of one part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def used(self) -> tuple[datetime, ...]:
        """All snapshots but those left out, oldest first."""
        return tuple(dict.fromkeys(self.train + self.validation + self.test))


def snapshots_before(as_of: datetime, configuration: Configuration) -> list[datetime]:
    """The snapshots whose label is known at `as_of`, oldest first, in whole seconds.

    Args:
        as_of: Time of the newest row.
        configuration: `snapshots.every_days` apart, `snapshots.count` at the most, the newest `label.horizon_days` ago.
    """
    newest = as_of.astimezone(UTC).replace(microsecond=0) - configuration.label.horizon
    step = timedelta(days=configuration.snapshots.every_days)
    return [newest - step * back for back in reversed(range(configuration.snapshots.count))]


def newest_moment(as_of: datetime) -> datetime:
    """The one snapshot of a split without time, in whole seconds: no row is later."""
    whole = as_of.astimezone(UTC).replace(microsecond=0)
    return whole if whole == as_of else whole + timedelta(seconds=1)


def split_by_time(snapshots: Sequence[datetime], configuration: Configuration) -> Split:
    """Divide snapshots so that every label of a part is known before the first snapshot of the next.

    Args:
        snapshots: Oldest first.
        configuration: The newest `split.test_snapshots` test, the newest `split.validation_snapshots` of those whose
            label was known by then validate, and all whose label was known by then train.

    Raises:
        ContractViolation: too few snapshots for that.
    """
    horizon = configuration.label.horizon

    def known_before(moment: datetime | None) -> list[datetime]:
        return [snapshot for snapshot in snapshots if moment is not None and snapshot + horizon <= moment]

    test = list(snapshots)[-configuration.split.test_snapshots :]
    validation = known_before(test[0] if test else None)[-configuration.split.validation_snapshots :]
    train = known_before(validation[0] if validation else None)
    short = len(test) < configuration.split.test_snapshots or len(validation) < configuration.split.validation_snapshots
    if short or not train:
        raise ContractViolation(
            f"The data give {len(snapshots)} snapshots with a known label ({configuration.snapshots.every_days} days "
            f"apart): too few for {configuration.split.test_snapshots} to test, "
            f"{configuration.split.validation_snapshots} to validate and 1 to train, each part "
            f"{configuration.label.horizon_days} days (label.horizon_days) before the next. Bring a longer history, "
            "or lower snapshots.every_days or the numbers in split."
        )
    chosen = {*train, *validation, *test}
    return Split(tuple(train), tuple(validation), tuple(test), tuple(s for s in snapshots if s not in chosen))
