"""What more data would be worth: the ranking by the number of training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from components.training.dataset import Feature, Part
from components.training.estimator import build_encoder, build_estimator, fit, row_weights
from project.training import Training

# The curve's own models see at most this many rows, so that it costs seconds at any size.
MOST_ROWS = 40_000
SHARES = (1 / 4, 1 / 2)


def learning_curve(
    features: Sequence[Feature],
    parts: Mapping[str, Part],
    training: Training,
    parameters: Mapping[str, Any],
    whole_auc: float,
) -> list[dict[str, float]]:
    """Train on random parts of the training rows, each holding the smaller ones, and judge each on the validation part.

    Args:
        features: The model's inputs.
        parts: `train` and `validation`.
        training: Estimator, seed and weights.
        parameters: Of the estimator.
        whole_auc: ROC AUC of the model that was trained on all rows.

    Returns:
        `rows` and `roc_auc`, fewest rows first, those of the whole training part last. A size whose sample misses a
        class is left out.
    """
    train, validation = parts["train"], parts["validation"]
    most = min(len(train.label), MOST_ROWS)
    order = np.random.default_rng(training.seed).permutation(len(train.label))
    curve = []
    for share in SHARES:
        rows = np.sort(order[: int(most * share)])
        label = train.label[rows]
        if not 0 < label.sum() < len(label):
            continue
        sample = Part(train.frame.iloc[rows], train.features.iloc[rows], label, train.entity[rows])
        estimator = build_estimator(training.estimator, parameters, training.seed)
        encoder = build_encoder(features, sample.features, estimator)
        fit(estimator, encoder.fit_transform(sample.features), label, row_weights(sample, training))
        score = estimator.predict_proba(encoder.transform(validation.features))[:, 1]
        curve.append({"rows": len(rows), "roc_auc": float(roc_auc_score(validation.label, score))})
    return [*curve, {"rows": len(train.label), "roc_auc": whole_auc}]
