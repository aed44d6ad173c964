"""Train, calibrate, choose the threshold, export, prove that the export is the model, record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from components.complete import complete_folder
from components.training.calibration import Calibration, fit_calibration
from components.training.dataset import Feature, Part, TrainingSet
from components.training.decisions import best_threshold
from components.training.estimator import build_encoder, build_estimator, fit
from components.training.export import export_onnx
from components.training.scoring import Scorer
from components.training.tracking import MODEL_PATH, connect, log_run, mlflow_errors, tracked_run
from components.training.train_model.importance import permutation_importance
from components.training.train_model.parity import check_parity
from project.configuration import Configuration
from project.loading import CONFIGURATION_FILE, load_configuration
from project.stores import load_stores
from project.training import Training

# Rows of the training data that stay with the model for comparison with production.
REFERENCE_ROWS = 5000


@dataclass(frozen=True)
class TrainedModel:
    """A model that was never served yet.

    Attributes:
        pipeline: Encoder and estimator, trained on the train part.
        calibration: Fitted on the validation part.
        baselines: The dummy and the logistic regression, trained on the same rows.
        onnx: The served form.
        threshold: The score from which on acting pays, chosen on the validation part.
        validation_score: What the served form gives to the validation part.
    """

    pipeline: Pipeline
    calibration: Calibration
    baselines: dict[str, Pipeline]
    onnx: bytes
    threshold: float
    validation_score: NDArray[np.float32]

    def probabilities(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """What scikit-learn gives, calibrated, shape (n,)."""
        return self.calibration.apply(self.pipeline.predict_proba(inputs)[:, 1])

    def scorer(self, features: Sequence[Feature]) -> Scorer:
        """The served form, loaded."""
        return Scorer(self.onnx, features)


def fit_model(training_set: TrainingSet, training: Training, parameters: Mapping[str, Any]) -> TrainedModel:
    """Train on the train part; calibrate and choose the threshold on the validation part.

    The same training set, parameters and seed give the same ONNX bytes.

    Raises:
        ContractViolation: the data cannot be learned from, or the estimator does not know a parameter or has no ONNX
            form, or the ONNX form disagrees with scikit-learn on the validation or test part.
    """
    parts = training_set.trainable(("train", "validation"), training.smallest_class)
    train, validation = parts["train"], parts["validation"]

    def fitted(estimator: Any) -> Pipeline:
        encoder = build_encoder(training_set.features, train.features, estimator)
        fit(estimator, encoder.fit_transform(train.features), train.label)
        return Pipeline([("encode", encoder), ("classify", estimator)])

    pipeline = fitted(build_estimator(training.estimator, parameters, training.seed))
    baselines = {
        "dummy": fitted(DummyClassifier(strategy="prior")),
        "logistic": fitted(LogisticRegression(max_iter=1000)),
    }
    raw = pipeline.predict_proba(validation.features)[:, 1]
    calibration = fit_calibration(training.calibration, raw, validation.label)
    onnx = export_onnx(pipeline, calibration, training_set.features).SerializeToString()
    scorer = Scorer(onnx, training_set.features)
    score = scorer.score(validation.features)
    threshold = best_threshold(validation.label, score, training.costs)
    model = TrainedModel(pipeline, calibration, baselines, onnx, threshold, score)
    rows = {"validation": validation.features, "test": training_set.part("test").features}
    check_parity(scorer, model.probabilities, rows, training_set.features, training.seed)
    return model


def train_model(
    project: Path, training_set_folder: Path, parameters_file: Path, destination: Path, data_version: str = ""
) -> dict[str, Any]:
    """Train, write the `model` artifact and record it in MLflow.

    Args:
        project: The project artifact.
        training_set_folder: The training set artifact.
        parameters_file: What `tune_hyperparameters` found.
        destination: Folder of the model artifact.
        data_version: DVC's digest of the snapshot behind the training set; the training set's own when not known.

    Returns:
        Metadata: `run_id`, `validation_roc_auc`, `threshold`, `estimator`, `summary`.

    Raises:
        ContractViolation: as `fit_model`; or MLflow cannot be reached. Nothing is left at `destination` then.
    """
    configuration, tracking_uri = load_configuration(project), load_stores(project).tracking_uri
    training = configuration.training
    client = connect(tracking_uri)
    training_set = TrainingSet(training_set_folder)
    data_version = data_version or training_set.digest
    parameters = json.loads(parameters_file.read_text("utf-8"))["parameters"]
    model = fit_model(training_set, training, parameters)
    validation = training_set.part("validation")
    auc = {
        "model": float(roc_auc_score(validation.label, model.validation_score)),
        **{
            name: float(roc_auc_score(validation.label, baseline.predict_proba(validation.features)[:, 1]))
            for name, baseline in model.baselines.items()
        },
    }
    tags = {
        "project": configuration.name,
        "data_version": data_version,
        "feature_version": training_set.description["feature_version"],
        "estimator": training.estimator,
    }
    with (
        complete_folder(destination) as folder,
        tracked_run(client, tracking_uri, configuration.name, tags, _dataset(training_set, configuration)) as run,
    ):
        run_id = run.info.run_id
        description = describe_model(configuration, training_set, model, parameters, auc, data_version, run_id)
        write_model(folder, project, training_set, model, description, training.seed)
        with mlflow_errors(tracking_uri):
            logged = {**parameters, "calibration": training.calibration, "seed": training.seed}
            figures = {f"validation_roc_auc_{name}": value for name, value in auc.items()}
            log_run(client, run_id, logged, {**figures, "threshold": model.threshold})
            client.log_artifacts(run_id, str(folder), MODEL_PATH)
    return {
        "run_id": run_id,
        "validation_roc_auc": auc["model"],
        "threshold": model.threshold,
        "estimator": training.estimator,
        "summary": f"validation AUC {auc['model']:.3f}",
    }


def describe_model(
    configuration: Configuration,
    training_set: TrainingSet,
    model: TrainedModel,
    parameters: Mapping[str, Any],
    auc: Mapping[str, float],
    data_version: str,
    run_id: str,
) -> dict[str, Any]:
    """The content of `model.json`."""
    validation = training_set.part("validation")
    scorer = model.scorer(training_set.features)
    return {
        "model": configuration.deployment.model,
        "inputs": [asdict(feature) for feature in training_set.features],
        "feature_service": training_set.description["feature_service"],
        "feature_version": training_set.description["feature_version"],
        "threshold": model.threshold,
        "calibration": model.calibration.describe(),
        "estimator": configuration.training.estimator,
        "parameters": dict(parameters),
        "seed": configuration.training.seed,
        "run_id": run_id,
        "data_version": data_version,
        "baseline_auc": {name: value for name, value in auc.items() if name != "model"},
        "importance": permutation_importance(scorer, validation, configuration.training.seed),
    }


def write_model(
    folder: Path,
    project: Path,
    training_set: TrainingSet,
    model: TrainedModel,
    description: Mapping[str, Any],
    seed: int,
) -> None:
    """Write the files of the `model` artifact into `folder`."""
    (folder / "model.onnx").write_bytes(model.onnx)
    (folder / "model.json").write_text(json.dumps(description, indent=2), "utf-8")
    joblib.dump({"pipeline": model.pipeline, "baselines": model.baselines}, folder / "model.joblib", compress=3)
    (folder / "baseline").mkdir()
    reference = _reference(training_set.part("train"), model.scorer(training_set.features), seed)
    reference.to_parquet(folder / "baseline" / "reference.parquet", index=False)
    if (project / "feature_repo").is_dir():
        shutil.copytree(project / "feature_repo", folder / "feature_repo")
    shutil.copy(project / CONFIGURATION_FILE, folder / CONFIGURATION_FILE)


def _reference(train: Part, scorer: Scorer, seed: int) -> pd.DataFrame:
    rows = train.features.sample(min(REFERENCE_ROWS, len(train.features)), random_state=seed).sort_index()
    return rows.assign(score=scorer.score(rows))


def _dataset(training_set: TrainingSet, configuration: Configuration) -> Any:
    from mlflow.entities import Dataset

    description = training_set.description
    kept = {name: description.get(name) for name in ("rows", "positives", "snapshots", "as_of", "feature_version")}
    source = {"url": configuration.source.url, "feature_service": description["feature_service"]}
    return Dataset(
        name=configuration.name,
        digest=training_set.digest,
        source_type="lifecycle",
        source=json.dumps(source),
        profile=json.dumps(kept),
    )
