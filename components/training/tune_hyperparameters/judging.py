"""Objective of the search: judge one setting. It imports no more, since each process has to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kfp_lifecycle.config.training import Training
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.cross_validation import Fold, score_folds


@dataclass(frozen=True)
class Setting:
    """What a process tries.

    Attributes:
        parameters: Those that differ from the default.
        bounds: After each fold but the last, the mean ROC AUC below which it is given up; None for no bound.
    """

    parameters: dict[str, Any]
    bounds: list[float | None]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        values: ROC AUC on each fold that it came to.
        seconds: How long it took.
        reason: Why it failed; None where it did not.
    """

    values: list[float]
    seconds: float
    reason: str | None = None


def judge(folds: Sequence[Fold], training: Training, setting: Setting) -> Outcome:
    """Try one setting, fold after fold, until it is known or hopeless."""
    started = time.monotonic()
    values: list[float] = []
    try:
        for value, bound in zip(
            score_folds(folds, training, setting.parameters), [*setting.bounds, None], strict=False
        ):
            values.append(value)
            if bound is not None and np.mean(values) < bound:
                break
    except ContractViolation as violation:
        return Outcome(values, time.monotonic() - started, str(violation))
    except Exception as error:
        # A library fails in its own ways where its parameters disagree; that ends this trial and is shown with it.
        return Outcome(values, time.monotonic() - started, f"{type(error).__name__}: {error}")
    return Outcome(values, time.monotonic() - started)
