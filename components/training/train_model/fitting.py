"""Model fitting: train, calibrate, choose the threshold, export to ONNX, prove that the export is the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.training.train_model.kept import KeptModel
from kfp_lifecycle.components.training.train_model.parity import check_parity
from kfp_lifecycle.components.training.train_model.stages import timed
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.calibration import Calibration, fit_calibration
from kfp_lifecycle.modelling.dataset import Part, TrainingSet
from kfp_lifecycle.modelling.decisions import best_threshold, decision_threshold
from kfp_lifecycle.modelling.estimator import (
    build_encoder,
    build_estimator,
    column_weights,
    fit,
    raw_scores,
    row_weights,
    width_notes,
)
from kfp_lifecycle.modelling.export import export_onnx
from kfp_lifecycle.modelling.scoring import Scorer


@dataclass(frozen=True)
class TrainedPipeline:
    """Encoder and estimator, trained on the train part."""

    pipeline: Pipeline
    features: Sequence[Feature]

    def raw_scores(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """The event's probability before calibration, shape (n,)."""
        return raw_scores(self.pipeline, inputs)

    def export(self, calibration: Calibration) -> bytes:
        """Its ONNX form with a calibration behind it."""
        content: bytes = export_onnx(self.pipeline, calibration, self.features).SerializeToString()
        return content


