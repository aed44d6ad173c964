"""Past performance, by a model that is fitted anew on training rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.uncertainty.area import Area, area

Rows = NDArray[np.int64]

# Training rows behind a refit: enough to tell, quick to fit.
MOST_ROWS = 30_000
LEFT_OUT = 0.25


def left_out(train: Part, seed: int) -> tuple[Rows, Rows]:
    """Positions of the training rows to fit anew on, and of those of other entities that are left out of that.

    At the most `MOST_ROWS` in all, whole entities, `LEFT_OUT` of them left out.
    """
    entities = int(train.entity.max()) + 1
    place = np.random.default_rng(seed).permutation(entities)[train.entity]
    kept = min(1.0, MOST_ROWS / len(train.label)) * entities
    return np.flatnonzero((place >= LEFT_OUT * kept) & (place < kept)), np.flatnonzero(place < LEFT_OUT * kept)


def area_in_past(pipeline: Pipeline, train: Part, seed: int) -> Area | None:
    """ROC AUC of the same kind of model within the training months, on entities that were left out.

    Args:
        pipeline: Encoder and estimator; it is cloned.
        train: The training rows.
        seed: Chooses who is left out.

    Returns:
        None where a class is missing on either side.
    """
    fitted, out = left_out(train, seed)
    if not both_classes(train, fitted, out):
        return None
    # So few rows gain little from threads, and threads that wait for a busy core lose seconds.
    with threadpool_limits(1):
        again = clone(pipeline).fit(train.features.iloc[fitted], train.label[fitted])
    score = again.predict_proba(train.features.iloc[out])[:, 1]
    return area(train.label[out], score, train.entity[out], int(train.entity.max()) + 1)


def both_classes(train: Part, *sides: Rows) -> bool:
    """Whether each side has events and others."""
    return all(len(rows) > 0 and np.ptp(train.label[rows]) == 1 for rows in sides)
