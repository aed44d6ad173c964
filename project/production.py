"""Configuration of a model in production: its release, its watch, and where each target keeps things."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from project.data import SECRET_PARAMETERS, SECRET_REFERENCE, without_secrets
from project.section import ModelName, Probability, Section


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
    steps: list[Annotated[int, Field(gt=0, le=100)]] = Field(default=[10, 50, 100])
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


_CRON_FIELD = r"(\*|\d+(-\d+)?)(/\d+)?(,(\*|\d+(-\d+)?)(/\d+)?)*"
Cron = Annotated[str, StringConstraints(strip_whitespace=True, pattern=rf"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$")]


class Schedules(Section):
    """When pipelines recur on a cluster: cron expressions, UTC, of minute, hour, day of month, month, day of week.

    Compiling names them as the target wants them; a pipeline without one is started by a person or another system.
    """

    materialization: Cron | None = "0 5 * * *"
    """The online store is filled. It has to recur well within `features.freshness_days`, after which a feature that
    nobody confirmed is missing."""
    monitoring: Cron | None = "0 6 * * *"
    """Drift is looked for."""
    batch_scoring: Cron | None = None
    """All entities are scored."""
    training: Cron | None = None
    """A new candidate is trained, whether or not monitoring asks for one."""


def located(pattern: str, remedy: str) -> AfterValidator:
    """A rule for a store's location: steps and servers can use what matches the pattern.

    The refusal does not repeat the location, which may hold a password.
    """

    def check(location: str) -> str:
        if not re.fullmatch(pattern, location):
            raise PydanticCustomError("store", remedy)
        return location

    return AfterValidator(check)


def folder(remedy: str) -> AfterValidator:
    """A rule for a folder, here or mounted: it has no scheme."""
    return located(r"(?!.*://).*", remedy)


TrackingUri = Annotated[
    str,
    located(
        r"(?!.*://).*|(https?|sqlite|postgresql(\+psycopg)?)://.*",
        "MLflow is reached at https://, http://, postgresql:// or sqlite://; no other driver is here",
    ),
]
DatasetRemote = Annotated[
    str,
    located(
        r"(?!.*://).*|(s3|gs|ssh)://.+",
        "dataset versions are kept in a folder, s3://, gs:// or ssh://; choose one of these",
    ),
]


def _no_password(location: str) -> str:
    """A location, if its password is the name of a variable."""
    password = location.partition("://")[2].rpartition("@")[0].partition(":")[2]
    given = parse_qsl(location.partition("?")[2])
    passwords = [password, *(value for name, value in given if SECRET_PARAMETERS.fullmatch(name))]
    if any(value and not SECRET_REFERENCE.fullmatch(value) for value in passwords):
        raise PydanticCustomError(
            "store",
            "a password stands in it, and a project is embedded in every pipeline. Write ${NAME} in its place: steps "
            "and servers take NAME from their environment or from a mounted secret",
        )
    return location


OnlineStore = Annotated[
    str,
    located(
        r"(?!.*://).*|rediss?://([^/]*@)?[^/@:]+:\d+(/\d*)?|postgresql://[^/@]+@[^/@]+/[^/?]+(\?.*)?|"
        r"bigtable://[^/?]+/[^/?]+(\?.*)?|feast://[a-z0-9_.]+(\?.*)?",
        "the online store is a SQLite file, redis://HOST:PORT (rediss:// for TLS), "
        "postgresql://USER:${PASSWORD}@HOST/DATABASE, bigtable://PROJECT/INSTANCE or feast://TYPE?SETTING=VALUE; "
        "choose one of these",
    ),
    AfterValidator(_no_password),
]


def _in_clear(location: str) -> str:
    return without_secrets(location) if location.startswith(("bigquery:", "snowflake:")) else location


OfflineStore = Annotated[
    str,
    located(
        r"duckdb|bigquery://[^/]+/\w+(\?location=[\w-]+)?|snowflake://[^/]+@[^/@]+/[^/?]+/[^/?]+(\?.*)?"
        r"|sc://[^/@:]+:\d+(/(;(?!token=)[^;]+|;token=\$\{\w+\})*)?",
        "the offline store is duckdb, bigquery://PROJECT/DATASET, snowflake://USER:${PASSWORD}@ACCOUNT/DATABASE/SCHEMA "
        "or, for Spark Connect, sc://HOST:PORT/;token=${TOKEN}; write secrets as such names, which the step takes from "
        "its environment or from a mounted secret",
    ),
    AfterValidator(_in_clear),
]
PredictionLog = Annotated[
    str,
    folder(
        "the prediction log is a folder that servers append to, and an object store cannot be appended to; "
        "mount a volume or a bucket, and name the folder that it is mounted on (on Vertex AI /gcs/BUCKET)"
    ),
]
StudyStore = Annotated[
    str, folder("the search is kept in a folder; mount a volume, and name the folder that it is mounted on")
]
Serving = Annotated[
    str,
    located(
        r"local:.+|kserve:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|vertex:[a-z0-9][a-z0-9:.-]*/[a-z]+-[a-z]+[0-9]+",
        "models are released to local:FOLDER, kserve:NAMESPACE or vertex:PROJECT/LOCATION, such as "
        "vertex:my-project/europe-west4",
    ),
]


class Store(Section):
    """Where a target keeps what outlives a run. Each becomes a pipeline parameter of the same name."""

    tracking_uri: TrackingUri
    """MLflow tracking server."""
    dataset_remote: DatasetRemote
    """DVC remote for dataset versions: a folder, `s3://`, `gs://` or `ssh://`."""
    online_store: OnlineStore
    """Feast online store: a SQLite file, `redis://HOST:PORT`, `postgresql://USER:${NAME}@HOST/DATABASE`,
    `bigtable://PROJECT/INSTANCE`, or `feast://TYPE?SETTING=VALUE&…` for another one of Feast's, where its client is
    installed. A password is the name of a variable (`${NAME}`) that steps and servers find in their environment."""
    prediction_log: PredictionLog
    """Folder the servers write predictions to."""
    serving: Serving
    """Where models are released: `local:FOLDER`, `kserve:NAMESPACE` or `vertex:PROJECT/LOCATION`."""
    offline_store: OfflineStore = "duckdb"
    """What computes the feature views for training sets and batch scores: `duckdb`, in the step itself,
    `bigquery://PROJECT/DATASET?location=REGION`, `snowflake://USER:${NAME}@ACCOUNT/DATABASE/SCHEMA?warehouse=…&role=…`
    or Spark Connect, `sc://HOST:PORT`. The definitions are the same."""
    study_store: StudyStore = ""
    """Folder that keeps a search for hyperparameters which was cut off, so that the next run goes on with it; on a
    cluster a mounted one. Empty: it starts anew."""

    def locations(self) -> dict[str, str]:
        """Each store's location by its name."""
        return self.model_dump(mode="json", include=set(Store.model_fields))


ClaimName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$")]


class KubeflowStore(Store):
    """Stores of a Kubeflow, with the secrets and volumes that they need."""

    secrets: dict[SecretName, dict[SecretKey, Variable]] = Field(default={})
    """Kubernetes secrets in the namespace of the runs, whose keys become variables of every step:
    `mlflow: {password: MLFLOW_TRACKING_PASSWORD}`. Only names stand here and in the compiled pipeline."""
    volumes: dict[ClaimName, MountPath] = Field(default={})
    """PersistentVolumeClaims that every step mounts, and every server on KServe in the same namespace: where, by name.
    Without one for `prediction_log` each server's log is gone with its pod."""


class Targets(Section):
    """The stores of each cluster. The local target keeps everything in `.lifecycle/`."""

    kubeflow: KubeflowStore | None = None
    """Stores of a self-hosted Kubeflow, with secrets and volumes for its steps."""
    vertex: Store | None = None
    """Stores on Vertex AI."""
