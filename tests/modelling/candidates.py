"""Small candidates on the way from training to the verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.evaluation.decide_promotion.promotion import decide
from tests.modelling.business import write_project, write_training_set
from tests.modelling.evaluated import evaluate
from tests.modelling.trained import train_model
from tests.projects import read_project

# What a good model of the small business meets with room to spare.
RULES = [
    {"metric": "performance.roc_auc", "min": 0.6},
    {"metric": "performance.strongest_feature_roc_auc", "max": 0.95, "why": "What ranks so well is a leak."},
    {"metric": "performance.roc_auc.channel=new", "min": 0.6, "unmeasured": "waive"},
    {"metric": "fairness.demographic_parity_ratio.group", "min": 0.7, "unmeasured": "waive"},
    {"metric": "calibration.slope", "min": 0.6, "unmeasured": "waive"},
    {"metric": "robustness.worst_missing_feature_auc_drop", "max": 0.22},
    {"metric": "latency.p50_ms", "max": 5},
]
# Small steps with many leaves would remember these few rows.
PARAMETERS = {"max_iter": 25, "max_leaf_nodes": 6}


class Candidate:
    """A project with a training set and the models trained on it, each with its evaluation."""

    def __init__(
        self,
        place: Path,
        change: Any = None,
        training: dict[str, Any] | None = None,
        state: Path | None = None,
    ) -> None:
        """Train and evaluate `model`; `state` is the folder of a registry that there is already."""
        settings = {"parameters": PARAMETERS, **(training or {})}
        self.place = place
        self.state = state or place / "state"
        self.project = write_project(
            place / "project",
            self.state,
            gate={"rules": RULES},
            training=settings,
            evaluation={"bootstrap_replicates": 60, "explained_rows": 40, "latency_requests": 40},
        )
        self.training_set = write_training_set(place / "set", rows=700, change=change)
        self.train("model", settings["parameters"])
        self.evaluate("model")

    @property
    def tracking_uri(self) -> str:
        """Of the registry."""
        return read_project(self.project).locations.tracking_uri

    def train(self, name: str, parameters: dict[str, Any]) -> None:
        """Write the model artifact `name`."""
        Parameters(parameters=parameters).write(self.place / "parameters")
        train_model(self.project, self.training_set, self.place / "parameters", self.place / name)

    def evaluate(self, name: str) -> None:
        """Write the evaluation of a model as `<name>-evaluation`."""
        evaluate(self.project, self.training_set, self.place / name, self.place / f"{name}-evaluation")

    def with_rules(self, rules: list[dict[str, Any]], **champion: Any) -> Path:
        """A copy of the project with other rules, and other demands on what beats the champion."""
        project = self.place / "other-project"
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(self.project, project)
        content = yaml.safe_load((project / "pipeline.yaml").read_text("utf-8"))
        content["gate"] = {"rules": rules, "champion": champion}
        (project / "pipeline.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        return project

    def decide(
        self, name: str = "model", project: Path | None = None, evaluation: str = "", asked_by: str = ""
    ) -> dict[str, Any]:
        """The verdict on a model."""
        given = read_project(project or self.project)
        decide(
            given.settings,
            given.locations,
            self.place / "validated",
            self.training_set,
            self.place / name,
            self.place / (evaluation or f"{name}-evaluation"),
            self.place / "verdict",
            self.place / "approved",
            asked_by,
        )
        verdict: dict[str, Any] = json.loads((self.place / "verdict").read_text("utf-8"))
        return verdict
