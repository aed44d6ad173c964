"""Contents of the run report: its sections in their order, each made of the artifacts that it names.

A new artifact gets a section by a function here and a macro of its anchor's name in `sections.html.j2`. What has none
is shown by what its step recorded about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.serving import ServingTrial
from kfp_lifecycle.artifacts.step_record import StepRecord
from kfp_lifecycle.artifacts.tables import TIMELESS
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.reports.artifacts import ArtifactView
from kfp_lifecycle.reports.findings import (
    OtherFindings,
    data_findings,
    deployment_findings,
    feature_findings,
    gate_findings,
    model_findings,
    quality_findings,
)
from kfp_lifecycle.reports.formatting import number, words
from kfp_lifecycle.reports.templates import KeyFigure


@dataclass(frozen=True)
class Run:
    """What the report is made from."""

    settings: Configuration
    """`name`, `title`, `description`, `label`, `entity` and `training.seed`."""
    artifacts: Mapping[str, ArtifactView]
    """By name, as the pipelines name them; whichever there are."""

    def first(self, *names: str) -> ArtifactView | None:
        """The first of these artifacts that there is."""
        return next((self.artifacts[name] for name in names if name in self.artifacts), None)


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    anchor: str
    """Its place in the page, and the macro that draws it."""
    title: str
    findings: Any
    """What the macro is given."""
    figures: list[KeyFigure] = field(default_factory=list)
    """The few numbers of it that a reader wants first."""
    lineage: Mapping[str, object] = field(default_factory=dict)
    """What of it has to be the same for the run to be repeated, by what it is."""


def gate(run: Run) -> Section | None:
    """The verdict, rule by rule."""
    verdict = run.first("verdict")
    if verdict is None:
        return None
    evaluation = run.first("evaluation")
    findings = gate_findings(verdict.path, evaluation.path if evaluation else None)
    met = len(findings.rules) - len(findings.missed)
    figure = KeyFigure("Rules met", f"{met} of {len(findings.rules)}", "of the gate")
    return Section("gate", "The gate", findings, [figure])


def deployment(run: Run) -> Section | None:
    """What answers requests, and how it came to."""
    released = run.first("deployment")
    if released is None:
        return None
    findings = deployment_findings(released.path, run.settings)
    record = findings.deployment
    before = f"before: version {record.previous_version}" if record.previous_version else "the first one"
    return Section(
        "deployment", "In production", findings, [KeyFigure("In production", f"version {record.version}", before)]
    )


def serving(run: Run) -> Section | None:
    """How the real server did before the release."""
    servable = run.first("servable_model")
    return Section("serving", "In the server", ServingTrial.read(servable.path)) if servable else None


def quality(run: Run) -> Section | None:
    """The dimensions of quality."""
    evaluation = run.first("evaluation")
    if evaluation is None:
        return None
    findings = quality_findings(evaluation.path)
    figures = []
    if findings.auc is not None:
        interval = f"95%: {number(findings.auc.low)} to {number(findings.auc.high)}"
        figures.append(KeyFigure("ROC AUC", number(findings.auc.value), interval))
    if findings.best_possible_auc is not None:
        best = number(findings.best_possible_auc.value)
        figures.append(KeyFigure("Best possible AUC", best, "no model of this data can do better"))
    return Section("quality", "Quality", (findings, run.settings.label.title), figures)


def model(run: Run) -> Section | None:
    """The model and the search for its parameters."""
    trained, parameters = run.first("registered_model", "model"), run.first("parameters")
    if trained is None and parameters is None:
        return None
    findings = model_findings(trained.path if trained else None, parameters.path if parameters else None)
    described = findings.model
    lineage = {"Estimator": described.estimator, "MLflow run": described.run_id} if described else {}
    return Section("model", "Model and tuning", findings, lineage=lineage)


def features(run: Run) -> Section | None:
    """What the model learns from, and how time divides it."""
    training_set = run.first("training_set")
    if training_set is None:
        return None
    findings = feature_findings(training_set.path, run.settings)
    train, content = findings.parts[0], findings.training_set
    snapshots = f"{train.snapshots} snapshots, " if content.split == "time" else ""
    note = f"{snapshots}{train.share:.1%} positive"
    named = run.first("model", "registered_model") is not None
    return Section(
        "features",
        "Features and split",
        (findings, named),
        [KeyFigure("Training rows", number(train.rows), note)],
        {"Feature service": content.feature_service, "Feature version": content.feature_version},
    )


def data(run: Run) -> Section | None:
    """The tables, and what their checks found."""
    tables = run.first("validated", "dataset", "tables")
    if tables is None:
        return None
    training_set = run.first("training_set")
    findings = data_findings(tables.path, training_set.path if training_set else None)
    # Beside rows that are trained on, the rows of the source are no key figure.
    rows = sum(table.rows for table in findings.tables.values())
    figures = (
        []
        if "training_set" in run.artifacts
        else [KeyFigure("Rows", number(rows), f"in {len(findings.tables)} tables")]
    )
    version = run.artifacts["dataset"].metadata if "dataset" in run.artifacts else {}
    lineage = {
        "Dataset version": version.get("version"),
        "Dataset remote": version.get("remote"),
        "Data as of": version.get("as_of") or ("" if findings.as_of == TIMELESS else findings.as_of.isoformat()),
    }
    return Section("data", "Data", findings, figures, lineage)


def remedy(run: Run) -> Section | None:
    """What is to be done about the model in production, and why."""
    decided = run.first("remedy")
    return Section("remedy", "What to do", Remedy.read(decided.path)) if decided else None


def drift(run: Run) -> Section | None:
    """How far production is from the training data, and what follows."""
    # On a cluster the report is given what a pipeline found under one name.
    decided = [item for item in map(run.first, ("drift", "findings")) if item and (item.path / Drift.FILE).is_file()]
    if not decided:
        return None
    findings = Drift.read(decided[0].path)
    counts = findings.predictions
    figures = [
        KeyFigure("Predictions", number(counts.window), f"{counts.champion:,} by version {findings.version}"),
        KeyFigure("Compared", number(counts.compared), "each entity once"),
        KeyFigure("Features drifted", number(len(findings.drifted)), ", ".join(findings.drifted_called)),
    ]
    return Section("drift", "Drift", findings, figures)


# In the order of the page.
SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    gate, deployment, serving, remedy, drift, quality, model, features, data
)  # fmt: skip
# The anchors whose figures come first at the top.
FIGURES_FIRST = ("deployment", "quality", "gate")
# What a section speaks of, or what is a page of its own.
SHOWN = {
    "approved_model", "curve", "dataset", "deployment", "drift", "evaluation", "message", "metrics", "model",
    "parameters", "promotion", "registered_model", "remedy", "report", "servable_model", "store", "study", "tables",
    "training_set", "validated", "verdict",
}  # fmt: skip
# What a remedy's reasons say in sentences.
REASONED = {"outcomes", "predictions", "skew"}


def sections_of(run: Run) -> list[Section]:
    """All sections that the run's artifacts have something for.

    Raises:
        ContractViolation: a file of an artifact is missing or does not hold what it should.
    """
    found = [make(run) for make in SECTIONS]
    return [section for section in found if section is not None]


def others_of(run: Run) -> list[Section]:
    """What the steps recorded about all artifacts that no section speaks of."""
    shown = SHOWN | (REASONED if "remedy" in run.artifacts else set())
    return [
        Section(
            "other",
            words(name).capitalize(),
            OtherFindings(name, [(key, value) for key, value in artifact.metadata.items() if key not in RECORD]),
        )
        for name, artifact in run.artifacts.items()
        if name not in shown and set(artifact.metadata) - RECORD and not (artifact.path / Drift.FILE).is_file()
    ]


# What `step()` records on every artifact and the picture of the run shows.
RECORD = set(StepRecord.model_fields) - {"summary"}
