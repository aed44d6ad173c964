"""What a team brings: `pipeline.yaml`, typed and explained. Every threshold of the library is a field of it."""

from __future__ import annotations

from pydantic import model_validator

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.data import Entity, Source
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.evaluation import Evaluation
from kfp_lifecycle.config.features import Features, Label, Snapshots, Split
from kfp_lifecycle.config.gate import Gate
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.config.schedules import Schedules
from kfp_lifecycle.config.section import Name, Section
from kfp_lifecycle.config.targets import Targets
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.config.validation import Validation


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
    alerts: Alerts = Alerts()
    """When Prometheus tells that a served model is not well."""
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
