"""The run report: one HTML file that needs nothing else, made from the artifacts that a run left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.reports.artifacts import ArtifactView, Serving, read, seconds, started_at, views
from kfp_lifecycle.reports.findings import (
    DataFindings,
    DeploymentFindings,
    FeatureFindings,
    GateFindings,
    ModelFindings,
    OtherFindings,
    QualityFindings,
    data_findings,
    deployment_findings,
    feature_findings,
    gate_findings,
    model_findings,
    other_findings,
    quality_findings,
)
from kfp_lifecycle.reports.formatting import number, words
from kfp_lifecycle.reports.geometry import StepBar, StepView, step_bars
from kfp_lifecycle.reports.templates import templates
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.runtime.states import State

__all__ = [
    "ArtifactView",
    "Failure",
    "RunReport",
    "StepView",
    "collect",
    "render",
    "views",
    "write_run_report",
]

# The step behind each artifact, in the order of the pipelines.
STEPS = {
    "tables": "ingest_data",
    "dataset": "version_dataset",
    "validated": "validate_data",
    "training_set": "build_training_set",
    "parameters": "tune_hyperparameters",
    "model": "train_model",
    "evaluation": "evaluate_model",
    "verdict": "decide_promotion",
    "registered_model": "register_model",
    "servable_model": "validate_serving",
    "store": "materialize_features",
    "deployment": "release_model",
    "champion": "promote_model",
}
# What other artifacts say already, or what is a page of its own.
UNREPORTED = {"approved_model", "curve", "message", "metrics", "report", "study"}


class Outcome(StrEnum):
    """How a run ended. Beside these, a pipeline that decides nothing is done."""

    promoted = "promoted"
    """The new model answers all requests, and the registry names it the champion."""
    approved = "approved"
    """The gate let it pass; nothing was promoted."""
    rejected = "rejected"
    failed = "failed"
    done = "done"


@dataclass(frozen=True)
class Failure:
    """Why a run ended before its end."""

    step: str
    reason: str
    log_excerpt: str = ""
    """The last lines of the step's log."""
    log_file: str = ""
    resume: str = ""
    """The command that goes on from the failed step."""


@dataclass(frozen=True)
class KeyFigure:
    """One of the few numbers that a reader wants first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class RunReport:
    """All that the report shows. A section whose artifact the run has not made is None."""

    title: str
    description: str
    pipeline: str
    run_id: str
    outcome: Outcome
    sentence: str
    started_at: datetime | None
    seconds: float | None
    figures: list[KeyFigure]
    bars: list[StepBar]
    failure: Failure | None
    label: str
    data: DataFindings | None
    features: FeatureFindings | None
    model: ModelFindings | None
    quality: QualityFindings | None
    gate: GateFindings | None
    serving: Serving | None
    deployment: DeploymentFindings | None
    others: list[OtherFindings]
    lineage: list[tuple[str, str]]


def collect(
    settings: Configuration,
    artifacts: Mapping[str, ArtifactView],
    *,
    pipeline: str = "",
    run_id: str = "",
    steps: Sequence[StepView] = (),
    failure: Failure | None = None,
    lineage: Mapping[str, str] | None = None,
) -> RunReport:
    """Read what a run left behind.

    Args:
        settings: `name`, `title`, `description`, `label`, `entity` and `training.seed`.
        artifacts: The run's artifacts by name, as the architecture names them; whichever there are.
        pipeline: The pipeline's name.
        run_id: The run's name on its platform.
        steps: The run's steps in order. Without them, the steps are those that made the artifacts.
        failure: Which step failed and why, when one did.
        lineage: What only the caller knows of the run's origin, such as the commit: value by what it is.

    Raises:
        ContractViolation: a file of an artifact is missing or does not hold what it should.
    """
    # The step that writes this page is not part of what it tells.
    steps = [
        step for step in steps or steps_of(artifacts) if not step.name.replace("-", "_").startswith("write_report")
    ]
    others = other_findings(artifacts, [*STEPS, *UNREPORTED])
    dataset = next((artifacts[name] for name in ("validated", "dataset", "tables") if name in artifacts), None)
    model = next((artifacts[name] for name in ("registered_model", "model") if name in artifacts), None)
    deployed = artifacts.get("deployment") or artifacts.get("champion")
    parameters = artifacts.get("parameters")
    data = data_findings(dataset) if dataset else None
    quality = quality_findings(artifacts["evaluation"]) if "evaluation" in artifacts else None
    features = feature_findings(artifacts["training_set"], settings) if "training_set" in artifacts else None
    gate = gate_findings(artifacts["verdict"]) if "verdict" in artifacts else None
    deployment = deployment_findings(deployed, settings) if deployed else None
    findings = model_findings(model, parameters) if model or parameters else None
    begun = [step.started_at for step in steps if step.started_at]
    ends = [step.started_at + timedelta(seconds=step.seconds or 0) for step in steps if step.started_at]
    outcome, sentence = describe_outcome(failure, gate, deployment, others, "champion" in artifacts)
    return RunReport(
        title=settings.title,
        description=settings.description,
        pipeline=pipeline,
        run_id=run_id,
        outcome=outcome,
        sentence=sentence,
        started_at=min(begun, default=None),
        seconds=(max(ends) - min(begun)).total_seconds() if begun else None,
        figures=key_figures(quality, features, gate, deployment, data),
        bars=step_bars(steps),
        failure=failure,
        label=settings.label.title,
        data=data,
        features=features,
        model=findings,
        quality=quality,
        gate=gate,
        serving=read(artifacts["servable_model"], Serving, "serving.json") if "servable_model" in artifacts else None,
        deployment=deployment,
        others=others,
        lineage=lineage_of(settings, artifacts, findings, features, lineage or {}),
    )


def steps_of(artifacts: Mapping[str, ArtifactView]) -> list[StepView]:
    """The steps that made the artifacts, as each recorded itself on what it wrote."""
    names = [name for name in STEPS if name in artifacts]
    names += [name for name in artifacts if name not in STEPS and name not in UNREPORTED]
    return [
        StepView(
            STEPS.get(name, name),
            State.done,
            started_at(artifacts[name]),
            seconds(artifacts[name]),
            str(artifacts[name].metadata.get("summary", "")),
        )
        for name in names
        if started_at(artifacts[name]) is not None
    ]


def describe_outcome(
    failure: Failure | None,
    gate: GateFindings | None,
    deployment: DeploymentFindings | None,
    others: Sequence[OtherFindings],
    promoted: bool,
) -> tuple[Outcome, str]:
    """The verdict on the run, in one sentence; `promoted` is whether the registry's alias was moved."""
    if failure is not None:
        reason = failure.reason.strip().splitlines() or ["its log says why"]
        return Outcome.failed, f"Stopped at {words(failure.step)}: {reason[0].removesuffix(':')}"
    if gate is None:
        sentences = [str(value) for findings in others for name, value in findings.facts if name == "sentence"]
        return Outcome.done, " ".join(sentences) or "Every step did its work."
    rules = len(gate.rules)
    if gate.verdict.decision != Outcome.approved:
        missed = len(gate.missed)
        if not missed:
            failed = [comparison.demand for comparison, _ in gate.comparisons if not comparison.passed]
            what = (
                "could not be compared with"
                if not gate.comparisons
                else "does not beat"
                if "superiority" in failed
                else "may be worse than"
            )
            return Outcome.rejected, (
                f"The candidate meets all {rules} rules but {what} the model in production, which still serves."
            )
        serving = "the model in production still serves" if gate.champion else "no model is in production yet"
        return Outcome.rejected, f"The candidate misses {missed} of {rules} rules and was not deployed; {serving}."
    if deployment is None:
        return Outcome.approved, f"The candidate meets all {rules} rules and was approved for release."
    served = deployment.deployment
    return (Outcome.promoted if promoted else Outcome.approved), (
        f"The candidate meets all {rules} rules: {served.model} version {served.version} now answers all requests."
    )


