"""Model evaluation in six dimensions, on snapshots the candidate has never seen, each figure with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from kfp_lifecycle.artifacts.evaluation import Evaluation as Document
from kfp_lifecycle.components.evaluation.evaluate_model import plots
from kfp_lifecycle.components.evaluation.evaluate_model.calibration_error import examine_calibration
from kfp_lifecycle.components.evaluation.evaluate_model.decision_changes import examine_decision_changes
from kfp_lifecycle.components.evaluation.evaluate_model.explanation import (
    TOLD_ROWS,
    examine_explanations,
    explain,
    explain_exported,
)
from kfp_lifecycle.components.evaluation.evaluate_model.fairness import examine_fairness
from kfp_lifecycle.components.evaluation.evaluate_model.findings import Findings, Sample
from kfp_lifecycle.components.evaluation.evaluate_model.latency import measure_latency
from kfp_lifecycle.components.evaluation.evaluate_model.leakage import examine_leakage
from kfp_lifecycle.components.evaluation.evaluate_model.performance import compare_with_past, examine_performance
from kfp_lifecycle.components.evaluation.evaluate_model.refits import area_in_past
from kfp_lifecycle.components.evaluation.evaluate_model.robustness import examine_robustness
from kfp_lifecycle.components.evaluation.evaluate_model.slices import examine_slices
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.dataset import TIMESTAMP, TrainingSet
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.evaluation_record import record_evaluation
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.outputs import complete_folder
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap

CURVE_POINTS = 100
NOT_BY_TIME = (
    "No part of the split is later than another: the figures hold for rows like those that were trained on, and say "
    "nothing of later months, in which a model is usually worse. robustness.past_roc_auc and future_roc_auc_drop were "
    "not measured; monitoring tells what becomes of it."
)
AFTER_CHANGE = (
    "The test rows are of the dates from {since} on, after a change, as some of the rows are that it was {made} on, "
    "and of other entities: the figures hold for rows since the change and say nothing of later months. "
    "robustness.past_roc_auc and future_roc_auc_drop were not measured."
)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        findings: What goes into the artifact.
        curve: False and true positive rates and thresholds of the ROC curve, at most 100 points.
        confusion: Counts [[true negatives, false positives], [false negatives, true positives]].
        metadata: For the artifact.
    """

    findings: Findings
    curve: tuple[list[float], list[float], list[float]]
    confusion: list[list[int]]
    metadata: dict[str, Any]


def evaluate(
    settings: Configuration, locations: Locations, training_set_folder: Path, model_folder: Path, destination: Path
) -> Evaluation:
    """Examine the candidate on the test part, write the `evaluation` artifact and record it in the model's MLflow run.

    Args:
        settings: `evaluation`, and of `training` costs, seed and smallest class.
        locations: `tracking_uri` says where MLflow is.
        training_set_folder: The training set artifact; its test part is judged, its other parts are what the model
            knows and what features were before.
        model_folder: The model artifact.
        destination: Folder of the evaluation artifact.

    Raises:
        ContractViolation: the model is not complete, the test part cannot be judged, a score is no probability, or
            MLflow cannot be reached. Nothing is left at `destination` then.
    """
    training, tracking_uri = settings.training, locations.tracking_uri
    client = connect(tracking_uri)
    training_set, model = TrainingSet(training_set_folder), ModelFolder(model_folder)
    part = training_set.trainable(("test",), training.min_class_rows)["test"]
    # Trusted: it comes straight from the training step of the same run. No server loads it.
    trained = joblib.load(model_folder / "model.joblib")
    scorer, seed = model.scorer(), training.seed
    bootstrap = Bootstrap(part.entity, settings.evaluation.bootstrap_replicates, seed)
    sample = Sample(
        part,
        scorer,
        scorer.score(part.features),
        model.threshold,
        training_set.sensitive,
        bootstrap.entity,
        bootstrap,
        settings.evaluation,
        training.costs,
        seed,
        training_set.titles,
        [item.feature for item in model.description.importance],
    )
    findings = examine(sample, training_set, model, trained)
    with complete_folder(destination) as folder:
        run_id = model.description.run_id
        Document(
            run_id=run_id,
            metrics=findings.metrics,
            notes=findings.notes,
            sections=findings.sections,
            titles=training_set.titles,
            suspects=findings.suspects,
        ).write(folder)
        predictions(training_set, sample).to_parquet(folder / "predictions.parquet", index=False)
        plots.save_plots(findings.figures, folder / "plots")
        record_evaluation(client, tracking_uri, run_id, findings.metrics, folder)
    auc = findings.metrics["performance.roc_auc"]
    return Evaluation(
        findings,
        roc_points(part.label, sample.score),
        confusion_matrix(part.label, sample.acted, labels=[0, 1]).tolist(),
        {"rows": sample.rows, "roc_auc": auc.value, "summary": f"AUC {auc.value:.3f}"},
    )


