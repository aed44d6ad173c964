"""The model that every server of the benchmark serves: the reference project's 26 features, gradient boosting.

python -m benchmarks.serving.model FOLDER STORE…   (in the environment modelling)

Writes `FOLDER/model`, as it is registered, and made-up features to each online store.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.online_features import PROJECT, fill
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.components.training.train_model.fitting import fit_pipeline
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.features.settings import DEFINITION_SETTINGS
from kfp_lifecycle.modelling.calibration import fit_calibration
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.estimator import build_estimator, raw_scores
from kfp_lifecycle.modelling.export import export_onnx
from kfp_lifecycle.runtime.closure import copy_modules
from tests.projects import read_project

ENTITIES = 5_000
CATEGORIES = ("basic", "plus", "premium")


def rows(features: list[Feature], count: int, seed: int) -> pd.DataFrame:
    """Made-up values, some of them missing."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            item.name: random.normal(size=count).astype(np.float32)
            if item.type == "numeric"
            else random.choice(CATEGORIES, count)
            for item in features
        }
    )
    first = next(item.name for item in features if item.type == "numeric")
    frame.loc[random.random(count) < 0.1, first] = np.nan
    return frame


def write_model(folder: Path) -> None:
    """Train it, and write it with the code of the server that stands in this checkout."""
    project = read_project(PROJECT)
    definitions = load_definitions(project.feature_repo, project.settings)
    features = [Feature(item.name, item.type) for item in definitions.features]
    frame = rows(features, 4_000, seed=1)
    numbers = [item.name for item in features if item.type == "numeric"][1:7]
    logit = frame[numbers].to_numpy() @ np.array([0.8, 0.6, -0.5, 0.4, 0.3, -0.3]) - 2
    label = (np.random.default_rng(2).random(len(frame)) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    part = Part(frame, frame, label, np.arange(len(frame)))
    estimator = build_estimator("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 100}, 0)
    pipeline = fit_pipeline(features, part, estimator)
    calibration = fit_calibration(Method.sigmoid, raw_scores(pipeline, frame), label)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(export_onnx(pipeline, calibration, features).SerializeToString())
    Model(
        model="benchmark",
        version="1",
        inputs=features,
        feature_service=project.settings.features.service,
        threshold=0.3,
        settings=settings_of(project.settings, DEFINITION_SETTINGS),
    ).write(folder)
    shutil.copytree(project.feature_repo, folder / "feature_repo")
    copy_modules(["kfp_lifecycle.serving.server.server"], folder / "code")


def main() -> None:
    """Write model and stores."""
    folder, *stores = sys.argv[1:]
    write_model(Path(folder) / "model")
    project = read_project(PROJECT)
    definitions = load_definitions(project.feature_repo, project.settings)
    for store in stores:
        fill(store, project.settings.name, definitions, ENTITIES)


if __name__ == "__main__":
    main()
