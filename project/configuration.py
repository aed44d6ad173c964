"""What a team brings: `pipeline.yaml`, typed and explained. Every threshold of the library is a field here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
# A name that also becomes a Kubernetes object and a URL segment.
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,51}[a-z0-9])?$")]
RelativePath = Annotated[str, StringConstraints(pattern=r"^(?!/)(?!.*(?:^|/)\.\.(?:/|$))[^\\\0]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors, so that a typing mistake never becomes a default."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, regex_engine="python-re")


class Entity(Section):
    """What a prediction is about."""

    name: Name
    """The entity's name, as the Feast definitions call it."""
    key: Name
    """Column that identifies one entity in every table, feature view and request."""


class Table(Section):
    """One source table. The query may reshape it; all later steps see the result."""

    key: list[Name] = Field(min_length=1)
    """Columns that together identify a row: no two rows may share them."""
    event_time: Name
    """When the thing happened. A feature as of a date sees no row that happened after it."""
    arrival_time: Name | None = None
    """When the row became known, if later. A feature as of a date sees no row that arrived after it."""
    label_only: bool = False
    """Only the label's query sees this table: no feature can be computed from it."""
    query: str | None = None
    """SQL (DuckDB) that produces the table from the source; by default the source's table of the same name, whole.
    A file source is visible to it as `source`."""


class SourceFormat(StrEnum):
    """How a file source is to be read."""

    duckdb = "duckdb"
    parquet = "parquet"
    csv = "csv"
    jsonl = "jsonl"
    text = "text"


class Source(Section):
    """Where the data comes from."""

    url: str = Field(min_length=1)
    """`duckdb:///FILE`, `file:///FILE_OR_FOLDER` (a path without a leading slash is relative to the working folder), or
    `package://PACKAGE/FILE` for a file inside an installed Python package."""
    format: SourceFormat = SourceFormat.duckdb
    """How to read it. `text` gives one column, `line`, for the table's query to take apart."""
    tables: dict[Name, Table] = Field(min_length=1)
    """The tables to ingest, by name."""


class Validation(Section):
    """When a batch is bad."""

    expectations: RelativePath = "expectations"
    """Folder with a TFDV schema for each table (`<table>.pbtxt`) and the business rules (`rules.yaml`)."""
    examples: int = Field(default=3, ge=0, le=20)
    """How many offending values a message shows."""
    drift_threshold: Probability = 0.2
    """Largest allowed distance (Jensen-Shannon for numbers, L-infinity for categories, 0 to 1) of a column from the
    last accepted snapshot; it is a warning, since a business may change."""
    max_rows: int | None = Field(default=None, gt=0)
    """Refuse a table with more rows than this; none by default."""
    sample_rows: int = Field(default=2_000_000, ge=1000)
    """Of a larger table, statistics and expectations look at a sample of about this many rows, and the report says so.
    Keys, times and SQL rules always see every row."""


class Snapshots(Section):
    """The dates as of which training rows are made: one row for each entity and date."""

    every_days: int = Field(default=30, gt=0)
    """Days between two dates."""
    count: int = Field(default=12, gt=0)
    """How many dates at the most, counted back from the newest whose label is known."""


class Label(Section):
    """What is predicted."""

    name: Name
    """The label's column: 1 for the event, 0 for none."""
    title: str
    """The event in words, for reports: "churns within 30 days"."""
    query: RelativePath = "feature_repo/label.sql"
    """SQL that gives the entity key and the label for every entity that is a customer at `$snapshot`. It sees all rows,
    also later ones; its window ends `$horizon` after the snapshot."""
    horizon_days: int = Field(gt=0)
    """Days after the snapshot until the label is known. Nothing is trained on a label before that, and the parts of the
    split are this far apart."""


class Split(Section):
    """Which snapshots train, validate and test: always in this order of time."""

    validation_snapshots: int = Field(default=2, gt=0)
    """Snapshots that choose parameters, calibrate and set the decision threshold."""
    test_snapshots: int = Field(default=2, gt=0)
    """The newest snapshots, which only the evaluation sees."""


class Present(StrEnum):
    """What a served model takes for the present, where a request names no time."""

    now = "now"
    data = "data"


