"""Settings of a Katib trial, in its pod's environment variables."""

from __future__ import annotations

from kfp_lifecycle.config.section import Section
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import SearchDimension

# The line that Katib collects reads METRIC=VALUE.
METRIC = "roc_auc"
SETTINGS_VARIABLE, PARAMETERS_VARIABLE = "TRIAL_SETTINGS", "TRIAL_PARAMETERS"


class TrialSettings(Section):
    """All that trials have in common."""

    training_set: str
    """URI of the training set artifact."""
    object_store: str
    """Address that `minio://` is read at."""
    training: Training
    """Estimator, defaults and seed."""
    space: dict[str, SearchDimension]
    """What is searched."""
    folds: int
    """Folds at the most."""
    horizon_days: int
    """Days until a label is known."""
    stopping: bool = False
    """Whether Katib may stop the trial after its first fold."""
