"""Comparison windows: the rows that champion and candidate are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.training_set import PartName
from kfp_lifecycle.artifacts.verdict import Window
from kfp_lifecycle.modelling.dataset import Part, TrainingSet

TIMESTAMP = "event_timestamp"
# The parts that each list of snapshots in the training set's description is divided into.
PARTS: dict[PartName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "calibration"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Rows:
    """A window with its rows."""

    window: Window
    part: Part


def newest_rows(training_set: TrainingSet) -> Rows:
    """The candidate's test part: the newest snapshots whose labels are known, which it has never seen.

    Raises:
        ContractViolation: as `TrainingSet.part`.
    """
    return _rows("newest", training_set.part("test"), training_set.description.snapshots["test"], False)


def champions_rows(
    training_set: TrainingSet, snapshots: Sequence[str], every_days: int
) -> tuple[Rows | None, list[str]]:
    """The rows of the snapshots that the champion was judged by, as far as the training set still has them.

    Snapshots are counted back from the newest row, so that another day's training set has other dates: the nearest
    stands for each, at most half the time between two snapshots away.

    Args:
        training_set: The candidate's.
        snapshots: Dates of the champion's test part; none where nothing recorded them.
        every_days: Days between two snapshots.

    Returns:
        The rows, None where there are none beside the newest; and what a reader must know of them.

    Raises:
        ContractViolation: as `TrainingSet.part`.
    """
    if not training_set.by_time:
        return None, [
            "The split is not by time: rows of this test part may have trained the champion, where its training set "
            "was divided otherwise. Such rows are to its advantage."
        ]
    if not snapshots:
        return None, [
            "Which snapshots the champion was judged by is not recorded with it, so that only the newest are compared."
        ]
    known, changed = training_set.description.snapshots, training_set.description.divided_since
    if changed is not None and all(day < changed for day in snapshots):
        return None, [
            f"The champion was judged by snapshots up to {max(snapshots)}, before the business changed: only those "
            f"from {changed} on are compared."
        ]
    nearest = {wanted: _nearest(wanted, [day for days in known.values() for day in days]) for wanted in snapshots}
    near = {wanted: found for wanted, found in nearest.items() if _days(wanted, found) <= every_days / 2}
    notes = []
    gone = [day for day in snapshots if day not in near]
    if gone:
        notes.append(
            f"Of the snapshots that the champion was judged by, the training set no longer has {', '.join(gone)}: "
            "they are older than it, or between its parts."
        )
    moved = [f"{found} stands for {wanted}" for wanted, found in near.items() if found != wanted]
    if moved:
        notes.append(f"The training set has other dates than the champion was judged by: {', '.join(moved)}.")
    chosen = sorted(set(near.values()))
    if not chosen:
        return None, notes
    if set(chosen) <= set(known["test"]):
        return None, [*notes, "The champion was judged by the newest snapshots too."]
    holding = [name for name in PARTS if set(chosen) & set(known[name])]
    parts = [training_set.part(part) for name in holding for part in PARTS[name]]
    keep = [_of_snapshots(part.frame[TIMESTAMP], chosen) for part in parts]
    frame = pd.concat([part.frame[kept] for part, kept in zip(parts, keep, strict=True)], ignore_index=True)
    features = pd.concat([part.features[kept] for part, kept in zip(parts, keep, strict=True)], ignore_index=True)
    label = np.concatenate([part.label[kept] for part, kept in zip(parts, keep, strict=True)])
    entity = pd.factorize(frame[training_set.entity])[0].astype(np.int64)
    seen = [name for name in holding if name != "test"]
    notes.append(
        f"The candidate has seen rows that the champion was judged by (they are in its {' and '.join(seen)} data): "
        "a lead there proves little, a loss all the more."
    )
    return _rows("champion", Part(frame, features, label, entity), chosen, True), notes


def _days(one: str, other: str) -> int:
    return abs((date.fromisoformat(one) - date.fromisoformat(other)).days)


def _nearest(wanted: str, dates: Sequence[str]) -> str:
    return min(dates, key=lambda known: _days(wanted, known))


def _of_snapshots(time: pd.Series, snapshots: Sequence[str]) -> NDArray[np.bool_]:
    chosen = [moment for moment in time.unique() if f"{moment:%Y-%m-%d}" in snapshots]
    rows: NDArray[np.bool_] = time.isin(chosen).to_numpy()
    return rows


def _rows(name: Literal["newest", "champion"], part: Part, snapshots: Sequence[str], learned_from: bool) -> Rows:
    window = Window(
        name=name,
        snapshots=list(snapshots),
        rows=len(part.label),
        positives=int(part.label.sum()),
        entities=len(np.unique(part.entity)),
        learned_from=learned_from,
    )
    return Rows(window, part)
