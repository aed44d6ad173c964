"""What a team brings: `pipeline.yaml`, typed and explained. Every threshold of the library is a field of it."""

from __future__ import annotations

from pydantic import model_validator

from project.data import Entity, Source
from project.evaluation import Evaluation
from project.features import Features, Label, Snapshots, Split
from project.gate import Gate
from project.production import Deployment, Monitoring, Schedules, Targets
from project.section import Name, Section
from project.training import Training
from project.tuning import Tuning
from project.validation import Validation


class Configuration(Section):
    """A project's `pipeline.yaml`."""

    name: Name
    """The project's name; runs, experiments and feature stores carry it."""
    title: str
    """The project in a few words, for reports."""
    description: str = ""
    """What it is for and who answers for it."""
    entity: Entity
    """What a prediction is about."""
    source: Source
    """Where the data comes from."""
    validation: Validation = Validation()
    """When a batch is bad."""
    snapshots: Snapshots = Snapshots()
    """The dates as of which training rows are made."""
    label: Label
    """What is predicted."""
    split: Split = Split()
    """Which snapshots train, validate and test."""
    features: Features
    """Where features are defined, and which a model uses."""
    tuning: Tuning = Tuning()
    """The search for hyperparameters."""
    training: Training = Training()
    """The model."""
    evaluation: Evaluation = Evaluation()
    """How the candidate is examined."""
    gate: Gate
    """What a candidate must meet to be promoted."""
    deployment: Deployment
    """How an approved model is served."""
    monitoring: Monitoring = Monitoring()
    """When production has moved away from the model."""
    schedules: Schedules = Schedules()
    """When pipelines recur on a cluster."""
    targets: Targets = Targets()
    """Where each cluster keeps what outlives a run."""

    @model_validator(mode="after")
    def _enough_snapshots(self) -> Configuration:
        needed = self.split.validation_snapshots + self.split.test_snapshots + 1
        if self.snapshots.count < needed:
            raise ValueError(
                f"snapshots.count is {self.snapshots.count}, but the split needs at least {needed}: "
                f"{self.split.validation_snapshots} to validate, {self.split.test_snapshots} to test, 1 to train"
            )
        return self