@dataclass(frozen=True)
class TrainedModel:
    """A model that was never served yet.

    Attributes:
        ranker: What ranks: trained here, or kept of a version in production.
        calibration: Fitted on the calibration part.
        baselines: The dummy and the logistic regression, trained on the same rows, all of the same weight.
        onnx: The served form.
        threshold: The score from which on to act (`decision_threshold`).
        parts: What it was made from: `train`, `validation`, `calibration` and `test`.
        validation_score: What the served form gives to the validation part, shape (n,).
        notes: What a reader of the model should know, in sentences.
        limited: What was limited because the table is wide, in sentences.
    """

    ranker: TrainedPipeline | KeptModel
    calibration: Calibration
    baselines: dict[str, Pipeline]
    onnx: bytes
    threshold: float
    parts: Mapping[str, Part]
    validation_score: NDArray[np.float32]
    notes: list[str]
    limited: list[str]

    @property
    def pipeline(self) -> Pipeline:
        """Encoder and estimator; untrained where they are those of a version in production."""
        return self.ranker.pipeline

    @property
    def kept(self) -> KeptModel | None:
        """The version in production whose encoder and estimator it has; None where they were trained."""
        return self.ranker if isinstance(self.ranker, KeptModel) else None

    def probabilities(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """What the ranker gives, calibrated, shape (n,)."""
        return self.calibration.apply(self.ranker.raw_scores(inputs))

    def scorer(self, features: Sequence[Feature]) -> Scorer:
        """The served form, loaded."""
        return Scorer(self.onnx, features)

    def validation_auc(self) -> dict[str, float]:
        """ROC AUC on the validation part, of `model` and of each baseline."""
        part = self.parts["validation"]
        scores = {name: pipeline.predict_proba(part.features)[:, 1] for name, pipeline in self.baselines.items()}
        scores = {"model": self.validation_score, **scores}
        return {name: float(roc_auc_score(part.label, score)) for name, score in scores.items()}


def read_parts(training_set: TrainingSet, training: Training) -> dict[str, Part]:
    """All that a model is made from: `train`, `validation`, `calibration` and `test`.

    Raises:
        ContractViolation: a part cannot be learned from or measured on.
    """
    parts = training_set.trainable(("train", "validation", "calibration"), training.min_class_rows)
    return {**parts, "test": training_set.part("test")}


def fit_model(
    features: Sequence[Feature],
    parts: Mapping[str, Part],
    training: Training,
    parameters: Mapping[str, Any],
    seconds: dict[str, float],
    kept: KeptModel | None = None,
) -> TrainedModel:
    """Train on the train part, calibrate on the calibration part, set the threshold by costs or on the validation part.

    The same parts, parameters and seed give the same ONNX bytes, on any number of cores.

    Args:
        features: The model's inputs.
        parts: As `read_parts` gives them.
        training: Estimator, calibration, threshold, weights and seed.
        parameters: Of the estimator.
        seconds: Gets how long each stage took.
        kept: The version whose encoder and estimator stay; calibration and threshold are fitted behind these, or the
            threshold alone.

    Raises:
        ContractViolation: the data cannot be learned from, or the estimator does not know a parameter or has no ONNX
            form, or the ONNX form disagrees with scikit-learn on the validation or test part.
    """
    train, validation, calibrating = parts["train"], parts["validation"], parts["calibration"]
    with timed(seconds, "fit"):
        ranker = kept or train_pipeline(features, train, training, parameters)
    with timed(seconds, "baselines"):
        baselines = {
            "dummy": fit_pipeline(features, train, DummyClassifier(strategy="prior")),
            "logistic": fit_pipeline(features, train, LogisticRegression(max_iter=1000)),
        }
    with timed(seconds, "calibrate_and_export"):
        measured = kept.adjustment if kept is not None else None
        stays = kept.calibration if kept is not None and kept.scores_stay else None
        if kept is not None and measured is not None:
            calibration = kept.adjusted(measured)
        else:
            calibration = stays or calibrate(ranker, calibrating, training)
        onnx = ranker.export(calibration)
        scorer = Scorer(onnx, features)
        score = scorer.score(validation.features)
        if measured is not None:
            threshold = measured.threshold
        elif stays is not None:
            # Of scores that are left as they are costs alone say nothing: they are no probabilities any more.
            threshold = best_threshold(validation.label, score, training.threshold.by, training.costs)
        else:
            threshold = decision_threshold(validation.label, score, training)
    notes = constant_features(train, features) if kept is None else [kept.told(parts, threshold)]
    limited = width_notes(ranker.pipeline, train.features) if kept is None else kept.description.limited
    model = TrainedModel(ranker, calibration, baselines, onnx, threshold, parts, score, notes, limited)
    with timed(seconds, "parity"):
        rows = {name: parts[name].features for name in ("validation", "test")}
        check_parity(scorer, model.probabilities, rows, features, training.seed)
    return model


def train_pipeline(
    features: Sequence[Feature], train: Part, training: Training, parameters: Mapping[str, Any]
) -> TrainedPipeline:
    """Encoder and estimator as the project asks for them, trained.

    Raises:
        ContractViolation: as `build_estimator`, `row_weights` and `fit`.
    """
    estimator = build_estimator(training.estimator, parameters, training.seed)
    return TrainedPipeline(fit_pipeline(features, train, estimator, row_weights(train, training)), features)


def calibrate(ranker: TrainedPipeline | KeptModel, part: Part, training: Training) -> Calibration:
    """A calibration for what ranks, fitted on rows that it was not trained on.

    Raises:
        ContractViolation: as `fit_calibration`.
    """
    weight = column_weights(part, training)
    return fit_calibration(training.calibration, ranker.raw_scores(part.features), part.label, weight)


def fit_pipeline(
    features: Sequence[Feature], train: Part, estimator: Any, weight: NDArray[np.float64] | None = None
) -> Pipeline:
    """An encoder and an estimator behind it, trained.

    Raises:
        ContractViolation: as `fit`.
    """
    encoder = build_encoder(features, train.features, estimator)
    fit(estimator, encoder.fit_transform(train.features), train.label, weight)
    return Pipeline([("encode", encoder), ("classify", estimator)])


def constant_features(train: Part, features: Sequence[Feature]) -> list[str]:
    """A sentence for each feature that has one value in all training rows: harmless, and of no use."""
    constant = [item.name for item in features if train.features[item.name].nunique(dropna=False) == 1]
    return [
        f"The feature {name} has the same value in all {len(train.label):,} training rows: nothing can be learned from "
        "it. Mend its source, or take it out of the feature service."
        for name in constant
    ]