class Features(Section):
    """Where features are defined, and which a model uses."""

    repository: RelativePath = "feature_repo"
    """The Feast repository: definitions in `features.py`, one `<view>.sql` for each feature view."""
    service: Name
    """The Feast feature service whose features the model is trained on and served with."""
    sensitive: list[str] = []
    """Features (`view:feature`) that fairness is judged by. They join the training set and are never used for
    prediction unless the feature service names them too."""
    freshness_days: int = Field(default=35, gt=0)
    """A feature older than this is missing, in training as in serving."""
    present: Present = Present.now
    """Time of a request that names none. `now` is the clock; `data` is the time of the newest row in the online store,
    for a project on historical data, whose every feature would otherwise be too old."""


class Engine(StrEnum):
    """Who searches for hyperparameters."""

    optuna = "optuna"
    none = "none"


class FloatRange(Section):
    """A real number between two bounds."""

    type: Literal["float"]
    """A real number."""
    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low}")
        return self


class IntRange(Section):
    """A whole number between two bounds, both included."""

    type: Literal["int"]
    """A whole number."""
    low: int
    """The smallest value."""
    high: int
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low}")
        return self


class Choice(Section):
    """One of several values."""

    type: Literal["categorical"]
    """One of a list."""
    choices: list[str | int | float | bool] = Field(min_length=1)
    """The values to try."""


SearchDimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]


class Tuning(Section):
    """The search for hyperparameters. The plain default is always its first trial."""

    engine: Engine = Engine.optuna
    """`optuna` searches in this step; `none` keeps the parameters of `training`."""
    trials: int = Field(default=12, gt=0)
    """How many settings are tried, the default among them."""
    timeout_seconds: int = Field(default=120, gt=0)
    """No new trial starts after this many seconds."""
    space: dict[str, SearchDimension] = {}
    """The estimator's parameters and the values to try."""


class Calibration(StrEnum):
    """How scores become probabilities, fitted on the validation snapshots."""

    sigmoid = "sigmoid"
    isotonic = "isotonic"
    none = "none"


class Costs(Section):
    """What decisions are worth, in the project's currency; they set the decision threshold."""

    saved: float = Field(default=100.0, gt=0)
    """What it is worth when the event would have come and the action prevented it."""
    action: float = Field(default=10.0, gt=0)
    """What acting on one entity costs, needed or not."""
    success_rate: Probability = 0.3
    """Share of actions that prevent the event."""
    currency: str = "USD"
    """For reports."""


class Training(Section):
    """The model."""

    estimator: str = Field(
        default="sklearn.ensemble.HistGradientBoostingClassifier", pattern=r"^sklearn(\.[A-Za-z_][A-Za-z0-9_]*)+$"
    )
    """Import path of a scikit-learn classifier that gives probabilities."""
    parameters: dict[str, Any] = {}
    """Its parameters where they differ from the library's defaults."""
    calibration: Calibration = Calibration.sigmoid
    """How scores become probabilities: `sigmoid`, `isotonic` or `none`; fitted on the validation snapshots."""
    costs: Costs = Costs()
    """What decisions are worth."""
    smallest_class: int = Field(default=10, gt=1)
    """Fewer rows than this of either class, in any part of the split, refuse the training: nothing could be learned."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Makes training, tuning and evaluation repeatable."""


class Evaluation(Section):
    """How the candidate is examined."""

    bootstrap_replicates: int = Field(default=200, ge=50, le=10_000)
    """Resamples behind every 95% interval; whole entities are drawn."""
    smallest_group: int = Field(default=100, gt=0)
    """A group with fewer rows is shown and said to be too small to judge."""
    explained_rows: int = Field(default=300, gt=0)
    """Rows that SHAP explains."""
    latency_requests: int = Field(default=300, gt=0)
    """Requests behind the latency figures."""


class Bound(StrEnum):
    """What of a measured value has to meet the threshold."""

    estimate = "estimate"
    confidence = "confidence"


