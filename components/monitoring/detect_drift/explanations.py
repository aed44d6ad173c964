"""Explanation drift: what scores rest on by now, beside what they rested on when the model was made.

Of each feature the mean absolute contribution to a score (SHAP value), as a share of all features' together, is its
weight. How far the weights of the window are from those of the baseline's newest date is their total variation
distance; how far those of older dates are is what is usual. It is told, and decides nothing: where features moved, they
weigh otherwise, and have a test of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import Explanations, Weight
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.titles import Titles
from kfp_lifecycle.modelling.attribution import Explainer

# So many rows of a date say what its scores rest on, and so many older dates what is usual: some seconds in all.
ROWS = 200
OLDER_DATES = 4
# A page shows so many features.
TOLD = 8

Floats = NDArray[np.float64]


def explanation_drift(
    explainer: Explainer,
    inputs: Sequence[Feature],
    dates: Sequence[pd.DataFrame],
    window: pd.DataFrame,
    seed: int,
    titles: Titles,
) -> Explanations:
    """Compare what scores rest on.

    Args:
        explainer: Of the model.
        inputs: Its inputs.
        dates: The baseline's rows by date, the newest first; a column for each input.
        window: The predictions, likewise; not empty.
        seed: Of the rows that are drawn.
        titles: What people call features whose name is another one.
    """
    rows = min(ROWS, 2 * explainer.most_rows)
    names = [item.name for item in inputs]

    def weights(frame: pd.DataFrame) -> Floats:
        return weights_of(explainer, inputs, frame.sample(min(rows, len(frame)), random_state=seed))

    before, after = weights(dates[0]), weights(window)
    usual = [distance(before, weights(date)) for date in dates[1 : 1 + OLDER_DATES]]
    changed = np.argsort(-np.abs(after - before), kind="stable")[:TOLD]
    return Explanations(
        distance=distance(before, after),
        usual=max(usual, default=None),
        rows=min(rows, len(window)),
        weights=[
            Weight(column=names[at], title=titles.get(names[at], ""), before=float(before[at]), after=float(after[at]))
            for at in changed
        ],
    )


def weights_of(explainer: Explainer, inputs: Sequence[Feature], rows: pd.DataFrame) -> Floats:
    """The weight of each input, shape (inputs,); they add up to 1, or are all 0 where nothing contributes."""
    numeric = [item.name for item in inputs if item.type == "numeric"]
    categorical = [item.name for item in inputs if item.type == "categorical"]
    numbers = rows[numeric].to_numpy(np.float64).T
    found = explainer.contributions(numbers, [rows[name].tolist() for name in categorical])
    sizes = dict(zip([*numeric, *categorical], np.abs(found).mean(axis=0), strict=True))
    inner = np.array([sizes[item.name] for item in inputs])
    total = inner.sum()
    return inner / total if total else inner


def distance(one: Floats, other: Floats) -> float:
    """Total variation distance of two sets of weights, 0 to 1."""
    return float(np.abs(one - other).sum() / 2)
