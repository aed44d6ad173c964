"""What the steps of a pipeline take, under the local runner."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kfp_lifecycle.local.kfp_runner import Session, StepOutputs, run_pipeline
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.state_folder import state_folder


@dataclass
class Stopwatch:
    """Observes steps: seconds of the clock and of the processors that each took, its own processes' included."""

    wall: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    def started(self, step: str, log: Path) -> None:
        self._began, self._used = time.perf_counter(), children_seconds()

    def cached(self, step: str, outputs: StepOutputs) -> None:
        raise AssertionError(f"{step} was cached; there is nothing to measure")

    def done(self, step: str, outputs: StepOutputs) -> None:
        self.wall[step] = time.perf_counter() - self._began
        self.processor[step] = children_seconds() - self._used

    def failed(self, step: str, reason: str, log: Path) -> None:
        raise RuntimeError(f"{step} failed: {reason}")

    def interrupted(self, step: str) -> None:
        """The run's KeyboardInterrupt ends the benchmark."""

    def busy(self, *steps: str) -> float:
        """How many cores these steps kept busy, on average."""
        return sum(self.processor[step] for step in steps) / sum(self.wall[step] for step in steps)


def children_seconds() -> float:
    """Processor seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_steps(compiled: Path, folder: Path, variables: Mapping[str, str] | None = None) -> Stopwatch:
    """Run the steps of a compiled pipeline as they run on this machine, none of them cached.

    Args:
        compiled: The pipeline.
        folder: Keeps all that the steps write.
        variables: What they are told beside what every step here is told.
    """
    stopwatch = Stopwatch()
    run_pipeline(
        compiled,
        {},
        session=Session(stopwatch, folder, folder, state_folder() / "code", {**STEP_VARIABLES, **(variables or {})}),
        artifacts=folder / "artifacts",
        cache_root=None,
        kfp_log=folder / "kfp.log",
    )
    return stopwatch