class GateRule(Section):
    """One condition for promotion. A metric that was not measured fails its rule."""

    metric: str = Field(pattern=r"^[a-z_]+(\.[A-Za-z0-9_:<>=\-+ ]+)+$")
    """`dimension.metric` or `dimension.metric.slice`, as the evaluation names it, such as
    `fairness.demographic_parity_ratio.gender`."""
    at_least: float | None = None
    """The smallest value that passes."""
    at_most: float | None = None
    """The largest value that passes."""
    bound: Bound = Bound.estimate
    """`estimate` compares the value itself, `confidence` the worse end of its 95% interval."""
    why: str = ""
    """The reason for the rule, shown in reports."""

    @model_validator(mode="after")
    def _has_a_threshold(self) -> GateRule:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"the gate rule for {self.metric} needs at_least, at_most or both")
        return self


class Champion(Section):
    """The comparison with the model in production, on the same test rows."""

    metric: Literal["roc_auc", "average_precision", "brier_score", "log_loss", "expected_value"] = "roc_auc"
    """What is compared, both models on the same rows."""
    margin: float = Field(default=0.0, ge=0)
    """How much better than the champion the candidate has to be, in the metric's own unit."""


class Gate(Section):
    """What a candidate must meet, all of it, to be promoted."""

    rules: list[GateRule] = Field(min_length=1)
    """All must hold."""
    champion: Champion = Champion()
    """And the candidate must be better than this."""


class Strategy(StrEnum):
    """How traffic moves to a new model."""

    canary = "canary"
    blue_green = "blue_green"
    shadow = "shadow"


class Deployment(Section):
    """How an approved model is served."""

    model: ModelName
    """The model's name in the registry, the URL and the cluster."""
    strategy: Strategy = Strategy.canary
    """`canary` moves traffic in `steps`, `blue_green` at once, `shadow` mirrors it first and then moves it at once."""
    steps: list[Annotated[int, Field(gt=0, le=100)]] = [10, 50, 100]
    """Percentages of traffic, rising to 100."""
    requests_per_step: int = Field(default=200, gt=0)
    """Requests that the release itself sends at each step, so that there is something to compare."""
    max_error_rate: Probability = 0.01
    """More failing requests than this during a step return all traffic to the champion."""
    max_latency_p99_ms: float = Field(default=500.0, gt=0)
    """A slower 99th percentile during a step returns all traffic to the champion."""
    http_port: int = Field(default=8080, ge=1024, le=65535)
    """Port of the endpoint on one machine; gRPC takes the next."""
    max_replicas: int = Field(default=3, gt=0)
    """Pods at the most, on a cluster."""
    min_replicas: int = Field(default=1, ge=0)
    """Pods at the least, on a cluster; 0 scales to zero where the cluster can."""

    @model_validator(mode="after")
    def _steps_rise(self) -> Deployment:
        if not self.steps or self.steps[-1] != 100 or sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps must rise and end with 100, not {self.steps}")
        return self


class Monitoring(Section):
    """When production has moved away from what the model knows."""

    schedule: str = "0 6 * * *"
    """Cron expression of the recurring pipeline."""
    window_days: int = Field(default=7, gt=0)
    """Age of the oldest prediction that is looked at."""
    smallest_window: int = Field(default=100, gt=0)
    """Fewer predictions than this decide nothing, and the report says so."""
    significance: Probability = 0.01
    """A column drifts when its p-value, corrected for the number of columns (Holm), is below this …"""
    smallest_effect: Probability = 0.1
    """… and its distance (Jensen-Shannon, 0 to 1) is above this."""
    drifted_share: Probability = 0.3
    """Retraining is asked for when more than this share of the features drifts, or the score does."""


class Store(Section):
    """Where a target keeps what outlives a run. Each becomes a pipeline parameter of the same name."""

    tracking_uri: str
    """MLflow tracking server."""
    dataset_remote: str
    """DVC remote for dataset versions: a folder, `s3://`, `gs://` or `ssh://`."""
    online_store: str
    """Feast online store: a SQLite file or `redis://HOST:PORT`."""
    prediction_log: str
    """Folder the servers write predictions to."""
    serving: str
    """Where models are released: `local:FOLDER`, `kserve:NAMESPACE` or `vertex:PROJECT/LOCATION`."""


class Targets(Section):
    """The stores of each cluster. The local target keeps everything in `.lifecycle/`."""

    kubeflow: Store | None = None
    """Stores of a self-hosted Kubeflow."""
    vertex: Store | None = None
    """Stores on Vertex AI."""


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
