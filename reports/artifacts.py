"""The artifacts of a run as the report reads them: each file typed, so that a broken one is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kfp_lifecycle.runtime.contract import ContractViolation


@dataclass(frozen=True)
class ArtifactView:
    """Where an artifact is on this machine, and what its step recorded about it."""

    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)


class KfpArtifact(Protocol):
    """A KFP artifact, as far as a view of it needs one."""

    path: str
    metadata: dict[str, Any]


def views(**artifacts: KfpArtifact | None) -> dict[str, ArtifactView]:
    """The artifacts that a step was given, by name; those left out are None and have no view."""
    return {
        name: ArtifactView(Path(artifact.path), dict(artifact.metadata))
        for name, artifact in artifacts.items()
        if artifact is not None
    }


class Content(BaseModel):
    """Part of an artifact. What a later version of a step adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Table(Content):
    """One table of a dataset."""

    rows: int
    columns: dict[str, str] = {}


class Manifest(Content):
    """`manifest.json` of a dataset."""

    as_of: str
    tables: dict[str, Table]


class Check(Content):
    """One check of the data."""

    table: str
    column: str | None = None
    layer: str
    rule: str
    severity: str = "error"
    passed: bool
    rows: int | None = None
    """Rows that broke the rule."""
    share: float | None = None
    """Their share of the table's rows, 0 to 1."""
    examples: list[Any] = []
    remedy: str | None = None


class Validation(Content):
    """`validation.json` of validated data."""

    checks: list[Check]


class Feature(Content):
    """One input of the model."""

    name: str
    type: str


class TrainingSet(Content):
    """`training_set.json`: what is learnt from, and how time divides it. Parts are `train`, `validation` and `test`."""

    entity: str
    label: str
    features: list[Feature]
    sensitive: list[str] = []
    feature_service: str
    feature_version: str
    snapshots: dict[str, list[date]]
    rows: dict[str, int]
    positives: dict[str, int]
    as_of: str = ""


class Parameters(Content):
    """The chosen hyperparameters, and how much better than the default they are on the validation snapshots."""

    parameters: dict[str, Any]
    trials: int
    best_value: float | None = None
    default_value: float | None = None


class Importance(Content):
    """How much a feature matters to the model."""

    feature: str
    value: float


class Model(Content):
    """`model.json`: what was trained, from what, and how."""

    model: str
    inputs: list[Feature] = []
    feature_service: str = ""
    feature_version: str = ""
    threshold: float | None = None
    calibration: dict[str, Any] = {}
    """How scores became probabilities: `method`, and what was fitted."""
    estimator: str = ""
    parameters: dict[str, Any] = {}
    seed: int | None = None
    run_id: str = ""
    importance: list[Importance] = []
    version: str | int | None = None


class Metric(Content):
    """A measured value and its 95% interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None


class Section(Content):
    """A table of the evaluation, such as the confusion matrix or the groups of a sensitive column."""

    dimension: str
    title: str
    columns: list[str]
    rows: list[list[Any]]


class Evaluation(Content):
    """`evaluation.json`: every metric by `dimension.metric[.slice]`."""

    metrics: dict[str, Metric]
    notes: list[str] = []
    sections: list[Section] = []


class RuleVerdict(Content):
    """What one rule of the gate says."""

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    min: float | None = None
    max: float | None = None
    bound: str = "estimate"
    waived: bool = False
    """Whether nothing was measured and the rule lets the others decide then."""
    passed: bool
    margin: float | None = None
    """How far inside the threshold the value is, in the metric's unit; below 0 it is outside."""
    why: str = ""
    sentence: str = ""


class ComparisonVerdict(Content):
    """How the candidate compares with the model in production in one metric, on the same rows."""

    metric: str
    window: str = "newest"
    """`newest`, or `champion` for the rows that the champion was judged by."""
    demand: str = "superiority"
    """`superiority` or `non_inferiority`."""
    margin: float = 0.0
    champion: float | None = None
    candidate: float | None = None
    difference: float | None = None
    """How much better the candidate is."""
    low: float | None = None
    high: float | None = None
    passed: bool
    sentence: str = ""


class ChampionVerdict(Content):
    """How the candidate compares with the model in production."""

    version: str | int | None = None
    passed: bool
    sentence: str = ""
    notes: list[str] = []
    comparisons: list[ComparisonVerdict] = []
    """None where the champion could not be asked."""


class Verdict(Content):
    """What the gate decided."""

    decision: str
    model: str = ""
    rules: list[RuleVerdict]
    champion: ChampionVerdict | None = None
    sentences: list[str] = []


class Latency(Content):
    """How long requests of one row took, in milliseconds, with so many clients at once."""

    clients: int
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class ServerStart(Content):
    """What the server needed to start, and to answer."""

    ready_seconds: float
    peak_memory_mb: float | None = None
    """None where the system does not tell."""


class Serving(Content):
    """`serving.json` of a servable model: how the real server did with it."""

    latency: Latency
    concurrent_latency: Latency
    server: ServerStart


class ReleaseStep(Content):
    """One share of traffic, and how the new model answered it."""

    percent: float
    requests: int | None = None
    errors: int | None = None
    p99_ms: float | None = None


class Deployment(Content):
    """What is deployed, where, and how it got there."""

    url: str
    grpc: str | None = None
    model: str
    version: str | int
    previous_version: str | int | None = None
    strategy: str = ""
    steps: list[ReleaseStep] = []
    example: dict[str, Any] = {}
    """A v2 request that the model answers."""


Read = TypeVar("Read")


def read(artifact: ArtifactView, kind: type[Read], file: str = "") -> Read:
    """Read a JSON file of an artifact.

    Args:
        artifact: The artifact: a folder, or the file itself.
        kind: What it holds.
        file: The file's name in the folder; empty where the artifact is the file.

    Raises:
        ContractViolation: the file is missing, is not JSON, or does not hold what it should.
    """
    place = artifact.path / file if file else artifact.path
    remedy = "Run the step that writes it again; if that gives the same file, the step and the report disagree."
    try:
        return TypeAdapter(kind).validate_python(json.loads(place.read_text(encoding="utf-8")))
    except OSError as error:
        raise ContractViolation(
            f"The report needs {place}, which cannot be read ({error.strerror}). {remedy}"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractViolation(f"The report needs {place}, which is not JSON ({error}). {remedy}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise ContractViolation(f"The report cannot use {place}: {wrong}. {remedy}") from error


def started_at(artifact: ArtifactView) -> datetime | None:
    """When the step that wrote an artifact began, as `kfp_lifecycle.runtime.contract.step` recorded it."""
    recorded = artifact.metadata.get("started_at")
    return datetime.fromisoformat(recorded) if isinstance(recorded, str) else None


def seconds(artifact: ArtifactView) -> float | None:
    """How long the step that wrote an artifact worked."""
    recorded = artifact.metadata.get("seconds")
    return float(recorded) if isinstance(recorded, (int, float)) else None
