"""Comparison of two runs: key figures of steps, parameters, metrics, verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.document import Document
from kfp_lifecycle.artifacts.evaluation import Evaluation
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.backends.backend import Backend, NotThere

# What is read of a run, by the artifact's name.
DOCUMENTS: Mapping[str, type[Document]] = {"parameters": Parameters, "evaluation": Evaluation, "verdict": Verdict}


@dataclass(frozen=True)
class Facts:
    """What two runs are compared by, each by name."""

    steps: dict[str, str]
    """Key figure of each step; its state where it has none."""
    parameters: dict[str, Any]
    metrics: dict[str, float | None]
    verdict: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """One fact in two runs."""

    section: str
    name: str
    first: Any
    second: Any

    @property
    def change(self) -> float | None:
        """The second less the first; None where they are no numbers."""
        numbers = [value for value in (self.first, self.second) if isinstance(value, int | float)]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None


def compare(backend: Backend, first: str, second: str) -> list[Difference]:
    """What differs between two runs, section by section.

    Raises:
        BackendError: a run is not there, or cannot be read.
    """
    left, right = (facts_of(backend, run) for run in (first, second))
    differences = []
    for section in ("steps", "parameters", "metrics", "verdict"):
        before, after = getattr(left, section), getattr(right, section)
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                differences.append(Difference(section, name, before.get(name), after.get(name)))
    return differences


def facts_of(backend: Backend, run: str) -> Facts:
    """Read what a run is compared by."""
    steps = {name: step.summary or str(step.state) for name, step in backend.status(run).progress.steps.items()}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="comparison-") as folder:
        for artifact in backend.artifacts(run):
            kind = DOCUMENTS.get(artifact.name)
            if kind is None:
                continue
            try:
                found[artifact.name] = kind.read(backend.fetch(artifact, kind.FILE, Path(folder)))
            except NotThere:
                continue
    parameters, evaluation, verdict = (found.get(name) for name in DOCUMENTS)
    return Facts(
        steps,
        dict(parameters.parameters) if parameters else {},
        {name: metric.value for name, metric in evaluation.metrics.items()} if evaluation else {},
        {"decision": verdict.decision, **{rule.metric: rule.sentence for rule in verdict.rules}} if verdict else {},
    )
