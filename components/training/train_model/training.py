"""Model training: write the `model` artifact and record it in MLflow."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.model import DataOrigin, Model, Origin
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.artifacts.titles import title_of
from kfp_lifecycle.components.training.train_model.baseline import baseline_of
from kfp_lifecycle.components.training.train_model.describing import draw_plots
from kfp_lifecycle.components.training.train_model.fitting import TrainedModel, fit_model, read_parts
from kfp_lifecycle.components.training.train_model.kept import keep_model
from kfp_lifecycle.components.training.train_model.mlflow_record import (
    dataset_of,
    log_training,
    tags_of,
    write_mlflow_model,
)
from kfp_lifecycle.components.training.train_model.model_card import write_model_card
from kfp_lifecycle.components.training.train_model.provenance import describe_origin, requirements
from kfp_lifecycle.components.training.train_model.ranking import Describing, Ranking
from kfp_lifecycle.components.training.train_model.stages import timed
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.features.settings import DEFINITION_SETTINGS, FEATURE_REPOSITORY, LABEL_QUERY
from kfp_lifecycle.modelling import attribution
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.registry.tracking import MODEL_PATH, connect, mlflow_errors, refuse_unreachable, tracked_run
from kfp_lifecycle.runtime.code_version import recorded_version
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder


def train_model(
    settings: Configuration,
    locations: Locations,
    training_set_folder: Path,
    parameters_file: Path,
    destination: Path,
    beside: Executor,
    data_version: str = "",
    artifact_uri: str = "",
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, write the `model` artifact and record it in MLflow.

    Args:
        settings: What the component reads.
        locations: `tracking_uri` says where MLflow is, `dataset_remote` where the dataset's versions are.
        training_set_folder: The training set artifact, with the definitions of its features.
        parameters_file: What `tune_hyperparameters` found, or the version in production whose estimator stays.
        destination: Folder of the model artifact.
        beside: Computes what describes the model while the model is made, as `side_process` does.
        data_version: DVC's digest of the dataset behind the training set; the training set's own when not known.
        artifact_uri: Where the pipeline keeps the model, which tells the run; `destination` when not known.
        told: The step's parameter `settings`, to be recorded.

    Returns:
        Metadata: `run_id`, `validation_roc_auc`, `threshold`, `estimator`, `summary`.

    Raises:
        ContractViolation: as `read_parts`, `keep_model` and `fit_model`; MLflow cannot be reached, or a disk is full.
            Nothing is left at `destination` then.
    """
    tracking_uri = locations.tracking_uri
    refuse_unreachable(tracking_uri)
    training_set, found = TrainingSet(training_set_folder), Parameters.read(parameters_file)
    features, parameters, estimator = training_set.features, found.parameters, found.estimator
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        parts = read_parts(training_set, settings.training)
        kept = keep_model(found, training_set, parts, settings, tracking_uri) if found.version else None
    if kept is not None:
        parameters, estimator = kept.description.parameters, kept.description.estimator
    # From here on it is as if the estimator that was found had been the project's.
    training = settings.training.model_copy(update={"estimator": estimator or settings.training.estimator})
    settings = settings.model_copy(update={"training": training})
    describing = Describing(beside, features, parts, training, parameters, kept)
    model = fit_model(features, parts, training, parameters, seconds, kept)
    for note in [*model.notes, *model.limited]:
        print(note, flush=True)
    describing.of(model)
    # MLflow is imported here, while the other process shuffles.
    client = connect(tracking_uri)
    auc = model.validation_auc()
    ranking = describing.result(auc["model"], seconds)
    shown = parts["validation"].label, model.validation_score, model.threshold
    titled = [
        item.model_copy(update={"feature": title_of(item.feature, training_set.titles)}) for item in ranking.importance
    ]
    plots = beside.submit(draw_plots, *shown, titled, ranking.learning_curve)
    data = DataOrigin(
        version=data_version or training_set.digest,
        remote=locations.dataset_remote,
        training_set=training_set.digest,
    )
    origin = describe_origin(artifact_uri or str(destination), data).model_copy(
        update={
            "remedy": found.remedy,
            "version": found.version,
            "adjustment": found.adjustment,
            "quarantined": training_set.description.quarantined,
            "build_training_set": training_set.description.origin,
            "train_model": StepOrigin.told(told or {}),
        }
    )
    description = describe_model(settings, training_set, model, parameters, auc, ranking, origin)
    if kept is not None:
        # What its estimator has learned from, and by which chance, is as it was.
        learned = {"learned_until": kept.description.learned_until, "seed": kept.description.seed}
        description = description.model_copy(update=learned)
    tags, dataset = tags_of(settings, description), dataset_of(settings, training_set, data)
    with (
        complete_folder(destination) as folder,
        tracked_run(client, tracking_uri, settings.name, tags, dataset) as run,
    ):
        description = description.model_copy(update={"run_id": run.info.run_id})
        with mlflow_errors(tracking_uri):
            log_training(client, settings, description, auc, seconds)
        with room_on_disk(destination):
            write_model(folder, training_set, model, description, training.seed)
            write_explainer(folder, ranking.explainer)
            write_model_card(folder, settings, training_set, model, description, plots.result())
        with mlflow_errors(tracking_uri):
            client.log_artifacts(run.info.run_id, str(folder), MODEL_PATH)
        with room_on_disk(destination):
            # For the evaluation of this run alone, and so not for MLflow.
            joblib.dump({"pipeline": model.pipeline, "baselines": model.baselines}, folder / "model.joblib", compress=3)
    return {
        "run_id": description.run_id,
        "validation_roc_auc": auc["model"],
        "threshold": model.threshold,
        "estimator": training.estimator,
        "summary": f"{_made(found)}validation AUC {auc['model']:.3f}",
    }