def examine(sample: Sample, training_set: TrainingSet, model: ModelFolder, trained: dict[str, Any]) -> Findings:
    """All six dimensions.

    Args:
        sample: The test rows.
        training_set: Where they are from.
        model: The candidate.
        trained: What `model.joblib` holds: `pipeline`, untrained where a version in production was recalibrated, and
            `baselines` (`dummy` and `logistic`).
    """
    train = training_set.part("train")
    pipeline, baselines = trained["pipeline"], trained["baselines"]
    baseline_scores = {name: item.predict_proba(sample.part.features)[:, 1] for name, item in baselines.items()}
    findings = examine_performance(sample, baseline_scores)
    findings.notes += model.description.limited
    if len(sample.examined) < len(sample.features):
        findings.notes.append(
            f"The table is wide: of {len(sample.features):,} features the {len(sample.examined)} that the model rests "
            "on most were cut into slices and taken away one by one. Of the others there is no performance.roc_auc of "
            "a slice, and robustness.worst_missing_feature_auc_drop knows nothing of them."
        )
    findings.add(examine_leakage(sample, train, baselines["logistic"], pipeline))
    findings.add(examine_calibration(sample))
    findings.add(examine_fairness(sample))
    findings.add(examine_slices(sample))
    before = pd.read_parquet(training_set.folder / "validation.parquet")
    findings.add(examine_robustness(sample, train.features, before, training_set.entity, training_set.views))
    in_turn = training_set.by_time and training_set.description.divided_since is None
    past = area_in_past(pipeline, train, sample.seed) if in_turn else None
    if not in_turn:
        divided = training_set.description.divided_since
        made = "trained" if training_set.description.learns_from_change else "calibrated"
        findings.notes.insert(0, AFTER_CHANGE.format(since=divided, made=made) if divided else NOT_BY_TIME)
    elif past is None:
        findings.notes.append("robustness.past_roc_auc was not measured: too few training rows of one class.")
    else:
        dates = sample.part.frame[TIMESTAMP].dt.strftime("%Y-%m-%d").to_numpy()
        findings.add(compare_with_past(sample, past, {str(date): dates == date for date in np.unique(dates)}))
    findings.add(examine_decision_changes(sample, train.features))
    chosen = np.random.default_rng(sample.seed).permutation(sample.rows)[: sample.settings.explained_rows]
    explained = np.concatenate([np.argsort(-sample.score, kind="stable")[:TOLD_ROWS], chosen])
    inputs = sample.part.features.iloc[explained]
    if model.description.origin.version:
        explanation = explain_exported(model, inputs, train.features, sample.seed)
    else:
        explanation = explain(pipeline, training_set.features, inputs, train.features, sample.seed)
    calibration = Calibration.of(model.description.calibration)
    findings.add(examine_explanations(sample, explanation, explained, calibration, training_set.entity))
    requests = sample.settings.latency_requests
    feed = sample.scorer.feed(sample.part.features.head(requests))
    findings.metrics |= measure_latency(model.scorer(threads=1), feed, requests, sample.seed)
    findings.notes.append(
        f"Latency is that of the ONNX model alone, {requests:,} requests of one row, one after the other on one "
        "thread, without the server around it; validate_serving measures the server."
    )
    return findings


def predictions(training_set: TrainingSet, sample: Sample) -> pd.DataFrame:
    """The test rows with their score: entity key, `event_timestamp`, label, `score`, sensitive columns."""
    columns = dict.fromkeys([training_set.entity, TIMESTAMP, training_set.label, *training_set.sensitive])
    return sample.part.frame[list(columns)].assign(score=sample.score)


def roc_points(label: NDArray[Any], score: NDArray[Any]) -> tuple[list[float], list[float], list[float]]:
    """The ROC curve in at most 100 points; its first threshold, infinite in theory, is 1."""
    false, true, thresholds = roc_curve(label, score)
    rows = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).astype(int))
    return false[rows].tolist(), true[rows].tolist(), np.minimum(thresholds[rows], 1.0).tolist()
