"""Conversion of Optuna's trials."""

from __future__ import annotations

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from kfp_lifecycle.tuning.study import Trial

# What is kept of a trial beside Optuna's own fields.
SECONDS, REASON = "seconds", "reason"


def as_trial(frozen: FrozenTrial) -> Trial:
    """A finished trial of an Optuna study. It reports the mean of the folds so far after each fold."""
    means = [frozen.intermediate_values[fold] for fold in sorted(frozen.intermediate_values)]
    sums = np.array(means) * np.arange(1, len(means) + 1)
    return Trial(
        number=frozen.number,
        parameters=dict(frozen.params),
        folds=np.diff(sums, prepend=0.0).tolist(),
        value=frozen.value if frozen.state is TrialState.COMPLETE else None,
        seconds=frozen.user_attrs.get(SECONDS, 0.0),
        reason=frozen.user_attrs.get(REASON),
    )
