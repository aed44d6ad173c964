"""Training set reader: features as the served model will see them, checked once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.artifacts.training_set import GROUP, TrainingSetDescription
from kfp_lifecycle.runtime.contract import ContractViolation

DESCRIPTION_FILE = TrainingSetDescription.FILE
FILES = ("train", "validation", "test")
# Who was there at the newest moment, without a label; not in every training set.
PRESENT_FILE = "present.parquet"
TIMESTAMP = "event_timestamp"
# The simulation's true probability of the event, where a project's label query gives it.
BEST_POSSIBLE = "best_possible"


@dataclass(frozen=True)
class Part:
    """One part of the split.

    Attributes:
        frame: All columns as the training set holds them, n rows.
        features: The model's inputs alone: float32 with NaN for missing, text with "" for missing.
        label: 1 for the event, 0 for none, shape (n,).
        entity: A whole number for each entity, or for each group where the split keeps groups together: rows of one are
            not independent; 0 to their number less one, shape (n,).
    """

    frame: pd.DataFrame
    features: pd.DataFrame
    label: NDArray[np.int8]
    entity: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Part:
        """Some of the rows, by their positions or by a mask of shape (n,)."""
        return Part(self.frame.iloc[rows], self.features.iloc[rows], self.label[rows], self.entity[rows])


class TrainingSet:
    """A training set folder."""

    def __init__(self, folder: Path) -> None:
        """Read its description.

        Raises:
            ContractViolation: the folder holds no description, or one that names a feature twice or none.
        """
        self.folder = folder
        if not (folder / DESCRIPTION_FILE).is_file():
            raise ContractViolation(
                f"{folder} holds no {DESCRIPTION_FILE}: it is no training set, or one that was not finished. "
                "Run build_training_set again."
            )
        self.description = TrainingSetDescription.read(folder)
        self.entity, self.label = self.description.entity, self.description.label
        self.features, self.sensitive = self.description.features, self.description.sensitive
        self.titles = self.description.titles
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            problem = f"names {', '.join(twice)} more than once" if twice else "names no feature"
            raise ContractViolation(f"{DESCRIPTION_FILE} {problem}. Correct the project's feature service.")

    @property
    def by_time(self) -> bool:
        """Whether the parts follow each other in time."""
        return self.description.split == "time"

    @property
    def cluster(self) -> str:
        """The column whose equal values are not independent rows: the entity's key, or the group."""
        return GROUP if self.description.split == "group" else self.entity

    @property
    def views(self) -> dict[str, list[str]]:
        """The model's inputs by the feature view that gives them, as far as the description says."""
        return {view.view: [item.feature for item in view.features] for view in self.description.quality}

    def part(self, name: str) -> Part:
        """Read and check `train`, `validation`, `calibration` or `test`.

        What calibrates is apart from what sets the threshold, and both are a label's horizon later than what was
        trained on, which chose the parameters: of `validation.parquet` the newer half of the snapshots calibrates, so
        that probabilities have the level of the day, and the older half, one more where their number is odd, is the
        validation part. A single snapshot is divided by entity, of a split at random with as many events in either
        half, or by group.

        Raises:
            ContractViolation: a column is missing or there twice, the label is anything but 0 and 1, or a number is
                infinite.
        """
        file = self.folder / f"{'validation' if name == 'calibration' else name}.parquet"
        if not file.is_file():
            raise ContractViolation(f"{file.name} is missing from the training set. Run build_training_set again.")
        columns = pq.read_schema(file).names
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ContractViolation(
                f"{file.name} has the column {', '.join(twice)} more than once, so that nobody can say which is meant. "
                "Give each feature a name of its own and run build_training_set again."
            )
        frame = pd.read_parquet(file)
        needed = [
            *dict.fromkeys((self.entity, self.cluster)),
            self.label,
            *(feature.name for feature in self.features),
            *self.sensitive,
        ]
        missing = [column for column in needed if column not in frame]
        if missing:
            raise ContractViolation(
                f"{file.name} has no column {', '.join(missing)}, which {DESCRIPTION_FILE} names. "
                "Run build_training_set again."
            )
        if file.stem == "validation":
            calibrates = self._calibrates(frame)
            frame = frame[calibrates if name == "calibration" else ~calibrates].reset_index(drop=True)
        return Part(
            frame=frame,
            features=model_inputs(frame, self.features, file.name),
            label=_binary(frame[self.label], file.name),
            entity=pd.factorize(frame[self.cluster])[0].astype(np.int64),
        )

    def present(self) -> pd.DataFrame | None:
        """The model's inputs of who was there at the newest moment, with `event_timestamp`; None where nobody is later
        than what has a label.

        Raises:
            ContractViolation: a number is infinite.
        """
        file = self.folder / PRESENT_FILE
        if not file.is_file():
            return None
        frame = pd.read_parquet(file)
        return model_inputs(frame, self.features, file.name).assign(**{TIMESTAMP: frame[TIMESTAMP]})

    def _calibrates(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows of the validation file calibrate, shape (n,)."""
        if self.by_time:
            return _newer_half(frame, self.entity)
        digest = pd.util.hash_pandas_object(frame[self.cluster], index=False)
        if self.description.split == "random":
            # Every second one of either class, in an order that knows nothing but the key.
            place = digest.groupby(frame[self.label].to_numpy()).rank(method="first")
            return np.asarray(place % 2 == 0)
        # Whole groups, in such an order, until they have half of the rows.
        sizes = digest.value_counts().sort_index().cumsum()
        return np.asarray(digest.map(sizes) <= max(len(frame) / 2, sizes.iloc[0] if len(sizes) else 0))

    def trainable(self, names: Sequence[str], min_class_rows: int) -> dict[str, Part]:
        """Read the named parts, and refuse those that nothing can be learned from or measured on.

        Args:
            names: Which parts, as `part` knows them.
            min_class_rows: Rows that each class must have in each part.

        Raises:
            ContractViolation: as `part`; a class has too few rows; a feature has no value in a part.
        """
        parts = {name: self.part(name) for name in names}
        labels = {name: part.label for name, part in parts.items()}
        _refuse_few_rows(labels, self.label, min_class_rows, self.by_time)
        for name, part in parts.items():
            for feature in self.features:
                column = part.features[feature.name]
                if (column.isna() if feature.type == "numeric" else column == "").all():
                    raise ContractViolation(
                        f"{name} part: the feature {feature.name} has no value in any of {len(column):,} rows. "
                        "Mend its source or its feature view, or take it out of the feature service."
                    )
        return parts

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the description and the parts, the first 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name in (DESCRIPTION_FILE, *(f"{part}.parquet" for part in FILES)):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()[:16]


def model_inputs(frame: pd.DataFrame, features: Sequence[Feature], where: str) -> pd.DataFrame:
    """The columns that a model reads, in the types that it is served with.

    Args:
        frame: Any table that has a column for each feature.
        features: The model's inputs.
        where: What the table is called in a message.

    Raises:
        ContractViolation: a numeric feature holds text or a number that float32 cannot hold.
    """
    columns: dict[str, pd.Series] = {}
    for feature in features:
        column = frame[feature.name]
        if feature.type == "categorical":
            columns[feature.name] = column.astype(object).where(column.notna(), "").astype(str).astype(object)
            continue
        try:
            exact = column.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ContractViolation(
                f"{where}: the feature {feature.name} is numeric, but holds something else ({error}). "
                "Correct its type in the feature view."
            ) from error
        too_large = exact.abs() > LARGEST_NUMBER
        if too_large.any():
            raise ContractViolation(
                f"{where}: the feature {feature.name} holds {exact[too_large].iloc[0]}, which is infinite or "
                "too large for the model's 32-bit inputs. Bound it in its feature view."
            )
        columns[feature.name] = exact.astype(np.float32)
    return pd.DataFrame(columns, index=frame.index)


def _binary(label: pd.Series, where: str) -> NDArray[np.int8]:
    unknown = int(label.isna().sum())
    if unknown:
        raise ContractViolation(
            f"{where}: the label {label.name} is missing in {unknown:,} of {len(label):,} rows. A label must be 0 or 1 "
            "in every row: correct the label query."
        )
    others = [value for value in label.unique() if isinstance(value, str) or value not in (0, 1)]
    if others:
        shown = ", ".join(repr(value.item() if hasattr(value, "item") else value) for value in others[:3])
        raise ContractViolation(
            f"{where}: the label {label.name} holds {shown}. The model is binary: it tells one event from none, and "
            "more classes than two are not supported. A label must be the number 0 or 1: correct the label query."
        )
    binary: NDArray[np.int8] = label.to_numpy().astype(np.int8)
    return binary


def _newer_half(frame: pd.DataFrame, entity: str) -> NDArray[np.bool_]:
    """Which rows of a validation file whose snapshots follow each other are of the newer half, shape (n,)."""
    snapshots = np.sort(frame[TIMESTAMP].unique())
    if len(snapshots) > 1:
        newer: NDArray[np.bool_] = frame[TIMESTAMP].isin(snapshots[(len(snapshots) + 1) // 2 :]).to_numpy()
        return newer
    # A hash knows no order, and gives an entity the same side at every run.
    side: NDArray[np.bool_] = pd.util.hash_pandas_object(frame[entity], index=False).to_numpy() % 2 == 1
    return side


def _refuse_few_rows(labels: Mapping[str, NDArray[np.int8]], name: str, min_class_rows: int, by_time: bool) -> None:
    few = []
    for part, label in labels.items():
        positives = int(label.sum())
        few += [
            f"{part} part: {rows:,} of {len(label):,} rows have {name} = {value}"
            for value, rows in ((1, positives), (0, len(label) - positives))
            if rows < min_class_rows
        ]
    if few:
        raise ContractViolation(
            f"{'; '.join(few)}; training.min_class_rows asks for {min_class_rows:,}. "
            f"Use more {'snapshots or entities' if by_time else 'rows'}, or lower training.min_class_rows."
        )
