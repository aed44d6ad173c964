"""Locations: where a target keeps what outlives a run. A step is told them in its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from kfp_lifecycle.config.data import SECRET_PARAMETERS, SECRET_REFERENCE, without_secrets
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.section import Section


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
            "a password stands in it, and every pipeline carries it to its steps. Write ${NAME} in its place: steps "
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
    located(
        r"(?!.*://).*|(s3|gs|minio)://[^/].*[^/]",
        "the prediction log is a folder that servers and steps share, here or mounted (on Vertex AI /gcs/BUCKET), or a "
        "folder of an object store, s3://, gs:// or minio://, without a slash at the end; choose one of these",
    ),
]
AuditRecord = Annotated[
    str,
    located(
        r"(?!.*://).*|(s3|gs|minio)://[^/].*[^/]",
        "the audit record is a file here, or a folder of an object store, s3://, gs:// or minio://, without a slash at "
        "the end, that steps may list, read and create objects in; choose one of these",
    ),
]
StudyStore = Annotated[
    str, folder("the search is kept in a folder; mount a volume, and name the folder that it is mounted on")
]


@dataclass(frozen=True)
class LocalServing:
    """Servers of this machine."""

    folder: Path
    """Where they keep what they serve."""


@dataclass(frozen=True)
class KServeServing:
    """InferenceServices of a cluster with KServe."""

    namespace: str


@dataclass(frozen=True)
class VertexServing:
    """Endpoints of Vertex AI."""

    project: str
    """The Google Cloud project."""
    location: str
    """Its region."""


_SERVING = (
    r"local:(?P<folder>.+)|kserve:(?P<namespace>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
    r"|vertex:(?P<project>[a-z0-9][a-z0-9:.-]*)/(?P<location>[a-z]+-[a-z]+[0-9]+)"
)
Serving = Annotated[
    str,
    located(
        _SERVING,
        "models are released to local:FOLDER, kserve:NAMESPACE or vertex:PROJECT/LOCATION, such as "
        "vertex:my-project/europe-west4",
    ),
]


def serving_place(location: str) -> LocalServing | KServeServing | VertexServing:
    """Where models are released, taken apart.

    Raises:
        ValueError: it is no such location.
    """
    found = re.fullmatch(_SERVING, location)
    if found is None:
        raise ValueError(f"{location!r} is not local:FOLDER, kserve:NAMESPACE or vertex:PROJECT/LOCATION")
    if found["folder"]:
        return LocalServing(Path(found["folder"]))
    if found["namespace"]:
        return KServeServing(found["namespace"])
    return VertexServing(found["project"], found["location"])


class Locations(Section):
    """Where a target keeps what outlives a run. Each step is told those that it declares, in environment
    variables: they change nothing of what a step computes, and are in no cache key of Kubeflow Pipelines."""

    tracking_uri: TrackingUri
    """MLflow tracking server."""
    dataset_remote: DatasetRemote
    """DVC remote for dataset versions: a folder, `s3://`, `gs://` or `ssh://`."""
    online_store: OnlineStore
    """Feast online store: a SQLite file, `redis://HOST:PORT`, `postgresql://USER:${NAME}@HOST/DATABASE`,
    `bigtable://PROJECT/INSTANCE`, or `feast://TYPE?SETTING=VALUE&…` for another one of Feast's, where its client is
    installed. A password is the name of a variable (`${NAME}`) that steps and servers find in their environment."""
    prediction_log: PredictionLog
    """Where servers write predictions: a folder, here or mounted, or one of an object store (`s3://`, `gs://`,
    `minio://`), which gets them once a minute."""
    serving: Serving
    """Where models are released: `local:FOLDER`, `kserve:NAMESPACE` or `vertex:PROJECT/LOCATION`."""
    offline_store: OfflineStore = "duckdb"
    """What computes the feature views for training sets and batch scores: `duckdb`, in the step itself,
    `bigquery://PROJECT/DATASET?location=REGION`, `snowflake://USER:${NAME}@ACCOUNT/DATABASE/SCHEMA?warehouse=…&role=…`
    or Spark Connect, `sc://HOST:PORT`. The definitions are the same."""
    study_store: StudyStore = ""
    """Folder that keeps a search for hyperparameters which was cut off, so that the next run goes on with it; on a
    cluster a mounted one. Empty: it starts anew."""

    audit_record: AuditRecord = ""
    """Who promoted, released, approved and forgot what: a folder of an object store, such as one below the pipeline
    root. Empty: on a cluster nobody keeps it. On this machine it is a file beside what is served."""

    def as_variables(self, names: Iterable[str]) -> dict[str, str]:
        """Some locations as the environment variables that steps read."""
        return {variable(name): getattr(self, name) for name in sorted(names)}

    @classmethod
    def from_environment(cls, names: Iterable[str], step: str) -> Self:
        """The locations that a step declares, out of its environment variables.

        Args:
            names: What the component declares. Reading another one raises AttributeError.
            step: The component's name, for messages.

        Raises:
            ConfigurationError: one is not set, or is no such location; the message does not repeat it.
        """
        found: dict[str, Any] = {}
        for name in names:
            field = cls.model_fields[name]
            value = os.environ.get(variable(name))
            if value is None and field.is_required():
                raise ConfigurationError(
                    f"{step} does not know {name} ({(field.description or '').splitlines()[0].rstrip('.')}): the "
                    f"variable {variable(name)} is not set. Compile with targets.….{name} in pipeline.yaml, or set it "
                    f"on the task: task.set_env_variable({variable(name)!r}, …)"
                )
            kind: Any = Annotated[field.annotation, *field.metadata]
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
            try:
                found[name] = field.get_default() if value is None else adapter.validate_python(value)
            except ValidationError as error:
                raise ConfigurationError(f"{variable(name)} cannot be used: {error.errors()[0]['msg']}") from error
        return cls.partial(found)


def variable(name: str) -> str:
    """The environment variable of a location."""
    return f"LIFECYCLE_{name.upper()}"


def local_locations(state: Path, project: str) -> Locations:
    """The locations of this machine: everything below the state folder."""
    return Locations(
        tracking_uri=f"sqlite:///{state / 'mlflow.db'}",
        dataset_remote=str(state / "datasets" / project),
        online_store=str(state / "online" / f"{project}.db"),
        prediction_log=str(state / "predictions"),
        serving=f"local:{state / 'serving'}",
        study_store=str(state / "studies"),
        audit_record=str(state / "serving" / "audit.jsonl"),
    )
