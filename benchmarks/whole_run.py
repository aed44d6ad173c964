"""The training pipeline again and again: from nothing, with everything kept, and after a change of one step's code.

    python -m benchmarks.whole_run [--customers N] [--days N]

In a copy of the checkout, with its built environments and a small business of its own: how long each step takes, and
which steps run again. Run in the platform environment, after `make setup-tests`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.local.events import StepRecord, read_progress
from kfp_lifecycle.runtime.states import State
from kfp_lifecycle.serving.ports import port_pair
from tests.platform.conftest import Checkout, new_checkout

# A small business cannot meet the thresholds of the real one; what is measured is a run to its end.
LENIENT = "gate.rules=[{metric: performance.roc_auc, min: 0.5}]"
CHANGED = Path("components/training/train_model/training.py")


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    seconds: float
    state: str
    steps: dict[str, StepRecord]

    @property
    def ran(self) -> list[str]:
        """The steps that were executed, in order."""
        return [name for name, step in self.steps.items() if step.state is State.done]


def run_training(checkout: Checkout, settings: list[str]) -> Run:
    """Run the pipeline to its end.

    Raises:
        RuntimeError: a step failed.
    """
    began = time.perf_counter()
    done = subprocess.run(
        checkout.command("run", "training", "--json", *settings),
        cwd=checkout.folder,
        env={name: value for name, value in checkout.variables().items() if name != "PYTHONDONTWRITEBYTECODE"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"the run ended with exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
    result = json.loads(done.stdout)
    events = checkout.state / "runs" / result["id"] / "events.jsonl"
    return Run(seconds, result["state"], read_progress(events).steps)


def print_runs(runs: dict[str, Run]) -> None:
    """A line for each step: its seconds, or why it has none."""
    print("step                    " + "".join(f"{title:>14}" for title in runs))
    first = next(iter(runs.values()))
    for name in first.steps:
        print(f"{name:24}" + "".join(f"{_told(run.steps[name]):>14}" for run in runs.values()))
    steps = [sum(step.seconds or 0 for step in run.steps.values()) for run in runs.values()]
    print(
        "between steps           "
        + "".join(f"{r.seconds - s:12.1f} s" for r, s in zip(runs.values(), steps, strict=True))
    )
    print("in all                  " + "".join(f"{run.seconds:12.1f} s" for run in runs.values()))
    print("ended                   " + "".join(f"{run.state:>14}" for run in runs.values()), flush=True)


def _told(step: StepRecord) -> str:
    return f"{step.seconds:.1f} s" if step.state is State.done and step.seconds is not None else str(step.state)


def main() -> None:
    """Run, run again, change a step, run again."""
    parser = argument_parser(__doc__)
    parser.add_argument("--customers", type=int, default=2000, help="of the business")
    parser.add_argument("--days", type=int, default=500, help="of its history")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="whole-run-") as name:
        checkout = new_checkout(Path(name) / "checkout")
        data = checkout.state / "data" / "churn.duckdb"
        size = ["--customers", str(arguments.customers), "--days", str(arguments.days)]
        checkout.lifecycle("simulate", "--output", str(data), *size)
        settings = ["--set", LENIENT, "--set", "snapshots.count=8", "--set", f"deployment.http_port={port_pair()}"]
        try:
            runs = {"nothing kept": run_training(checkout, settings)}
            print(f"first run: {runs['nothing kept'].seconds:.0f} s", flush=True)
            runs["all kept"] = run_training(checkout, settings)
            with (checkout.folder / CHANGED).open("a", encoding="utf-8") as module:
                module.write("# A line that changes nothing but the code.\n")
            runs["after a change"] = run_training(checkout, settings)
        finally:
            checkout.lifecycle("down", expect=None)
    print_runs(runs)
    print(f"After a change of {CHANGED} ran again: {', '.join(runs['after a change'].ran)}")
    everything = runs["nothing kept"].seconds
    save_ratios(
        [
            Ratio("a run with everything kept / a run of everything", runs["all kept"].seconds / everything),
            Ratio(
                "a run after a change of train_model / a run of everything", runs["after a change"].seconds / everything
            ),
        ],
        arguments.ratios,
    )


if __name__ == "__main__":
    main()
