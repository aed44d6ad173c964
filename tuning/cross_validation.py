"""Cross-validation inside the training part: in the order of time, so that what is trained on was known by then, or
stratified where no row is later than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part, TrainingSet
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator, fit, row_weights
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.study import chosen


@dataclass(frozen=True)
class Fold:
    """One fold, encoded for the estimators.

    Attributes:
        name: What it is trained and judged on, in words.
        train: Matrix of the rows to train on, shape (n, columns), for the default's estimator.
        train_label: Their labels, 0 or 1, shape (n,).
        weight: What each of them counts, shape (n,); None where all count the same.
        test: Matrix of the rows to judge on, shape (m, columns).
        test_label: Their labels, shape (m,).
        others: Both matrices for each other estimator that is searched, by its import path.
    """

    name: str
    train: NDArray[np.float32]
    train_label: NDArray[np.int8]
    weight: NDArray[np.float64] | None
    test: NDArray[np.float32]
    test_label: NDArray[np.int8]
    others: Mapping[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Sides:
    """The rows of a fold, before they are encoded.

    Attributes:
        train: Mask of the rows to train on, shape (n,).
        test: Mask of those to judge on.
        name: The fold in words.
        judged: What it is judged on, in words.
    """

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    name: str
    judged: str


def fold_snapshots(
    snapshots: Sequence[pd.Timestamp], folds: int, horizon: timedelta
) -> list[tuple[list[pd.Timestamp], list[pd.Timestamp]]]:
    """The snapshots that each fold trains on and is judged on, oldest fold first.

    The window that is trained on grows, as in scikit-learn's `TimeSeriesSplit`, and so does the size of what is judged
    on: one part of `folds` + 1 equal ones. Between the two lies the time until a label is known.

    Args:
        snapshots: The training part's dates, oldest first.
        folds: How many folds at the most.
        horizon: Time from a snapshot until its label is known.
    """
    size = max(1, len(snapshots) // (folds + 1))
    found = []
    for end in range(len(snapshots), 0, -size)[:folds]:
        judged = list(snapshots[max(0, end - size) : end])
        trained = [snapshot for snapshot in snapshots if snapshot + horizon <= judged[0]]
        if trained:
            found.append((trained, judged))
    return found[::-1]


def folds_of(
    training_set: TrainingSet, training: Training, folds: int, horizon: timedelta, estimators: Sequence[str] = ()
) -> list[Fold]:
    """The folds of a training set's train part, divided as the set itself is; its other parts are not read.

    In the order of time, or, where the split is not by time, stratified by the label, groups kept whole. A fold in
    which a class has fewer than `training.min_class_rows` rows is left out, which is printed.

    Args:
        training_set: Features, labels and their snapshots.
        training: The estimator that the rows are encoded for, the smallest class, and the seed.
        folds: How many folds at the most.
        horizon: Time from a snapshot until its label is known.
        estimators: Import paths of all that are searched, where it is not the default's alone.

    Raises:
        ContractViolation: no fold is left, or the train part cannot be learned from.
    """
    part = training_set.trainable(("train",), training.min_class_rows)["train"]
    if training_set.by_time:
        found = list(_time_ordered(part, folds, horizon))
    else:
        found = list(_at_random(part, folds, training.seed, training_set.description.split == "group"))
    usable: list[Fold] = []
    left_out: list[str] = []
    for sides in found:
        smallest = min(np.bincount(part.label[side], minlength=2).min() for side in (sides.train, sides.test))
        if smallest < training.min_class_rows:
            left_out.append(f"the one judged on {sides.judged} has {smallest}")
            continue
        train, test = part.of(sides.train), part.of(sides.test)
        known = _known(training_set.features, train.features)
        matrices: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        for path in dict.fromkeys([training.estimator, *estimators]):
            encoder = build_encoder(known, train.features, build_estimator(path, {}, training.seed))
            matrices[path] = (encoder.fit_transform(train.features), encoder.transform(test.features))
        to_train, to_test = matrices.pop(training.estimator)
        usable.append(
            Fold(
                name=sides.name,
                train=to_train,
                train_label=train.label,
                weight=row_weights(train, training),
                test=to_test,
                test_label=test.label,
                others=matrices,
            )
        )
    why = f"fewer than training.min_class_rows ({training.min_class_rows}) rows of a class: {'; '.join(left_out)}"
    if not usable:
        tried = f"; there was one with {why}" if left_out else ""
        if not training_set.by_time:
            raise ContractViolation(
                f"train.parquet: tuning finds no fold in {len(part.label):,} rows{tried}. Bring more rows, or set "
                "tuning.engine to none."
            )
        raise ContractViolation(
            f"train.parquet: tuning finds no fold in {part.frame[TIMESTAMP].nunique()} snapshots: a fold trains on a "
            f"snapshot at least {horizon.days} days (label.horizon_days) before the one that it is judged on{tried}"
            ". Raise snapshots.count or lower snapshots.every_days where the history has more such dates; where it is "
            "too short for them, set tuning.engine to none."
        )
    if left_out:
        print(f"Left out of cross-validation, for {why}", flush=True)
    return usable


def _time_ordered(part: Part, folds: int, horizon: timedelta) -> Iterator[Sides]:
    times = part.frame[TIMESTAMP]
    for trained, judged in fold_snapshots(sorted(times.unique()), folds, horizon):
        rows, later = times.isin(trained).to_numpy(), times.isin(judged).to_numpy()
        span = f"{judged[0]:%Y-%m-%d} to {judged[-1]:%Y-%m-%d}"
        name = f"trained on {rows.sum():,} rows to {trained[-1]:%Y-%m-%d}, judged on {later.sum():,} from {span}"
        yield Sides(rows, later, name, span)


def _at_random(part: Part, folds: int, seed: int, grouped: bool) -> Iterator[Sides]:
    """Stratified folds, at least two: each row is judged once, by what was trained on all others."""
    count = min(max(folds, 2), int(np.bincount(part.label, minlength=2).min()), len(np.unique(part.entity)))
    if count < 2:
        return
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    how, groups = ("groups apart", part.entity) if grouped else ("chosen at random", None)
    divided = kind(count, shuffle=True, random_state=seed).split(part.features, part.label, groups)
    for number, (train, test) in enumerate(divided, start=1):
        mask = np.zeros(len(part.label), dtype=np.bool_)
        mask[test] = True
        name = f"trained on {len(train):,} rows, judged on {len(test):,} others, {how}"
        yield Sides(~mask, mask, name, f"part {number} of {count}")


def _known(features: Sequence[Feature], rows: pd.DataFrame) -> list[Feature]:
    """Features that have a value in these rows: one that was first recorded later teaches the early folds nothing."""
    return [
        item
        for item in features
        if not (rows[item.name].isna() if item.type == "numeric" else rows[item.name] == "").all()
    ]


def score_folds(folds: Sequence[Fold], training: Training, parameters: Mapping[str, Any]) -> Iterator[float]:
    """ROC AUC of one setting on each fold in turn, each trained when it is asked for.

    Args:
        folds: Of `folds_of`, for the same estimator.
        training: Estimator, default parameters and seed.
        parameters: Those that differ from the default, another estimator too.

    Raises:
        ContractViolation: the estimator refuses the parameters or the data, or gives scores that are no numbers.
    """
    path, settings = chosen(training.estimator, training.parameters, parameters)
    for fold in folds:
        estimator: Any = build_estimator(path, settings, training.seed)
        train, test = fold.others.get(path, (fold.train, fold.test))
        fit(estimator, train, fold.train_label, fold.weight)
        score = estimator.predict_proba(test)[:, 1]
        if not np.isfinite(score).all():
            raise ContractViolation(
                f"training.estimator: {path} gives scores that are no numbers. "
                "Correct training.parameters or tuning.space."
            )
        yield float(roc_auc_score(fold.test_label, score))
