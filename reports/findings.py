"""Findings of a report: what each artifact has to say to a reader, out of its typed document."""

from __future__ import annotations

import base64
import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.evaluation import Evaluation, Metric, Section
from kfp_lifecycle.artifacts.model import Importance, Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.artifacts.titles import Titles, slice_title
from kfp_lifecycle.artifacts.training_set import PartName, TrainingSetDescription
from kfp_lifecycle.artifacts.validation import CheckResult, ValidationResults
from kfp_lifecycle.artifacts.verdict import ChampionOutcome, Comparison, Judgement, Verdict
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.reports.geometry import IntervalBar, SnapshotMark, interval_bar, snapshot_marks

# More metrics than this in one dimension are not read at once.
MANY_METRICS = 16
PARTS: tuple[PartName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Layer:
    """The checks of one kind."""

    name: str
    checks: int
    failed: int


@dataclass(frozen=True)
class DataFindings:
    """The data of the run, and what its checks found."""

    as_of: datetime
    tables: dict[str, TableSummary]
    layers: list[Layer] = field(default_factory=list)
    failed: list[CheckResult] = field(default_factory=list)
    """Broken rules, those that stop a run before those that only warn."""
    passed: list[CheckResult] = field(default_factory=list)
    titles: Titles = field(default_factory=dict)
    """What people call columns whose name is another one."""


def data_findings(dataset: Path, training_set: Path | None) -> DataFindings:
    """Read a dataset's manifest, where it was validated its checks, and how the training set calls its columns."""
    manifest = Manifest.read(dataset)
    titles = TrainingSetDescription.read(training_set).titles if training_set is not None else {}
    if not (dataset / ValidationResults.FILE).exists():
        return DataFindings(manifest.as_of, manifest.tables, titles=titles)
    checks = ValidationResults.read(dataset).checks
    failed = sorted((check for check in checks if not check.passed), key=lambda check: check.severity == "warning")
    counts = Counter(check.layer for check in checks)
    layers = [Layer(name, count, sum(check.layer == name for check in failed)) for name, count in counts.items()]
    passed = [check for check in checks if check.passed]
    return DataFindings(manifest.as_of, manifest.tables, layers, failed, passed, titles)


@dataclass(frozen=True)
class Part:
    """A part of the split."""

    name: str
    snapshots: int
    first: str
    last: str
    rows: int
    positives: int
    gap_days: int | None
    """Days from the last snapshot of the part before to the first of this one; None for the first part, and where
    the dates after a change are in all parts."""

    @property
    def share(self) -> float:
        """Share of rows with the event, 0 to 1."""
        return self.positives / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class FeatureFindings:
    """What the model learns from, and what divides it."""

    training_set: TrainingSetDescription
    horizon_days: int
    parts: list[Part]
    marks: list[SnapshotMark]

    @property
    def by_time(self) -> bool:
        """Whether the parts follow each other in time."""
        return self.training_set.split == "time"


def feature_findings(training_set: Path, settings: Configuration) -> FeatureFindings:
    """Read what the training set says about itself."""
    content = TrainingSetDescription.read(training_set)
    if content.split != "time":
        divided = [Part(name, 0, "", "", content.rows[name], content.positives[name], None) for name in PARTS]
        return FeatureFindings(content, 0, divided, [])
    snapshots: dict[str, list[date]] = {
        part: [date.fromisoformat(day) for day in days] for part, days in content.snapshots.items()
    }
    parts: list[Part] = []
    before: date | None = None
    for name in PARTS:
        if not snapshots.get(name):
            continue
        first, last = min(snapshots[name]), max(snapshots[name])
        parts.append(
            Part(
                name,
                len(snapshots[name]),
                first.isoformat(),
                last.isoformat(),
                content.rows.get(name, 0),
                content.positives.get(name, 0),
                (first - before).days if before and content.divided_since is None else None,
            )
        )
        before = last
    horizon_days = settings.label.horizon.days
    return FeatureFindings(content, horizon_days, parts, snapshot_marks(snapshots, horizon_days))


@dataclass(frozen=True)
class ModelFindings:
    """The model, its parameters and what they gained over the default."""

    model: Model | None
    tuning: Parameters | None
    importance: list[tuple[Importance, float]]
    """Each feature's importance, largest first, and its bar in percent of the largest."""

    @property
    def titles(self) -> Titles:
        """What people call features whose name is another one."""
        return self.model.titles if self.model is not None else {}

    @property
    def made_anew(self) -> str:
        """What was made anew of a version in production, its last note; empty where a whole model was trained."""
        return self.model.notes[-1] if self.model is not None and self.model.origin.version else ""

    @property
    def gain(self) -> float | None:
        """What tuning gained over the default parameters, in the score's unit."""
        if self.tuning is None or self.tuning.best_value is None or self.tuning.default_value is None:
            return None
        return self.tuning.best_value - self.tuning.default_value

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters the model was trained with."""
        if self.model is not None and self.model.parameters:
            return self.model.parameters
        return self.tuning.parameters if self.tuning is not None else {}


def model_findings(model: Path | None, parameters: Path | None) -> ModelFindings:
    """Read the model's own description and the search for its parameters."""
    content = Model.read(model) if model else None
    importance = sorted(content.importance if content else [], key=lambda item: -abs(item.value))
    largest = abs(importance[0].value) if importance else 0.0
    return ModelFindings(
        content,
        Parameters.read(parameters) if parameters else None,
        [(item, 100 * abs(item.value) / largest if largest else 0.0) for item in importance],
    )


@dataclass(frozen=True)
class MeasuredMetric:
    """A metric of one dimension, `slice` being the group it was measured on, and `called` the same by its title."""

    name: str
    slice: str
    called: str
    metric: Metric
    bar: IntervalBar | None


@dataclass(frozen=True)
class Plot:
    """A picture of the evaluation, as a `data:` address: shown as an image, it can run no script and fetch nothing."""

    title: str
    address: str


@dataclass(frozen=True)
class Dimension:
    """One dimension of quality: its metrics, tables and plots."""

    name: str
    metrics: list[MeasuredMetric]
    tables: list[Section]
    plots: list[Plot]

    @property
    def shown(self) -> list[MeasuredMetric]:
        """The metrics that are shown at once: all, or where they are many those of all rows."""
        return [item for item in self.metrics if item not in self.folded]

    @property
    def folded(self) -> list[MeasuredMetric]:
        """The metrics of slices, where there are too many to show at once."""
        return [item for item in self.metrics if item.slice] if len(self.metrics) > MANY_METRICS else []


@dataclass(frozen=True)
class QualityFindings:
    """How good the model is on rows it has never seen."""

    dimensions: list[Dimension]
    notes: list[str]
    auc: Metric | None
    best_possible_auc: Metric | None
    titles: Titles
    """What people call columns that metrics name otherwise."""


def quality_findings(evaluation: Path) -> QualityFindings:
    """Read every metric and plot of an evaluation, in the order the evaluation has them."""
    content = Evaluation.read(evaluation)
    by_dimension: dict[str, list[MeasuredMetric]] = {}
    for name, metric in content.metrics.items():
        dimension, _, rest = name.partition(".")
        metric_name, _, piece = rest.partition(".")
        bar = interval_bar(metric.value, metric.low, metric.high, whole=True) if metric.low != metric.high else None
        called = slice_title(piece, content.titles)
        by_dimension.setdefault(dimension, []).append(MeasuredMetric(metric_name, piece, called, metric, bar))
    plots: dict[str, list[Plot]] = {}
    for file in sorted((evaluation / "plots").glob("*.svg")):
        dimension, _, title = file.stem.partition("_")
        called = slice_title(title, content.titles) or dimension
        plots.setdefault(dimension, []).append(Plot(called, _data_address(file)))
    return QualityFindings(
        [
            Dimension(
                name,
                by_dimension.get(name, []),
                [table for table in content.sections if table.dimension == name],
                plots.get(name, []),
            )
            for name in dict.fromkeys([*by_dimension, *(table.dimension for table in content.sections), *plots])
        ],
        content.notes,
        content.metrics.get("performance.roc_auc"),
        next((metric for name, metric in content.metrics.items() if "best_possible" in name), None),
        content.titles,
    )


def _data_address(file: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class GateFindings:
    """The gate's verdict, line by line."""

    verdict: Verdict
    rules: list[tuple[Judgement, IntervalBar | None]]
    champion: ChampionOutcome | None
    comparisons: list[tuple[Comparison, IntervalBar | None]]
    """The lead over the model in production in each metric, with what is demanded of it as the threshold."""
    titles: Titles
    """What people call columns that metrics name otherwise."""

    @property
    def missed(self) -> list[Judgement]:
        """The rules that the candidate does not meet."""
        return [rule for rule, _ in self.rules if not rule.passed]


def gate_findings(verdict: Path, evaluation: Path | None) -> GateFindings:
    """Read the verdict, and where there is one the evaluation that it rests on; missed rules come first."""
    content = Verdict.read(verdict)
    champion = content.champion
    return GateFindings(
        content,
        [
            (rule, interval_bar(rule.value, rule.low, rule.high, rule.min, rule.max))
            for rule in sorted(content.rules, key=lambda rule: rule.passed)
        ],
        champion,
        [(comparison, _lead_bar(comparison)) for comparison in champion.comparisons] if champion else [],
        Evaluation.read(evaluation).titles if evaluation is not None else {},
    )


def _lead_bar(comparison: Comparison) -> IntervalBar | None:
    demanded = comparison.margin if comparison.demand == "superiority" else -comparison.margin
    return interval_bar(comparison.difference, comparison.low, comparison.high, lowest=demanded)


@dataclass(frozen=True)
class DeploymentFindings:
    """What answers requests, and how to ask it."""

    deployment: Deployment
    example: str


def deployment_findings(deployment: Path, settings: Configuration) -> DeploymentFindings:
    """Read where the model is served and write down a request that works."""
    content = Deployment.read(deployment)
    return DeploymentFindings(content, request_example(content, settings.entity.key))


def request_example(deployment: Deployment, entity_key: str) -> str:
    """A v2 inference request as a command to copy; by entity key alone where the release left no example."""
    if deployment.example is not None:
        body = deployment.example.model_dump(mode="json")
    else:
        body = {"inputs": [{"name": entity_key, "shape": [1, 1], "datatype": "BYTES", "data": [f"<{entity_key}>"]}]}
    address = f"{deployment.url.rstrip('/')}/v2/models/{deployment.model}/infer"
    return (
        f"curl -s {shlex.quote(address)} \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )


@dataclass(frozen=True)
class OtherFindings:
    """What the report knows of an artifact that has no section of its own: its metadata."""

    name: str
    facts: list[tuple[str, Any]]
