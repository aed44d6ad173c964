"""Run the benchmarks, each in the environment it needs, and print their ratios.

    python benchmarks/run.py [NAME …]

Ends with exit code 1 when a benchmark breaks, never because of a slow figure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # Started as a file, Python looks for modules in its folder only; benchmarks are not part of the package.
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from benchmarks.ratios import Ratio, load_ratios  # noqa: E402
from kfp_lifecycle.environments.locks import interpreter  # noqa: E402

# The environment that each runs in, the quickest first.
BENCHMARKS = {
    "drift": "modelling",
    "promotion": "modelling",
    "evaluation": "modelling",
    "tuning": "modelling",
    "own_tables": "platform",
    "training_steps": "platform",
    "waiting_threads": "modelling",
    "prediction_window": "modelling",
    "step_overhead": "platform",
    "release_verdicts": "platform",
    "whole_run": "platform",
    "odd_files": "validation",
    "ingest": "validation",
    "statistics": "validation",
    "validation_alarms": "validation",
    "metrics_page": "serving",
    "online_features": "modelling",
    "materialization": "modelling",
    "features": "modelling",
    "serving": "platform",
    "zero_lost": "platform",
    "scale": "platform",
}


def run_benchmark(name: str, ratios: Path) -> int:
    """Run one benchmark, its output on the screen as it comes; its exit code."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [interpreter(BENCHMARKS[name]), "-m", f"benchmarks.{name}", "--ratios", ratios],
        cwd=ROOT,
        env={**variables, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONUNBUFFERED": "1"},
        check=False,
    ).returncode


def print_ratios(ratios: list[Ratio]) -> None:
    """The table of all of them."""
    width = max(len(ratio.what) for ratio in ratios)
    for ratio in ratios:
        print(f"{ratio.what:{width}}  {ratio.value:7.2f}  {ratio.promise}".rstrip())


def main() -> int:
    """Run those that were named, or all.

    Returns:
        0, or 1 when one of them broke.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all by default")
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    found: list[Ratio] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for number, name in enumerate(names, start=1):
            print(f"\n[{number}/{len(names)}] {name}", flush=True)
            began, file = time.monotonic(), Path(folder) / f"{name}.json"
            code = run_benchmark(name, file)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            if code:
                broken.append(f"{name} (exit code {code})")
            else:
                found += load_ratios(file)
    if found:
        print()
        print_ratios(found)
    if broken:
        print(f"\nbroken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
