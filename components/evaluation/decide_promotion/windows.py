"""The rows that champion and candidate are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluation.decide_promotion.verdict import Window
from components.training.dataset import Part, TrainingSet

TIMESTAMP = "event_timestamp"
# The parts that each list of snapshots in the training set's description is divided into.
PARTS = {"train": ("train",), "validation": ("validation", "calibration"), "test": ("test",)}


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
    return _rows("newest", training_set.part("test"), training_set.description["snapshots"]["test"], False)


def champions_rows(training_set: TrainingSet, snapshots: Sequence[str]) -> tuple[Rows | None, list[str]]:
    """The rows of the snapshots that the champion was judged by, as far as the training set still has them.

    Args:
        training_set: The candidate's.
        snapshots: Dates of the champion's test part; none where nothing recorded them.

    Returns:
        The rows, None where there are none beside the newest; and what a reader must know of them.

    Raises:
        ContractViolation: as `TrainingSet.part`.
    """
    if not snapshots:
        return None, [
            "Which snapshots the champion was judged by is not recorded with it, so that only the newest are compared."
        ]
    known = training_set.description["snapshots"]
    if set(snapshots) == set(known["test"]):
        return None, ["The champion was judged by the newest snapshots too."]
    holding = [name for name in PARTS if set(snapshots) & set(known[name])]
    notes = []
    gone = [date for date in snapshots if not any(date in known[name] for name in holding)]
    if gone:
        notes.append(
            f"Of the snapshots that the champion was judged by, the training set no longer has {', '.join(gone)}: "
            "they are older than it, or between its parts."
        )
    if not holding:
        return None, notes
    parts = [training_set.part(part) for name in holding for part in PARTS[name]]
    keep = [_of_snapshots(part.frame[TIMESTAMP], snapshots) for part in parts]
    frame = pd.concat([part.frame[kept] for part, kept in zip(parts, keep, strict=True)], ignore_index=True)
    features = pd.concat([part.features[kept] for part, kept in zip(parts, keep, strict=True)], ignore_index=True)
    label = np.concatenate([part.label[kept] for part, kept in zip(parts, keep, strict=True)])
    entity = pd.factorize(frame[training_set.entity])[0].astype(np.int64)
    seen = [name for name in holding if name != "test"]
    if seen:
        notes.append(
            f"The candidate has seen rows that the champion was judged by (they are in its {' and '.join(seen)} data): "
            "a lead there proves little, a loss all the more."
        )
    there = [date for date in snapshots if date not in gone]
    return _rows("champion", Part(frame, features, label, entity), there, bool(seen)), notes


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
