"""Run report: one HTML file that needs nothing else, made from the artifacts that a run left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.step_record import StepRecord
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.reports.artifacts import ArtifactView, views
from kfp_lifecycle.reports.contents import FIGURES_FIRST, Run, Section, others_of, sections_of
from kfp_lifecycle.reports.findings import DeploymentFindings, GateFindings
from kfp_lifecycle.reports.formatting import words
from kfp_lifecycle.reports.geometry import StepBar, StepView, step_bars
from kfp_lifecycle.reports.templates import KeyFigure, templates
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.runtime.states import State

__all__ = ["ArtifactView", "Failure", "RunReport", "StepView", "collect", "render", "views", "write_run_report"]

# The step that writes the page is not part of what it tells.
WRITER = "write_report"


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
class RunReport:
    """All that the report shows."""

    title: str
    description: str
    pipeline: str
    run_id: str
    outcome: Outcome
    sentence: str
    missed: list[str]
    """What a rejected candidate does not meet, in sentences."""
    started_at: datetime | None
    seconds: float | None
    figures: list[KeyFigure]
    bars: list[StepBar]
    failure: Failure | None
    sections: list[Section]
    """Those whose artifacts there are."""
    lineage: list[tuple[str, str]]
    pages: list[tuple[str, str]] = field(default_factory=list)
    """The steps' own pages: what each is about, and where it lies from here."""

    def findings(self, anchor: str) -> Any:
        """What a section tells; None where its artifact is not there."""
        return next((section.findings for section in self.sections if section.anchor == anchor), None)

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchor and title of each part of the page that has one."""
        named = [("failure", "Why it stopped", self.failure), ("run", "The run", self.bars)]
        parts = [(anchor, title) for anchor, title, there in named if there]
        parts += [(section.anchor, section.title) for section in self.sections if section.anchor != "other"]
        return [*parts, ("lineage", "Lineage")] if self.lineage else parts


def collect(
    settings: Configuration,
    artifacts: Mapping[str, ArtifactView],
    *,
    pipeline: str = "",
    run_id: str = "",
    steps: Sequence[StepView] = (),
    failure: Failure | None = None,
    lineage: Mapping[str, str] | None = None,
    pages: Sequence[tuple[str, str]] = (),
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
        pages: The steps' own pages: what each is about, and where it lies from the report.

    Raises:
        ContractViolation: a file of an artifact is missing or does not hold what it should.
    """
    run = Run(settings, artifacts)
    steps = [step for step in steps or steps_of(artifacts) if not step.name.replace("-", "_").startswith(WRITER)]
    told, others = sections_of(run), others_of(run)
    found = {section.anchor: section.findings for section in told}
    gate, deployment = found.get("gate"), found.get("deployment")
    begun = [step.started_at for step in steps if step.started_at]
    ends = [step.started_at + timedelta(seconds=step.seconds or 0) for step in steps if step.started_at]
    outcome, sentence = describe_outcome(failure, gate, deployment, artifacts)
    return RunReport(
        title=settings.title,
        description=settings.description,
        pipeline=pipeline,
        run_id=run_id,
        outcome=outcome,
        sentence=sentence,
        missed=missed_by(gate) if gate is not None and outcome is Outcome.rejected else [],
        started_at=min(begun, default=None),
        seconds=(max(ends) - min(begun)).total_seconds() if begun else None,
        figures=[figure for section in sorted(told, key=_figures_first) for figure in section.figures],
        bars=step_bars(steps),
        failure=failure,
        # What is said of an artifact in general stands between the decision and what led to it.
        sections=[*told[: _decided(told)], *others, *told[_decided(told) :]],
        lineage=lineage_of(settings, told, lineage or {}),
        pages=list(pages),
    )


def _figures_first(section: Section) -> int:
    anchor = section.anchor
    return FIGURES_FIRST.index(anchor) if anchor in FIGURES_FIRST else len(FIGURES_FIRST)


def _decided(sections: Sequence[Section]) -> int:
    """How many sections tell of the decision and what came of it."""
    return sum(section.anchor in ("gate", "deployment", "serving", "remedy", "drift") for section in sections)


def steps_of(artifacts: Mapping[str, ArtifactView]) -> list[StepView]:
    """The steps that made the artifacts, each once, as they recorded themselves, in the order they began."""
    records: dict[str, StepRecord] = {}
    for artifact in artifacts.values():
        record = artifact.record
        if record is not None:
            records.setdefault(record.step, record)
    return [
        StepView(record.step, State.done, record.started_at, record.seconds, record.summary)
        for record in sorted(records.values(), key=lambda record: record.started_at)
    ]


def missed_by(gate: GateFindings) -> list[str]:
    """What a candidate does not meet."""
    champion = gate.champion
    sentences = [rule.sentence or rule.metric for rule in gate.missed]
    return [*sentences, champion.sentence] if champion is not None and not champion.passed else sentences


def describe_outcome(
    failure: Failure | None,
    gate: GateFindings | None,
    deployment: DeploymentFindings | None,
    artifacts: Mapping[str, ArtifactView],
) -> tuple[Outcome, str]:
    """The verdict on the run, in one sentence."""
    if failure is not None:
        reason = failure.reason.strip().splitlines() or ["its log says why"]
        return Outcome.failed, f"Stopped at {words(failure.step)}: {reason[0].removesuffix(':')}"
    if gate is None:
        # A remedy says in one sentence what all the steps before it found, and a request what was done about it.
        deciding = [artifacts[name] for name in ("remedy", "request") if name in artifacts]
        sentences = [
            str(item.metadata["sentence"])
            for item in (deciding if "remedy" in artifacts else artifacts.values())
            if "sentence" in item.metadata
        ]
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
    return (Outcome.promoted if "promotion" in artifacts else Outcome.approved), (
        f"The candidate meets all {rules} rules: {served.model} version {served.version} now answers all requests."
    )


def lineage_of(settings: Configuration, sections: Sequence[Section], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Everything that has to be the same for the run to be repeated, from the data on."""
    facts: dict[str, object] = {"Project": settings.name}
    for section in reversed(sections):
        facts |= section.lineage
    facts |= {"Seed": settings.training.seed, **known}
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def render(report: RunReport) -> str:
    """The report as one HTML document: no script, no network, all text escaped."""
    return templates().get_template("run.html.j2").render(report=report)


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
    pages: Sequence[tuple[str, str]] = (),
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
        pages=pages,
    )
    write_whole(output, render(report))
    return report
