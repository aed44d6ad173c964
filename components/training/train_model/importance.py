"""Permutation importance of features, and what each one's splits gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Importance
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.estimator import encoded_columns

MOST_ROWS = 5000
REPEATS = 3


def importance_sample(part: Part, seed: int) -> Part:
    """At most 5,000 random rows of a part, of both classes."""
    rows = np.random.default_rng(seed).permutation(len(part.label))[:MOST_ROWS]
    # A sample of a rare event may miss it: one row of each class is always there.
    rows = np.union1d(rows, [np.argmax(part.label), np.argmin(part.label)])
    return part.of(rows)


def feature_importance(pipeline: Pipeline, features: Sequence[Feature], part: Part, seed: int) -> list[Importance]:
    """How much the ranking rests on each feature.

    Args:
        pipeline: Encoder and estimator, trained.
        features: The model's inputs.
        part: Rows that it was not trained on, of both classes.
        seed: Chooses the shuffles.

    Returns:
        Of each feature, largest value first. The value is the mean over three shuffles (Breiman 2001, "Random
        forests"), about 0 for a useless feature.
    """
    encoder, estimator = pipeline[0], pipeline[-1]
    columns = encoded_columns(encoder, features)
    random = np.random.default_rng(seed)
    inputs, label = encoder.transform(part.features), part.label
    whole = _auc(label, estimator.predict_proba(inputs)[:, 1])
    gains = _gain_shares(estimator, columns, inputs.shape[1])
    described = []
    for name, place in columns.items():
        losses = [0.0]
        # Nothing rests on what no tree splits on; a wide table has many such features.
        if gains.get(name) != 0:
            own, losses = inputs[:, place].copy(), []
            for _ in range(REPEATS):
                inputs[:, place] = own[random.permutation(len(inputs))]
                losses.append(whole - _auc(label, estimator.predict_proba(inputs)[:, 1]))
            inputs[:, place] = own
        described.append(Importance(feature=name, value=float(np.mean(losses)), gain=gains.get(name)))
    return sorted(described, key=lambda item: -item.value)


def _auc(label: NDArray[np.int8], score: NDArray[Any]) -> float:
    """ROC AUC by ranks (Mann and Whitney 1947): scikit-learn's, in a tenth of the time."""
    positives = int(label.sum())
    ranks = rankdata(score)[label == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def _gain_shares(estimator: BaseEstimator, columns: Mapping[str, slice], width: int) -> dict[str, float]:
    gains = _column_gains(estimator, width)
    if gains is None:
        return {}
    whole = gains.sum() or 1.0
    return {name: float(gains[place].sum() / whole) for name, place in columns.items()}


def _column_gains(estimator: Any, width: int) -> NDArray[np.float64] | None:
    """What the splits on each column of the matrix gained, shape (width,); None for an estimator without splits."""
    name = type(estimator).__name__
    if name == "HistGradientBoostingClassifier":
        gains = np.zeros(width)
        # scikit-learn shows the gains of this estimator nowhere else.
        for trees in estimator._predictors:
            for tree in trees:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, splits["feature_idx"], splits["gain"])
        return gains
    if name == "LGBMClassifier":
        return np.asarray(estimator.booster_.feature_importance("gain"), dtype=np.float64)
    if name == "XGBClassifier":
        gains = np.zeros(width)
        for column, gain in estimator.get_booster().get_score(importance_type="total_gain").items():
            gains[int(column.removeprefix("f"))] = gain
        return gains
    found = getattr(estimator, "feature_importances_", None)
    return None if found is None else np.asarray(found, dtype=np.float64)
