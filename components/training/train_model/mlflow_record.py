"""MLflow record of a training: tags, dataset, parameters, figures, and the model in MLflow's own format."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.artifacts.model import DataOrigin, Model
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.modelling.dataset import Part, TrainingSet
from kfp_lifecycle.modelling.scoring import OUTPUT
from kfp_lifecycle.registry.tracking import MODEL_PATH, without_password

if TYPE_CHECKING:
    from mlflow.entities import Dataset
    from mlflow.tracking import MlflowClient

EXAMPLE_FILE = "input_example.json"
EXAMPLE_ROWS = 5


def tags_of(configuration: Configuration, description: Model) -> dict[str, str]:
    """Tags of the run: what a search would look for."""
    origin = description.origin
    kept = {"remedy": str(origin.remedy), "kept_version": origin.version} if origin.version else {}
    hardware = {f"hardware.{name}": str(value) for name, value in origin.hardware}
    return {
        "project": configuration.name,
        "estimator": description.estimator,
        "feature_version": description.feature_version,
        "data_version": origin.data.version,
        "dataset_remote": without_password(origin.data.remote),
        "training_set": origin.data.training_set,
        "pipeline_run": origin.pipeline_run,
        "artifact_uri": origin.artifact_uri,
        "code_digest": origin.code.digest,
        # The name by which MLflow's pages know a commit.
        "mlflow.source.git.commit": origin.code.commit,
        "uncommitted_changes": ", ".join(origin.code.changed)[:5000],
        "environment": origin.environment.name,
        "packages_digest": origin.environment.digest,
        "mlflow.source.name": "train_model",
        "mlflow.note.content": f"{configuration.title}. Train it again: `lifecycle reproduce {origin.pipeline_run}`",
        **kept,
        **hardware,
    }


def dataset_of(configuration: Configuration, training_set: TrainingSet, data: DataOrigin) -> Dataset:
    """The training set as MLflow's dataset: digest, DVC version and remote, rows and dates."""
    from mlflow.entities import Dataset

    description = training_set.description
    kept = {"rows", "positives", "snapshots", "as_of", "feature_version"}
    source = {
        "url": without_password(configuration.source.url or ""),
        "dvc_remote": without_password(data.remote),
        "dvc_version": data.version,
        "feature_service": description.feature_service,
    }
    columns = [{"name": item.name, "type": item.type} for item in training_set.features]
    return Dataset(
        name=configuration.name,
        digest=training_set.digest,
        source_type="dvc",
        source=json.dumps(source),
        schema=json.dumps({"features": columns, "label": training_set.label}),
        profile=description.model_dump_json(include=kept),
    )


def log_training(
    client: MlflowClient,
    configuration: Configuration,
    description: Model,
    auc: Mapping[str, float],
    seconds: Mapping[str, float],
) -> None:
    """Record parameters, figures, the learning curve and timings, in one call."""
    from mlflow.entities import Metric, Param

    training = configuration.training
    parameters = {
        **description.parameters,
        "estimator": training.estimator,
        "seed": training.seed,
        "weight": training.weight,
        "class_weight": training.class_weight,
        "half_life_days": training.half_life_days,
        "calibration": training.calibration,
        "threshold_by": training.threshold.by,
        "features": len(description.inputs),
    }
    figures = {
        **{f"validation_roc_auc_{name}": value for name, value in auc.items()},
        **{f"seconds_{stage}": value for stage, value in seconds.items()},
        "threshold": description.threshold,
    }
    now = int(time.time() * 1000)
    curve = [Metric("learning_curve_roc_auc", point.roc_auc, now, point.rows) for point in description.learning_curve]
    client.log_batch(
        description.run_id,
        metrics=[*(Metric(name, value, now, 0) for name, value in figures.items()), *curve],
        params=[Param(name, str(value)) for name, value in parameters.items()],
    )


def write_mlflow_model(folder: Path, training_set: TrainingSet, part: Part, description: Model) -> None:
    """Write `MLmodel` and an input example, so that `mlflow.pyfunc.load_model` takes the folder: no pickle in it.

    Args:
        folder: The model folder; `model.onnx` and `requirements.txt` are in it.
        training_set: Names the inputs.
        part: Its first rows are the example.
        description: What `model.json` says.
    """
    import numpy as np
    import onnx
    from mlflow.models import Model as RecordedModel
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    types = {"numeric": np.dtype(np.float32), "categorical": np.dtype(np.str_)}
    signature = ModelSignature(
        inputs=Schema([TensorSpec(types[item.type], (-1, 1), item.name) for item in training_set.features]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 2), OUTPUT)]),
    )
    # JSON has no way to say that a number is missing.
    rows = part.features.fillna({item.name: 0 for item in training_set.features if item.type == "numeric"})
    example = {name: [[value] for value in rows[name].head(EXAMPLE_ROWS).tolist()] for name in rows}
    (folder / EXAMPLE_FILE).write_text(json.dumps(example), "utf-8")
    flavors = {
        "onnx": {"onnx_version": onnx.__version__, "data": "model.onnx", "providers": ["CPUExecutionProvider"]},
        "python_function": {
            "loader_module": "mlflow.onnx",
            "data": "model.onnx",
            "python_version": description.origin.hardware.python,
            "env": {"virtualenv": "python_env.yaml"},
        },
    }
    (folder / "python_env.yaml").write_text(
        f"python: {description.origin.hardware.python}\ndependencies:\n- -r requirements.txt\n", "utf-8"
    )
    model = RecordedModel(
        artifact_path=MODEL_PATH,
        run_id=description.run_id,
        flavors=flavors,
        signature=signature,
        saved_input_example_info={"artifact_path": EXAMPLE_FILE, "type": "ndarray"},
        model_uuid=None,
    )
    model.save(str(folder / "MLmodel"))
