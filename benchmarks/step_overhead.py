"""What a step costs beside its work, against a bare import. Run in the platform environment.

    python -m benchmarks.step_overhead [--repeats N]

For each environment a step that imports its main libraries and does nothing, run by the local runner from its start to
its end, in turn with `python -c "import …"` of the same libraries under the same interpreter.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from kfp import compiler, dsl

from benchmarks.empty_steps import STEPS
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from benchmarks.stopwatch import run_steps
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local.variables import STEP_VARIABLES
from kfp_lifecycle.runtime.component import LifecycleComponent

PROMISE = 1.5


def compile_step(step: LifecycleComponent, folder: Path) -> Path:
    """A pipeline of one step, compiled for this machine."""

    @dsl.pipeline(name=step.name.replace("_", "-"))
    def alone():
        step()

    compiled = folder / f"{step.name}.yaml"
    compiler.Compiler().compile(alone, str(compiled))
    return compiled


def step_seconds(compiled: Path, folder: Path) -> float:
    """Wall time of the step's process."""
    (seconds,) = run_steps(compiled, folder).wall.values()
    return seconds


def import_seconds(environment: str, libraries: str) -> float:
    """Wall time of a process that only imports."""
    # What a step is given too, so that both find the same bytecode and start the same threads.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    began = time.perf_counter()
    subprocess.run(
        [interpreter(environment), "-c", f"import {libraries}"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**kept, **STEP_VARIABLES},
    )
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each environment."""
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, in turn")
    arguments = parser.parse_args()
    ratios = []
    print("environment    step s   import s   difference s   ratio   (medians of each; the libraries)")
    with tempfile.TemporaryDirectory(prefix="step-overhead-") as name:
        folder = Path(name)
        for step, libraries in STEPS:
            compiled = compile_step(step, folder)
            # The first of each reads the libraries from disk.
            step_seconds(compiled, folder), import_seconds(step.environment, libraries)
            pairs = [
                (step_seconds(compiled, folder), import_seconds(step.environment, libraries))
                for _ in range(arguments.repeats)
            ]
            ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(ours / bare for ours, bare in pairs)
            print(
                f"{step.environment:12} {ours:8.2f} {bare:10.2f} {ours - bare:14.2f} {ratio:7.2f}   {libraries}",
                flush=True,
            )
            ratios.append(Ratio(f"an empty {step.environment} step / its imports", ratio, f"below {PROMISE}"))
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