def key_figures(
    quality: QualityFindings | None,
    features: FeatureFindings | None,
    gate: GateFindings | None,
    deployment: DeploymentFindings | None,
    data: DataFindings | None,
) -> list[KeyFigure]:
    """The few numbers at the top."""
    figures = []
    if deployment is not None:
        previous = deployment.deployment.previous_version
        figures.append(
            KeyFigure(
                "In production",
                f"version {deployment.deployment.version}",
                f"before: version {previous}" if previous else "the first one",
            )
        )
    if quality is not None and quality.auc is not None:
        auc, best = quality.auc, quality.best_possible_auc
        interval = f"95%: {number(auc.low)} to {number(auc.high)}" if auc.low is not None else ""
        figures.append(KeyFigure("ROC AUC", number(auc.value), interval))
        if best is not None and best.value is not None:
            figures.append(KeyFigure("Best possible AUC", number(best.value), "no model of this data can do better"))
    if gate is not None:
        met = len(gate.rules) - len(gate.missed)
        figures.append(KeyFigure("Rules met", f"{met} of {len(gate.rules)}", "of the gate"))
    if features is not None:
        train = features.parts[0]
        figures.append(
            KeyFigure("Training rows", number(train.rows), f"{train.snapshots} snapshots, {train.share:.1%} positive")
        )
    elif data is not None:
        rows = sum(table.rows for table in data.tables.values())
        figures.append(KeyFigure("Rows", number(rows), f"in {len(data.tables)} tables"))
    return figures


def lineage_of(
    settings: Configuration,
    artifacts: Mapping[str, ArtifactView],
    model: ModelFindings | None,
    features: FeatureFindings | None,
    known: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Everything that has to be the same for the run to be repeated."""

    def recorded(artifact: str, key: str) -> Any:
        return artifacts[artifact].metadata.get(key) if artifact in artifacts else None

    content = model.model if model else None
    facts = {
        "Project": settings.name,
        "Dataset version": recorded("dataset", "version"),
        "Dataset remote": recorded("dataset", "remote"),
        "Data as of": recorded("dataset", "as_of") or recorded("validated", "as_of"),
        "Feature service": features.training_set.feature_service if features else None,
        "Feature version": features.training_set.feature_version if features else None,
        "Estimator": content.estimator if content else None,
        "Seed": settings.training.seed,
        "MLflow run": content.run_id if content else None,
        **known,
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def render(report: RunReport) -> str:
    """The report as one HTML document: no script, no network, all text escaped."""
    return templates().get_template("report.html.j2").render(report=report)


def write_run_report(
    output: Path,
    *,
    settings: Configuration,
    artifacts: Mapping[str, ArtifactView],
    pipeline: str = "",
    run_id: str = "",
    steps: Sequence[StepView] = (),
    failure: Failure | None = None,
    lineage: Mapping[str, str] | None = None,
) -> RunReport:
    """Write a run's report as one HTML file, whole or not at all.

    Args:
        output: The file to write.
        settings: As for `collect`, which explains the others too.
        artifacts: The run's artifacts by name.

    Returns:
        What the report shows.

    Raises:
        ContractViolation: a file of an artifact is missing or does not hold what it should.
    """
    report = collect(
        settings,
        artifacts,
        pipeline=pipeline,
        run_id=run_id,
        steps=steps,
        failure=failure,
        lineage=lineage,
    )
    write_whole(output, render(report))
    return report
