"""The proof that the served model is the trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation

LARGEST_DIFFERENCE = 1e-5
# Rows of each part that are asked once more with values missing and categories that training never saw.
DAMAGED_ROWS = 20_000
UNSEEN = "\N{REPLACEMENT CHARACTER} never seen"


def check_parity(
    scorer: Scorer,
    probabilities: Callable[[pd.DataFrame], NDArray[np.float64]],
    rows: Mapping[str, pd.DataFrame],
    features: Sequence[Feature],
    seed: int,
) -> float:
    """Compare the exported model with the trained one, row by row.

    Args:
        scorer: The exported model.
        probabilities: The trained model, as scikit-learn computes it.
        rows: Model inputs to compare on, by the name of their part. A sample of each is compared again with missing
            values and unseen categories.
        features: The model's inputs.
        seed: Chooses the sample and what is missing in it.

    Returns:
        The largest difference between two probabilities.

    Raises:
        ContractViolation: a probability differs by more than 1e-5, or is no number.
    """
    largest = 0.0
    for name, part in rows.items():
        damaged = damage(part.sample(min(DAMAGED_ROWS, len(part)), random_state=seed), features, seed)
        for kind, inputs in ((name, part), (f"{name} with missing and unseen values", damaged)):
            difference = np.abs(scorer.score(inputs) - probabilities(inputs))
            worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
            if not difference[worst] <= LARGEST_DIFFERENCE:
                differing = int((~(difference <= LARGEST_DIFFERENCE)).sum())
                raise ContractViolation(
                    f"The exported model is not the trained one: {differing:,} of {len(inputs):,} rows of {kind} "
                    f"differ by more than {LARGEST_DIFFERENCE:g}, the worst by {difference[worst]:.3g} "
                    f"({inputs.iloc[worst].to_dict()}). Very large numbers or steep calibration lose precision in "
                    "32 bits: bound or rescale the feature, or use training.calibration: sigmoid or another estimator."
                )
            largest = max(largest, float(difference[worst]))
    return largest


def damage(inputs: pd.DataFrame, features: Sequence[Feature], seed: int) -> pd.DataFrame:
    """Copies of rows in which every fourth value is missing, or a category that training never saw."""
    random = np.random.default_rng(seed)
    damaged = inputs.copy()
    for feature in features:
        chosen = random.random(len(inputs)) < 0.25
        if feature.type == "numeric":
            damaged.loc[chosen, feature.name] = np.float32(np.nan)
        else:
            damaged.loc[chosen, feature.name] = random.choice(["", UNSEEN], size=int(chosen.sum()))
    return damaged
