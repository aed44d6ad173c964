"""Split by time: which snapshots train, validate and test, and never on a label that was not yet known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from kfp_lifecycle.artifacts.training_set import LabelRate, PartName
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import Split as SplitSettings
from kfp_lifecycle.config.features import TrainingWindow
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.run_parameters import check_meaning, day_of_change, training_remedy
from kfp_lifecycle.runtime.contract import ContractViolation

PARTS: tuple[PartName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Snapshots of each part, oldest first, and those left out to keep the parts a label's horizon apart."""

    train: tuple[datetime, ...]
    validation: tuple[datetime, ...]
    test: tuple[datetime, ...]
    left_out: tuple[datetime, ...]
    divided_since: datetime | None = None
    """From this snapshot on, a change's first, rows are divided by entity; none where the parts follow each other."""

    @property
    def learns_from_change(self) -> bool:
        """Whether some rows of the dates that are divided by entity train."""
        return self.divided_since is not None and self.divided_since in self.train

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


def changed_on(since: str, configuration: Configuration) -> date | None:
    """The day of a change: the run's parameter `since`, or `split.since`; None where nothing changed.

    Raises:
        ContractViolation: the parameter is no day, or one that means nothing here.
    """
    try:
        check_meaning("since", since, configuration, datetime.now(UTC))
        return day_of_change(since) or configuration.split.since
    except ValueError as error:
        raise ContractViolation(str(error)) from error


def remedy_of(text: str) -> TrainingRemedy:
    """What the run makes anew.

    Raises:
        ContractViolation: the run's parameter `remedy` is none that there is.
    """
    try:
        return training_remedy(text)
    except ValueError as error:
        raise ContractViolation(str(error)) from error


def newest_moment(as_of: datetime) -> datetime:
    """The one snapshot of a split without time, in whole seconds: no row is later."""
    whole = as_of.astimezone(UTC).replace(microsecond=0)
    return whole if whole == as_of else whole + timedelta(seconds=1)


def split_by_time(
    snapshots: Sequence[datetime],
    configuration: Configuration,
    since: date | None = None,
    remedy: TrainingRemedy = TrainingRemedy.retrain,
) -> Split:
    """Divide snapshots so that every label of a part is known before the first snapshot of the next.

    After a change that would keep what is new from the training part for long: it goes to test, then to validate. So,
    as long as no snapshot since the change would train, those since the change are in all three parts, divided by
    entity (`shares.by_entity`), and all earlier ones train.

    A remedy that keeps the model in production trains on nothing: unless those that validate and test are all since
    the change, all dates since it are divided among these two.

    Args:
        snapshots: Oldest first.
        configuration: The newest `split.test_snapshots` test, the newest `split.validation_snapshots` of those whose
            label was known by then validate, and all whose label was known by then train, as far back as `split.window`
            reaches.
        since: The day of a change; None without one.
        remedy: What is made anew.

    Raises:
        ContractViolation: too few snapshots for that.
    """
    changed = [moment for moment in snapshots if since is not None and moment.date() >= since]
    split = _in_order(snapshots, configuration)
    learns = remedy is TrainingRemedy.retrain
    in_turn = split is not None and (set(split.train) & set(changed) if learns else split.validation[0] in changed)
    before = tuple(moment for moment in snapshots if changed and moment < changed[0])
    if changed and not in_turn and (learns or before):
        trains = (*before, *changed) if learns else before
        split = Split(trains, tuple(changed), tuple(changed), (), changed[0])
    if split is None:
        raise ContractViolation(
            f"The data give {len(snapshots)} snapshots with a known label ({configuration.snapshots.every_days} days "
            f"apart): too few for {configuration.split.test_snapshots} to test, "
            f"{configuration.split.validation_snapshots} to validate and 1 to train, each part "
            f"{configuration.label.horizon_days} days (label.horizon_days) before the next. Bring a longer history, "
            "or lower snapshots.every_days or the numbers in split."
        )
    train = _within_window(split.train, changed, configuration.split)
    chosen = {*train, *split.validation, *split.test}
    return replace(split, train=train, left_out=tuple(s for s in snapshots if s not in chosen))


