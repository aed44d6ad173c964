"""A model of a training set made by hand, and what its evaluation finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.components.evaluation.evaluate_model import evaluation
from tests.modelling.business import write_definitions, write_project
from tests.modelling.trained import train_model
from tests.projects import read_project


def evaluate(project: Path, *places: Path) -> evaluation.Evaluation:
    """Training set, model and destination, as the step's own function takes them."""
    given = read_project(project)
    return evaluation.evaluate(given.settings, given.locations, *places)


def train_and_evaluate(folder: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """Train with defaults on `folder / "set"` and evaluate; the content of evaluation.json.

    Args:
        folder: Where all is kept; `set` holds the parts of the training set.
        description: What training_set.json is to say.
    """
    TrainingSetDescription.model_validate(description).write(folder / "set")
    write_definitions(folder / "set")
    project = write_project(folder / "project", folder / "state")
    Parameters(parameters={}).write(folder / "parameters.json")
    train_model(project, folder / "set", folder / "parameters.json", folder / "model")
    evaluate(project, folder / "set", folder / "model", folder / "evaluation")
    found: dict[str, Any] = json.loads((folder / "evaluation" / "evaluation.json").read_text("utf-8"))
    return found
