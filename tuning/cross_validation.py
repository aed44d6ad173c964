"""Time-ordered cross-validation inside the training snapshots: what is trained on was known by then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.dataset import TIMESTAMP, TrainingSet
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator, fit, row_weights
from kfp_lifecycle.runtime.contract import ContractViolation


@dataclass(frozen=True)
class Fold:
    """One fold, encoded for the estimator.

    Attributes:
        trained_to: The newest snapshot that is trained on.
        judged_from: The oldest snapshot that is judged on.
        judged_to: The newest one.
        train: Matrix of the rows to train on, float32, shape (n, columns).
        train_label: Their labels, 0 or 1, shape (n,).
        weight: What each of them counts, shape (n,); None where all count the same.
        test: Matrix of the rows to judge on, shape (m, columns).
        test_label: Their labels, shape (m,).
    """

    trained_to: pd.Timestamp
    judged_from: pd.Timestamp
    judged_to: pd.Timestamp
    train: NDArray[np.float32]
    train_label: NDArray[np.int8]
    weight: NDArray[np.float64] | None
    test: NDArray[np.float32]
    test_label: NDArray[np.int8]

    def __str__(self) -> str:
        return (
            f"trained on {len(self.train):,} rows to {self.trained_to:%Y-%m-%d}, judged on {len(self.test):,} from "
            f"{self.judged_from:%Y-%m-%d} to {self.judged_to:%Y-%m-%d}"
        )


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


def time_ordered_folds(training_set: TrainingSet, training: Training, folds: int, horizon: timedelta) -> list[Fold]:
    """The folds of a training set's train part; its later parts are not read.

    A fold in which a class has fewer than `training.min_class_rows` rows is left out, which is printed.

    Args:
        training_set: Features, labels and their snapshots.
        training: The estimator that the rows are encoded for, and the smallest class.
        folds: How many folds at the most.
        horizon: Time from a snapshot until its label is known.

    Raises:
        ContractViolation: no fold is left, or the train part cannot be learned from.
    """
    part = training_set.trainable(("train",), training.min_class_rows)["train"]
    estimator = build_estimator(training.estimator, training.parameters, training.seed)
    times = part.frame[TIMESTAMP]
    usable: list[Fold] = []
    left_out: list[str] = []
    for trained, judged in fold_snapshots(sorted(times.unique()), folds, horizon):
        rows, later = times.isin(trained).to_numpy(), times.isin(judged).to_numpy()
        smallest = min(np.bincount(part.label[side], minlength=2).min() for side in (rows, later))
        if smallest < training.min_class_rows:
            left_out.append(f"the one judged on {judged[0]:%Y-%m-%d} to {judged[-1]:%Y-%m-%d} has {smallest}")
            continue
        train, test = part.of(rows), part.of(later)
        encoder = build_encoder(_known(training_set.features, train.features), train.features, estimator)
        usable.append(
            Fold(
                trained_to=trained[-1],
                judged_from=judged[0],
                judged_to=judged[-1],
                train=encoder.fit_transform(train.features),
                train_label=train.label,
                weight=row_weights(train, training),
                test=encoder.transform(test.features),
                test_label=test.label,
            )
        )
    why = f"fewer than training.min_class_rows ({training.min_class_rows}) rows of a class: {'; '.join(left_out)}"
    if not usable:
        raise ContractViolation(
            f"train.parquet: tuning finds no fold in {times.nunique()} snapshots: a fold trains on a snapshot at least "
            f"{horizon.days} days (label.horizon_days) before the one that it is judged on"
            + (f"; there was one with {why}" if left_out else "")
            + ". Raise snapshots.count, lower snapshots.every_days, or set tuning.engine to none."
        )
    if left_out:
        print(f"Left out of cross-validation, for {why}", flush=True)
    return usable


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
        folds: Of `time_ordered_folds`, for the same estimator.
        training: Estimator, default parameters and seed.
        parameters: Those that differ from the default.

    Raises:
        ContractViolation: the estimator refuses the parameters or the data, or gives scores that are no numbers.
    """
    for fold in folds:
        estimator: Any = build_estimator(training.estimator, {**training.parameters, **parameters}, training.seed)
        fit(estimator, fold.train, fold.train_label, fold.weight)
        score = estimator.predict_proba(fold.test)[:, 1]
        if not np.isfinite(score).all():
            raise ContractViolation(
                f"training.estimator: {training.estimator} gives scores that are no numbers. "
                "Correct training.parameters or tuning.space."
            )
        yield float(roc_auc_score(fold.test_label, score))
