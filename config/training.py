"""Configuration of the model's training."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from kfp_lifecycle.config.section import FeatureName, FreeValue, Probability, Section, text

# Packages that an estimator may come from: nothing else is imported because a configuration names it.
ESTIMATOR_PACKAGES = ("sklearn", "lightgbm", "xgboost")


class Calibration(StrEnum):
    """How scores become probabilities."""

    sigmoid = "sigmoid"
    isotonic = "isotonic"
    none = "none"


class ClassWeight(StrEnum):
    """What a row of either class counts in training."""

    none = "none"
    balanced = "balanced"


class ThresholdRule(StrEnum):
    """What the decision threshold makes as good as it can be."""

    cost = "cost"
    f1 = "f1"
    balanced_accuracy = "balanced_accuracy"


class Costs(Section):
    """What decisions are worth, in the project's currency."""

    saved: float = Field(default=100.0, gt=0)
    """What it is worth when the event would have come and the action prevented it."""
    action: float = Field(default=10.0, gt=0)
    """What acting on one entity costs, needed or not."""
    success_rate: Probability = 0.3
    """Share of actions that prevent the event."""
    currency: str = "USD"
    """For reports."""


class Threshold(Section):
    """The score from which on an entity is acted upon."""

    by: ThresholdRule = ThresholdRule.cost
    """What it makes as good as it can be: `cost` is the worth of all decisions by `training.costs`, so that a
    calibrated score is acted upon from `action / (success_rate * saved)` on; `f1` is the harmonic mean of precision and
    recall, `balanced_accuracy` the mean of the shares of events and of non-events that are decided rightly. These two,
    and `cost` where nothing is calibrated, take the best of the older half of the validation snapshots."""


Estimator = Annotated[
    str,
    text(
        rf"^({'|'.join(ESTIMATOR_PACKAGES)})(\.[A-Za-z_][A-Za-z0-9_]*)+$",
        f"an estimator is named by its import path in {' or '.join(ESTIMATOR_PACKAGES)}, such as "
        "sklearn.linear_model.LogisticRegression",
    ),
]


class Training(Section):
    """The model."""

    estimator: Estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
    """Import path of a classifier that gives probabilities, from scikit-learn, LightGBM or XGBoost, such as
    `lightgbm.LGBMClassifier`."""
    parameters: dict[str, FreeValue] = Field(default={})
    """Its parameters where they differ from the library's defaults."""
    class_weight: ClassWeight = ClassWeight.none
    """`balanced` lets both classes count the same in training, however rare one is; calibration then restores the
    true level of the probabilities."""
    half_life_days: float | None = Field(default=None, gt=0)
    """A training row this many days older than the newest counts half as much; without it all count the same."""
    weight: FeatureName | None = None
    """Feature (`view:feature`) that says what a row counts, such as what a customer is worth: a number above 0 in every
    row that is trained, searched or calibrated on. It joins the training set and is never used for prediction; figures,
    the threshold's among them, count every row once."""
    calibration: Calibration = Calibration.sigmoid
    """How scores become probabilities: `sigmoid`, `isotonic` or `none`; fitted on the newer half of the
    validation snapshots, which decide nothing else."""
    threshold: Threshold = Threshold()
    """From which score on an entity is acted upon."""
    costs: Costs = Costs()
    """What decisions are worth."""
    min_class_rows: int = Field(default=10, gt=1)
    """Fewer rows than this of either class, in any part of the split, refuse the training: nothing could be learned."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Makes training, tuning and evaluation repeatable."""

    @model_validator(mode="after")
    def _probabilities_stay_true(self) -> Training:
        if self.class_weight is ClassWeight.balanced and self.calibration is Calibration.none:
            raise ValueError(
                "class_weight: balanced makes scores too high for a rare event; set calibration to sigmoid or isotonic"
            )
        return self
