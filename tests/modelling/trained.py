"""Trainings as the step does them, with one process beside them for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any

from kfp_lifecycle.components.training.train_model import fitting, training
from kfp_lifecycle.components.training.train_model.describing import prepare
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.side_process import side_process
from tests.modelling.new_registry import new_registry
from tests.projects import read_project

_open = contextlib.ExitStack()


@cache
def beside() -> Executor:
    """A process of the kind that a step has, for as long as the tests run."""
    return _open.enter_context(side_process(prepare))


def train_model(project: Path, *places: Path, data_version: str = "") -> dict[str, Any]:
    """Training set, parameters and destination, as the step's own function takes them."""
    given = read_project(project)
    if given.locations.tracking_uri.startswith("sqlite:///"):
        new_registry(Path(given.locations.tracking_uri.removeprefix("sqlite:///")))
    return training.train_model(given.settings, given.locations, *places, beside=beside(), data_version=data_version)


def fit_model(training_set: TrainingSet, settings: Training, parameters: Mapping[str, Any]) -> fitting.TrainedModel:
    """Read all parts and fit."""
    parts = fitting.read_parts(training_set, settings)
    return fitting.fit_model(training_set.features, parts, settings, parameters, {})