def _in_order(snapshots: Sequence[datetime], configuration: Configuration) -> Split | None:
    """The parts as they follow each other; None where there are too few snapshots."""
    horizon, settings = configuration.label.horizon, configuration.split

    def known_before(moment: datetime | None) -> list[datetime]:
        return [snapshot for snapshot in snapshots if moment is not None and snapshot + horizon <= moment]

    test = list(snapshots)[-settings.test_snapshots :]
    validation = known_before(test[0] if test else None)[-settings.validation_snapshots :]
    train = known_before(validation[0] if validation else None)
    short = len(test) < settings.test_snapshots or len(validation) < settings.validation_snapshots
    return None if short or not train else Split(tuple(train), tuple(validation), tuple(test), ())


def _within_window(
    train: Sequence[datetime], changed: Sequence[datetime], settings: SplitSettings
) -> tuple[datetime, ...]:
    """The training snapshots that `split.window` reaches back to."""
    first = train[0]
    if settings.window_days is not None:
        first = train[-1] - timedelta(days=settings.window_days)
    elif settings.window is TrainingWindow.since_change and set(changed) & set(train):
        first = changed[0]
    return tuple(snapshot for snapshot in train if snapshot >= first)


def told_of_change(split: Split, since: date, configuration: Configuration) -> str:
    """What a reader must know of a split after a change, in a sentence or two."""
    settings, entity = configuration.split, configuration.entity.name
    if split.divided_since is not None and not split.learns_from_change:
        return (
            f"The business changed on {since}. The dates from {split.divided_since:%Y-%m-%d} on train nothing, and are "
            f"divided by {entity} into those that validate and those that test, {settings.validation_share:g} to "
            f"{settings.test_share:g}. Both are of the same dates: figures say nothing of later months."
        )
    if split.divided_since is not None:
        return (
            f"The business changed on {since}. The dates from {split.divided_since:%Y-%m-%d} on are divided by "
            f"{entity} ({settings.test_share:.0%} test, {settings.validation_share:.0%} validate), and all "
            "rows train whose label was known before: so the model learns from what is new. Test rows are of other "
            f"{entity}s and of the same dates as training rows: figures say nothing of later months."
        )
    if any(moment.date() >= since for moment in split.train):
        return f"The business changed on {since}, long enough ago that dates after it train, validate and test in turn."
    known = datetime.combine(since, time(), UTC) + configuration.label.horizon
    return (
        f"The business changed on {since}, and no label of a date since then is known before {known:%Y-%m-%d}: the "
        "model learns from what was before the change alone."
    )


def refuse_few_labels(
    rates: Sequence[LabelRate], since: date, remedy: TrainingRemedy, configuration: Configuration
) -> None:
    """See that a remedy that is fitted on rows since a change has enough of them.

    Args:
        rates: Of every snapshot whose label is known.
        since: The day of the change.
        remedy: One that keeps the model in production.
        configuration: `training.min_class_rows` is what either class needs to calibrate, to set the threshold and to
            test; `label.horizon_days` when labels are known.

    Raises:
        ContractViolation: there are fewer.
    """
    known = [rate for rate in rates if date.fromisoformat(rate.snapshot) >= since]
    rows, events = sum(rate.rows for rate in known), sum(rate.positives for rate in known)
    needed = 3 * configuration.training.min_class_rows
    if min(events, rows - events) >= needed:
        return
    label, horizon = configuration.label, configuration.label.horizon
    next_date = datetime.combine(since, time(), UTC) + horizon
    raise ContractViolation(
        f"To {remedy}, labels since {since} are too few: {rows:,} rows of {len(known)} "
        f"date{'' if len(known) == 1 else 's'}, of which {events:,} have "
        f"{label.name} = 1; {needed:,} of either kind are needed, training.min_class_rows "
        f"({configuration.training.min_class_rows:,}) each to calibrate, to set the threshold and to test. A label is "
        f"known {horizon.days} days after its date, the first since then on {next_date:%Y-%m-%d}: wait, have more "
        "dates (snapshots.every_days), lower training.min_class_rows, or start a whole training: lifecycle run "
        f"training --parameter since={since}"
    )
