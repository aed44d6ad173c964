"""Parity check: the exported model against the trained one, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation

# Both compute in 64 bits, from the same 32-bit inputs. What remains are results rounded to 32 bits: of trees' sums
# (6e-8 of a share, 5e-7 of log-odds up to 11.5, and XGBoost's own sums, some 5e-6 of log-odds), and of the probability
# itself (6e-8). A calibration passes on a quarter of its slope of an error in log-odds: 1e-5 leaves room for a slope of
# eight. benchmarks/parity.py says what was measured.
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
                    f"({inputs.iloc[worst].to_dict()}). Both compute in 64 bits, so that this is no rounding: the "
                    "estimator's ONNX converter computes something else. Choose another training.estimator, or other "
                    "training.parameters."
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
