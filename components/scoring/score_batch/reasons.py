"""Occlusion explanations of scores: what a score would be if one feature were as usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.titles import Titles, title_of
from kfp_lifecycle.modelling.scoring import Scorer

REASONS = 3
# A smaller difference of the score is no reason worth naming.
MIN_DIFFERENCE = 0.001


def usual_values(reference: pd.DataFrame, features: Sequence[Feature]) -> dict[str, Any]:
    """What each feature usually is: the median of a number, the most frequent text.

    Args:
        reference: A sample of the training data, a column for each feature.
        features: The model's inputs.

    Returns:
        By feature; not-a-number for a number that the sample never has.
    """
    usual: dict[str, Any] = {}
    for feature in features:
        column = reference[feature.name]
        if feature.type == "numeric":
            usual[feature.name] = np.float32(column.median())
        else:
            usual[feature.name] = str(column.fillna("").mode().iloc[0])
    return usual


def contributions(
    scorer: Scorer, inputs: pd.DataFrame, scores: NDArray[np.float32], usual: Mapping[str, Any]
) -> NDArray[np.float32]:
    """How much each feature adds to each row's score: the score, less what it is with that feature as usual.

    This is occlusion (Zeiler and Fergus 2014) by a fixed value. It asks what one change alone would do, so that the
    differences need not add up to the score, and two features that say the same hide each other.

    Args:
        scorer: The model.
        inputs: Its inputs, n rows.
        scores: What it gives for them, shape (n,).
        usual: Each feature's usual value.

    Returns:
        Shape (n, number of features), each in [-1, 1]; above 0 where the feature raises the score.
    """
    feed = scorer.feed(inputs)
    differences = np.empty((len(inputs), len(scorer.features)), dtype=np.float32)
    for position, feature in enumerate(scorer.features):
        changed = {**feed, feature.name: np.full_like(feed[feature.name], usual[feature.name])}
        differences[:, position] = scores - scorer.run(changed)
    return differences


def top_reasons(
    inputs: pd.DataFrame,
    differences: NDArray[np.float32],
    features: Sequence[Feature],
    usual: Mapping[str, Any],
    titles: Titles,
) -> dict[str, list[str | None]]:
    """The features that move each row's score the most, in words.

    Args:
        inputs: The model's inputs, n rows.
        differences: What `contributions` gives.
        features: The model's inputs.
        usual: Each feature's usual value.
        titles: What people call features whose name is another one.

    Returns:
        Columns `reason_1` to `reason_3`, strongest first, such as "tenure_days is 12 (usually 340): raises the score
        by 0.081"; None where no further feature moves it by 0.001.
    """
    order = np.argsort(-np.abs(differences), axis=1, kind="stable")[:, :REASONS]
    columns = [inputs[feature.name].tolist() for feature in features]
    reasons: dict[str, list[str | None]] = {f"reason_{rank + 1}": [None] * len(inputs) for rank in range(REASONS)}
    for rank in range(order.shape[1]):
        reason = reasons[f"reason_{rank + 1}"]
        for row, position in enumerate(order[:, rank].tolist()):
            difference = float(differences[row, position])
            if abs(difference) >= MIN_DIFFERENCE:
                name = features[position].name
                reason[row] = (
                    f"{title_of(name, titles)} is {_shown(columns[position][row])} (usually {_shown(usual[name])}): "
                    f"{'raises' if difference > 0 else 'lowers'} the score by {abs(difference):.3f}"
                )
    return reasons


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value or "missing"
    return "missing" if np.isnan(value) else f"{value:.4g}"
