"""Model in production that a training keeps the encoder and estimator of: brought here, checked, and scored by its ONNX
form, the only one that is kept of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling import attribution
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.calibration_graph import RawScorer, with_calibration
from kfp_lifecycle.modelling.dataset import TIMESTAMP, Part, TrainingSet
from kfp_lifecycle.modelling.estimator import build_encoder, build_estimator
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.champion import Champion, registered_version
from kfp_lifecycle.runtime.contract import ContractViolation

WHOLE = "start a whole training: lifecycle run training"


@dataclass(frozen=True)
class KeptModel:
    """A version of which encoder and estimator stay.

    Attributes:
        version: Its number in the registry.
        remedy: What is made anew.
        adjustment: The remedy as monitoring measured it; None where it is fitted on labelled rows.
        description: What its `model.json` says.
        onnx: Its graph.
        pipeline: Encoder and estimator of its kind, untrained: evaluation trains such a one to compare with.
        explainer: What explains its scores, which stay; None where nothing does.
    """

    version: str
    remedy: TrainingRemedy
    adjustment: Adjustment | None
    description: Model
    onnx: onnx.ModelProto
    pipeline: Pipeline
    explainer: Mapping[str, NDArray[Any]] | None

    @property
    def scores_stay(self) -> bool:
        """Whether its calibration stays, too, and the threshold alone is set anew."""
        return self.remedy is TrainingRemedy.threshold

    @property
    def calibration(self) -> Calibration:
        """Its calibration."""
        return Calibration.of(self.description.calibration)

    @cached_property
    def _scorer(self) -> RawScorer:
        return RawScorer(self.onnx, self.description.inputs)

    def raw_scores(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """The event's probability before calibration, shape (n,)."""
        return self._scorer(inputs)

    def export(self, calibration: Calibration) -> bytes:
        """Its graph with another calibration behind it."""
        content: bytes = with_calibration(self.onnx, calibration).SerializeToString()
        return content

    def adjusted(self, by: Adjustment) -> Calibration:
        """Its calibration, for so many times as many events as monitoring counted."""
        return self.calibration.with_events(by.hazard_ratio, by.absence)

    def told(self, parts: Mapping[str, Part], threshold: float) -> str:
        """What was done, in a sentence.

        Args:
            parts: As `read_parts` gives them.
            threshold: The one that was set.
        """
        if self.adjustment is not None:
            return self._told_of(self.adjustment)
        part = parts["validation" if self.scores_stay else "calibration"]
        first = part.frame[TIMESTAMP].min()
        rows = f"{len(part.label):,} rows since {first:%Y-%m-%d}, {part.label.sum():,} of them events"
        if self.scores_stay:
            return (
                f"The threshold of version {self.version} was set anew on {rows}, from "
                f"{self.description.threshold:.4f} to {threshold:.4f}; its scores are the same."
            )
        estimator = self.description.estimator.rpartition(".")[2]
        return f"The scores of version {self.version} were recalibrated on {rows}; its {estimator} is the same."

    def _told_of(self, by: Adjustment) -> str:
        moved = f"from {self.description.threshold:.4f} to {by.threshold:.4f}"
        if self.scores_stay:
            return (
                f"The threshold of version {self.version} was set anew by outcomes that monitoring followed, {moved}: "
                f"{by.counted}; its scores are the same."
            )
        estimator = self.description.estimator.rpartition(".")[2]
        return (
            f"The scores of version {self.version} were recalibrated for {by.hazard_ratio:.2f} times as many events, "
            f"by outcomes that monitoring followed: {by.counted}; its {estimator} is the same."
        )


def keep_model(
    found: Parameters, training_set: TrainingSet, parts: Mapping[str, Part], settings: Configuration, tracking_uri: str
) -> KeptModel:
    """Bring the version that is to be kept, and see that it can be fitted anew on a training set.

    Args:
        found: The remedy and the version.
        training_set: The training set.
        parts: As `read_parts` gives them.
        settings: `deployment.model`, `label.horizon_days`, `training.calibration`.
        tracking_uri: The registry.

    Raises:
        ContractViolation: the version is not there, is damaged, has other features, or has learned from the rows that
            it would be fitted on; or the project calibrates nothing. What monitoring measured is fitted on none.
    """
    champion = registered_version(tracking_uri, settings.deployment.model, found.version)
    if champion is None:
        raise ContractViolation(
            f"Version {found.version} of {settings.deployment.model}, whose estimator the run keeps, is not in the "
            f"registry any more: {WHOLE}"
        )
    with tempfile.TemporaryDirectory(prefix="kept-") as place:
        described, graph, explainer = _read(champion, Path(place))
    by_rows = found.adjustment is None
    if by_rows and found.remedy is TrainingRemedy.recalibrate and settings.training.calibration is Method.none:
        raise ContractViolation(
            "training.calibration is none, so that there is no calibration to fit anew: set it to sigmoid or isotonic, "
            f"or {WHOLE}"
        )
    now = training_set.description.feature_version
    if described.inputs != training_set.features or described.feature_version != now:
        raise ContractViolation(
            f"To {found.remedy}, version {found.version} has to have the features that the project has now: it was "
            f"trained on feature definitions {described.feature_version}, and these are {now}; {WHOLE}"
        )
    if by_rows and training_set.by_time:
        _refuse_known_rows(found, described.learned_until, parts, settings)
    estimator = build_estimator(described.estimator, described.parameters, described.seed or 0)
    encoder = build_encoder(described.inputs, parts["train"].features, estimator)
    pipeline = Pipeline([("encode", encoder), ("classify", estimator)])
    return KeptModel(found.version, found.remedy, found.adjustment, described, graph, pipeline, explainer)


def _read(champion: Champion, place: Path) -> tuple[Model, onnx.ModelProto, dict[str, NDArray[Any]] | None]:
    """Description, graph and explainer of a version, which is brought to `place`."""
    folder = champion.fetch(place)
    try:
        model = ModelFolder(folder)
        # It says what is wrong with a graph, or with an explainer, that is not whole.
        model.scorer()
        explains = attribution.Explainer.of(folder) is not None
    except ContractViolation as violation:
        reason = str(violation).replace(str(folder), "the folder")
        raise ContractViolation(
            f"Version {champion.version} of {champion.model} cannot be kept: {reason} Or {WHOLE}"
        ) from violation
    graph = onnx.load(folder / "model.onnx")
    if not explains:
        return model.description, graph, None
    with np.load(folder / attribution.FILE, allow_pickle=False) as arrays:
        return model.description, graph, dict(arrays)


def _refuse_known_rows(
    found: Parameters, learned: str | None, parts: Mapping[str, Part], settings: Configuration
) -> None:
    """See that what a version is fitted on is a label's horizon later than what it has learned from."""
    first = min(part.frame[TIMESTAMP].min() for name, part in parts.items() if name != "train").date()
    if learned is None:
        raise ContractViolation(f"Version {found.version} does not say until when it has learned; {WHOLE}")
    free = date.fromisoformat(learned) + settings.label.horizon
    if first < free:
        raise ContractViolation(
            f"To {found.remedy}, rows have to be new to version {found.version}, and it has learned from rows until "
            f"{learned}, whose labels reach to {free}; the first here are of {first}. Give a since of {free} or later, "
            f"wait for the labels of such rows, or {WHOLE}"
        )
