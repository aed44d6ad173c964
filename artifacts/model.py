"""Model description: what a trained model is, what it needs to be served, and where it comes from."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import ThresholdRule


class CalibrationRecord(Part):
    """How scores became probabilities."""

    method: Method = Method.none
    """How it was fitted."""
    slope: float = 1.0
    """`sigmoid`: probability = logistic(slope · logit(score) + intercept)."""
    intercept: float = 0.0
    """`sigmoid`: see `slope`."""
    knots: list[tuple[float, float]] = Field(default=[])
    """`isotonic`: scores and probabilities, both rising; linear between two, constant outside."""
    hazard_ratio: float = 1.0
    """What follows any method: so many times as many events come, 1 - (1 - probability)^hazard_ratio; where
    `absence`, probability^hazard_ratio."""
    absence: bool = False
    """Whether the label is that no event comes."""


class Importance(Part):
    """How much the ranking rests on one feature."""

    feature: str
    """Its name."""
    value: float
    """ROC AUC that is lost when its values are shuffled among the rows."""
    gain: float | None = None
    """Its share of what all splits gained in training, 0 to 1; null for an estimator without splits."""


class CurvePoint(Part):
    """One point of the learning curve."""

    rows: int
    """Rows that were trained on."""
    roc_auc: float
    """On the validation part."""


class DataOrigin(Part):
    """The data behind a model."""

    version: str = ""
    """DVC's digest of the dataset; the training set's where there is none."""
    remote: str = ""
    """Where dataset versions are kept."""
    training_set: str = ""
    """Digest of the training set's files."""


class CodeOrigin(Part):
    """The code that trained a model."""

    digest: str = ""
    """Content digest of the step's code, by which it can be fetched; else of the modules that train."""
    commit: str = ""
    """Git's name of the commit; empty where the code is in no repository."""
    changed: list[str] = Field(default=[])
    """Files that differed from it."""


class EnvironmentOrigin(Part):
    """The libraries that trained a model."""

    name: str = ""
    """The environment, with its lock's digest."""
    digest: str = ""
    """Digest of the installed distributions."""


class Hardware(Part):
    """The machine that trained a model."""

    cpu: str = ""
    """Its processor."""
    cores: int = 0
    """Cores that could be used."""
    memory_gb: float = 0.0
    """Memory in gibibytes."""
    system: str = ""
    """Its operating system."""
    python: str = ""
    """Version of Python."""


class Origin(Part):
    """What has to be had again to train a model again, and what may explain a difference."""

    remedy: TrainingRemedy = TrainingRemedy.retrain
    """What was made anew."""
    version: str = ""
    """The version whose encoder and estimator it has; empty where it was trained whole."""
    adjustment: Adjustment | None = None
    """What monitoring had measured of that version, and is carried out; null where it was fitted on labelled rows."""
    pipeline_run: str = ""
    """Name of the pipeline's run."""
    artifact_uri: str = ""
    """Where the pipeline keeps the model."""
    data: DataOrigin = DataOrigin()
    """The data."""
    code: CodeOrigin = CodeOrigin()
    """The code."""
    environment: EnvironmentOrigin = EnvironmentOrigin()
    """The libraries."""
    hardware: Hardware = Hardware()
    """The machine."""
    quarantined: int = 0
    """Rows that validation had put aside before the training set was built."""
    build_training_set: StepOrigin = StepOrigin()
    """The step that built the training set; the label query is beside this document, `label_query.sql`."""
    train_model: StepOrigin = StepOrigin()
    """The step that trained the model."""


class Model(Document):
    """The description in a model folder. What serving needs has to be there; the rest is empty for a model that was not
    trained by `train_model`."""

    FILE = "model.json"
    WRITER = "train_model"

    model: str
    """Its name in the registry."""
    version: str | None = None
    """Its version there; null until it is registered."""
    run_id: str = ""
    """The run in MLflow that trained it."""
    inputs: list[Feature] = Field(min_length=1)
    """Its features, in order."""
    feature_service: str = ""
    """The Feast feature service that gives them."""
    feature_version: str = ""
    """Digest of the feature definitions that it was trained on."""
    settings: dict[str, Any] = Field(default={})
    """The sections of the configuration that its features need, as a component's `settings` parameter holds them."""
    key_type: str = ""
    """DuckDB's type of the entity's key, INTEGER, BIGINT or VARCHAR, by which a server knows how a key may be written;
    empty where it is not known."""
    threshold: float
    """It acts from this score on."""
    threshold_by: ThresholdRule | None = None
    """What the threshold makes as good as it can be."""
    calibration: CalibrationRecord = CalibrationRecord()
    """How scores became probabilities."""
    estimator: str = ""
    """Import path of the classifier."""
    parameters: dict[str, Any] = Field(default={})
    """Its parameters where they differ from the library's defaults."""
    seed: int | None = None
    """Seed of the training."""
    onnx_digest: str = ""
    """SHA-256 of `model.onnx`."""
    expected_score: float | None = None
    """Mean of its scores on the validation part, which scores in production are compared with."""
    learned_until: str | None = None
    """The newest snapshot date of the training part: what happened later the model has not seen."""
    notes: list[str] = Field(default=[])
    """What a reader of the model should know, in sentences."""
    limited: list[str] = Field(default=[])
    """What was limited because the table is wide, in sentences."""
    baseline_auc: dict[str, float] = Field(default={})
    """ROC AUC of the baselines on the validation part."""
    importance: list[Importance] = Field(default=[])
    """Of each feature, largest value first."""
    learning_curve: list[CurvePoint] = Field(default=[])
    """The ranking by the number of training rows."""
    origin: Origin = Origin()
    """Where it comes from."""

    @property
    def titles(self) -> dict[str, str]:
        """What people call features whose name is another one."""
        titles: dict[str, str] = self.settings.get("features", {}).get("titles", {})
        return titles
