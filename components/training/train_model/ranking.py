"""Description of a ranking: importance of features, learning curve and explainer, computed beside the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import CurvePoint, Importance
from kfp_lifecycle.components.training.train_model.fitting import TrainedModel
from kfp_lifecycle.components.training.train_model.importance import feature_importance, importance_sample
from kfp_lifecycle.components.training.train_model.kept import KeptModel
from kfp_lifecycle.components.training.train_model.learning_curve import curve_samples, learning_curve
from kfp_lifecycle.components.training.train_model.stages import measured
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.attribution_export import explainer_arrays, typical_rows
from kfp_lifecycle.modelling.dataset import Part


@dataclass(frozen=True)
class Ranking:
    """What is known of a model's ranking."""

    importance: list[Importance]
    learning_curve: list[CurvePoint]
    explainer: Mapping[str, NDArray[Any]] | None


class Describing:
    """The work of describing a ranking. Of a kept model nothing is computed: its ranking is what it was."""

    def __init__(
        self,
        beside: Executor,
        features: Sequence[Feature],
        parts: Mapping[str, Part],
        training: Training,
        parameters: Mapping[str, Any],
        kept: KeptModel | None,
    ) -> None:
        """Begin with the learning curve, which needs no model.

        Args:
            beside: Does the work.
            features: The model's inputs.
            parts: As `read_parts` gives them.
            training: Estimator, weights and seed.
            parameters: Of the estimator.
            kept: The version whose estimator stays, if one does.
        """
        self._beside, self._features, self._parts, self._seed = beside, features, parts, training.seed
        self._kept, validation = kept, parts["validation"]
        if kept is None:
            samples = curve_samples(parts["train"], training.seed)
            self._curve = beside.submit(
                measured, learning_curve, features, samples, validation.features, validation.label, training, parameters
            )

    def of(self, model: TrainedModel) -> None:
        """Go on with what needs the model."""
        if self._kept is None:
            shuffled = importance_sample(self._parts["validation"], self._seed)
            self._importance = self._beside.submit(
                measured, feature_importance, model.pipeline, self._features, shuffled, self._seed
            )
            typical = typical_rows(self._parts["train"].features, self._seed)
            self._explainer = self._beside.submit(explainer_arrays, model.pipeline, self._features, typical)

    def result(self, auc: float, seconds: dict[str, float]) -> Ranking:
        """Wait for it all.

        Args:
            auc: The model's on the validation part, the last point of the curve.
            seconds: Gets how long each took.
        """
        if self._kept is not None:
            described = self._kept.description
            return Ranking(described.importance, described.learning_curve, self._kept.explainer)
        curve, seconds["learning_curve"] = self._curve.result()
        importance, seconds["importance"] = self._importance.result()
        curve.append(CurvePoint(rows=len(self._parts["train"].label), roc_auc=auc))
        return Ranking(importance, curve, self._explainer.result())
