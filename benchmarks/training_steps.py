"""How busy the search and the training keep the cores, as whole steps. Run in the platform environment.

    python -m benchmarks.training_steps

`tune_hyperparameters` (12 trials) and then `train_model` with what it found, run by the local runner as in a run, from
the start of each step's process to its end; on rows of the reference project's size (8 training snapshots, 29,600
rows, 26 features) and on five times as many. Then the same on one core.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from kfp import compiler, dsl
from kfp.dsl import Dataset

from benchmarks.invented_project import SPACE, read_project, write_project
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from benchmarks.stopwatch import Stopwatch, run_steps
from kfp_lifecycle.compilation.target import Target, compiling_for
from kfp_lifecycle.components.training.train_model.component import train_model
from kfp_lifecycle.components.training.tune_hyperparameters.component import tune_hyperparameters
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.environments.locks import interpreter

ROWS = (29_600, 148_000)
PROMISED_EXPORT_SECONDS = 5
STEPS = ("tune-hyperparameters", "train-model")


def write_inputs(folder: Path, rows: int) -> Path:
    """The project and the training set, and the compiled steps that read them."""
    project = folder / "project"
    project.mkdir()
    write_project(project, "entity", tuning={"space": SPACE})
    command = ["-m", "benchmarks.invented_rows", str(folder / "set"), str(rows)]
    subprocess.run([interpreter("modelling"), *command], check=True)

    def steps():
        joined = dsl.importer(artifact_uri=str(folder / "set"), artifact_class=Dataset).output
        tuned = tune_hyperparameters(training_set=joined)
        train_model(training_set=joined, parameters=tuned.outputs["parameters"])

    compiled = folder / "steps.yaml"
    configuration, _ = read_project(project)
    with compiling_for(Target("local", configuration=configuration)):
        compiler.Compiler().compile(dsl.pipeline(name="training-steps")(steps), str(compiled))
    return compiled


def measure(compiled: Path, folder: Path) -> Stopwatch:
    """Run both steps, which are told the project's locations."""
    _, locations = read_project(folder / "project")
    return run_steps(compiled, folder, locations.as_variables(Locations.model_fields))


def stages(folder: Path) -> dict[str, float]:
    """Seconds of each stage of the last training, as recorded in MLflow."""
    with sqlite3.connect(folder / "project" / "mlflow.db") as records:
        rows = records.execute(
            "select substr(key, 9), value from metrics where key like 'seconds_%' and run_uuid = "
            "(select run_uuid from runs order by start_time desc limit 1)"
        )
        return dict(rows.fetchall())


def main() -> int:
    """Measure and print."""
    options = argument_parser(__doc__).parse_args()
    every_core = os.sched_getaffinity(0)
    cores = len(every_core)
    ratios: list[Ratio] = []
    print("rows      step                   seconds   processor s   cores busy   on one core, seconds")
    for rows in ROWS:
        with tempfile.TemporaryDirectory(prefix="training-steps-") as place:
            folder = Path(place)
            compiled = write_inputs(folder, rows)
            # The first makes MLflow's records and reads the libraries from disk.
            measure(compiled, folder)
            measured = measure(compiled, folder)
            taken = stages(folder)
            os.sched_setaffinity(0, {min(every_core)})
            alone = measure(compiled, folder)
            os.sched_setaffinity(0, every_core)
        for step in STEPS:
            print(
                f"{rows:8,}  {step:20} {measured.wall[step]:9.1f} {measured.processor[step]:13.1f} "
                f"{measured.busy(step):12.2f} {alone.wall[step]:22.1f}",
                flush=True,
            )
        print(f"          stages of the training: {taken}")
        export = taken["calibrate_and_export"] + taken["parity"]
        faster = sum(alone.wall.values()) / sum(measured.wall.values())
        ratios += [
            Ratio(f"tuning, {rows:,} rows: busy cores / {cores}", measured.busy(STEPS[0]) / cores),
            Ratio(f"training, {rows:,} rows: busy cores / {cores}", measured.busy(STEPS[1]) / cores),
            Ratio(f"both, {rows:,} rows: busy cores / {cores}", measured.busy(*STEPS) / cores, "≥ 0.9"),
            Ratio(f"both, {rows:,} rows: seconds on one core / on {cores}", faster),
            Ratio(
                f"export and parity, {rows:,} rows / {PROMISED_EXPORT_SECONDS} s",
                export / PROMISED_EXPORT_SECONDS,
                "≤ 1",
            ),
        ]
    save_ratios(ratios, options.ratios)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
