"""Learning curve: the ranking by the number of training rows, and so what more data would be worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import CurvePoint
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator, fit, row_weights

# The curve's own models see at most this many rows, so that it costs seconds at any size.
MOST_ROWS = 40_000
SHARES = (1 / 4, 1 / 2)


def curve_samples(train: Part, seed: int) -> list[Part]:
    """Random parts of the training rows, each holding the smaller ones, fewest rows first.

    A size whose sample misses a class is left out.
    """
    most = min(len(train.label), MOST_ROWS)
    order = np.random.default_rng(seed).permutation(len(train.label))
    chosen = [np.sort(order[: int(most * share)]) for share in SHARES]
    samples = [train.of(rows) for rows in chosen]
    return [sample for sample in samples if 0 < sample.label.sum() < len(sample.label)]


def learning_curve(
    features: Sequence[Feature],
    samples: Sequence[Part],
    inputs: pd.DataFrame,
    label: NDArray[np.int8],
    training: Training,
    parameters: Mapping[str, Any],
) -> list[CurvePoint]:
    """Train on each sample and judge on other rows.

    Args:
        features: The model's inputs.
        samples: As `curve_samples` gives them.
        inputs: Features of the rows that it is judged by, n rows.
        label: 0 or 1, of these rows, shape (n,).
        training: Estimator, seed and weights.
        parameters: Of the estimator.

    Returns:
        A point for each sample.
    """
    curve = []
    for sample in samples:
        estimator = build_estimator(training.estimator, parameters, training.seed)
        encoder = build_encoder(features, sample.features, estimator)
        fit(estimator, encoder.fit_transform(sample.features), sample.label, row_weights(sample, training))
        score = estimator.predict_proba(encoder.transform(inputs))[:, 1]
        curve.append(CurvePoint(rows=len(sample.label), roc_auc=float(roc_auc_score(label, score))))
    return curve