def _made(found: Parameters) -> str:
    """What was made anew of which version, for a summary; empty where a whole model was trained."""
    what = "threshold set anew" if found.remedy is TrainingRemedy.threshold else "recalibrated"
    return f"version {found.version} {what}, " if found.version else ""


def describe_model(
    settings: Configuration,
    training_set: TrainingSet,
    model: TrainedModel,
    parameters: Mapping[str, Any],
    auc: Mapping[str, float],
    ranking: Ranking,
    origin: Origin,
) -> Model:
    """The model's description, but for the run that does not exist yet."""
    training = settings.training
    return Model(
        model=settings.deployment.model,
        inputs=training_set.features,
        feature_service=training_set.description.feature_service,
        feature_version=training_set.description.feature_version,
        settings=settings_of(settings, DEFINITION_SETTINGS),
        key_type=training_set.description.key_type,
        threshold=model.threshold,
        threshold_by=training.threshold.by,
        calibration=model.calibration.describe(),
        estimator=training.estimator,
        parameters=dict(parameters),
        seed=training.seed,
        onnx_digest=hashlib.sha256(model.onnx).hexdigest(),
        expected_score=float(model.validation_score.mean(dtype=np.float64)),
        learned_until=max(training_set.description.snapshots.get("train", []), default=None),
        notes=[*training_set.description.notes, *model.notes],
        limited=model.limited,
        baseline_auc={name: value for name, value in auc.items() if name != "model"},
        importance=ranking.importance,
        learning_curve=ranking.learning_curve,
        origin=origin,
    )


def write_model(
    folder: Path,
    training_set: TrainingSet,
    model: TrainedModel,
    description: Model,
    seed: int,
) -> None:
    """Write the files of the `model` artifact into `folder`."""
    (folder / "model.onnx").write_bytes(model.onnx)
    description.write(folder)
    (folder / "requirements.txt").write_text(requirements(), "utf-8")
    (folder / "baseline").mkdir()
    reference = baseline_of(model.parts, training_set.present(), model.scorer(training_set.features), seed)
    reference.to_parquet(folder / "baseline" / "reference.parquet", index=False)
    shutil.copytree(training_set.folder / FEATURE_REPOSITORY, folder / FEATURE_REPOSITORY)
    if (training_set.folder / LABEL_QUERY).is_file():
        shutil.copyfile(training_set.folder / LABEL_QUERY, folder / LABEL_QUERY)
    change = recorded_version().change
    if change:
        (folder / "code.diff").write_text(change, "utf-8")
    write_mlflow_model(folder, training_set, model.parts["validation"], description)


def write_explainer(folder: Path, arrays: Mapping[str, NDArray[Any]] | None) -> None:
    """Write what explains scores beside the served model; the same arrays give the same bytes."""
    if arrays is not None:
        np.savez_compressed(folder / attribution.FILE, allow_pickle=False, **arrays)


@contextlib.contextmanager
def room_on_disk(place: Path) -> Iterator[None]:
    """Turn a full disk into a message that names it.

    Raises:
        ContractViolation: there is no room, or the user may write no more.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise ContractViolation(
            f"The model could not be written to {place.parent}: {error.strerror}. Nothing of it was kept. "
            "Make room there, or raise the limit, and resume the run."
        ) from error
