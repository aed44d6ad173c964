"""How busy the cores are while a model is searched for and trained, and what processes and giving up early save.

    python benchmarks/run.py tuning

The same search of 12 trials on rows of the reference project's size (8 training snapshots, 29,600 rows, 26 features):
in one process with as many threads as there are cores, in one process with one thread, and in one process for each
core with one thread each, as the step does it; then without giving trials up. After the first, the training with what
was found, in a process of its own as the step is; and both again with five times the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import optuna
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.asked_cores import AskedCores
from benchmarks.invented_project import write_project
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from components.training.cross_validation import Fold, time_ordered_folds
from components.training.dataset import TrainingSet
from components.training.study import Trial
from components.training.tracking import connect, experiment_id
from components.training.tune_hyperparameters.judging import Setting, judge
from components.training.tune_hyperparameters.tuning import tune
from project.training import Training
from project.tuning import Tuning

SNAPSHOTS, ROWS, FEATURES = {"train": 8, "validation": 2, "test": 2}, 3_700, 26
HORIZON = timedelta(days=30)
LARGER = 5
PROMISED_EXPORT_SECONDS = 5
TRAINING = """
import sys
from pathlib import Path
from typing import Any
from components.training.train_model.training import train_model
folder = Path(sys.argv[1])
train_model(folder, folder / "set", folder / "parameters.json", folder / "model")
"""
SPACE = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True},
    "max_leaf_nodes": {"type": "int", "low": 7, "high": 63, "log": True},
    "min_samples_leaf": {"type": "int", "low": 10, "high": 200, "log": True},
    "l2_regularization": {"type": "float", "low": 0.001, "high": 10, "log": True},
}


@dataclass(frozen=True)
class Measured:
    """One search.

    Attributes:
        trials: What it found.
        cores: What it and its workers used and asked for.
    """

    trials: list[Trial]
    cores: AskedCores


def training_set(folder: Path, rows: int) -> TrainingSet:
    """Rows with a weak signal in some columns, as churn has it: about 5% events; `rows` in each snapshot."""
    random = np.random.default_rng(0)
    names = [f"feature_{number}" for number in range(FEATURES)]
    dates = list(pd.date_range("2025-01-01", periods=sum(SNAPSHOTS.values()), freq="30D", tz="UTC"))
    folder.mkdir()
    snapshots: dict[str, list[str]] = {}
    for part, count in SNAPSHOTS.items():
        chosen, dates = dates[:count], dates[count:]
        snapshots[part] = [f"{date:%Y-%m-%d}" for date in chosen]
        frame = pd.concat([_snapshot(date, rows, names, random) for date in chosen], ignore_index=True)
        frame.to_parquet(folder / f"{part}.parquet")
    description = {
        "entity": "entity",
        "label": "event",
        "features": [{"name": name, "type": "numeric"} for name in names],
        "sensitive": [],
        "feature_service": "benchmark",
        "feature_version": "invented",
        "snapshots": snapshots,
    }
    (folder / "training_set.json").write_text(json.dumps(description), "utf-8")
    return TrainingSet(folder)


def _snapshot(date: pd.Timestamp, rows: int, names: list[str], random: np.random.Generator) -> pd.DataFrame:
    values = random.normal(size=(rows, FEATURES))
    logit = -3.6 + values[:, :6] @ np.array([0.8, 0.6, -0.5, 0.4, 0.3, -0.3]) + 0.4 * values[:, 6] * values[:, 7]
    event = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    frame = pd.DataFrame(values, columns=names)
    return frame.assign(event=event, entity=random.permutation(rows), event_timestamp=date)


def measure(folds: Sequence[Fold], cores: int, pruning: bool = True) -> Measured:
    """One search in `cores` processes."""
    study = optuna.create_study(direction="maximize")
    asked = AskedCores()
    with asked.watch():
        trials = tune(study, folds, Training(), Tuning(space=SPACE, pruning=pruning, timeout_seconds=3600), cores)
    return Measured(trials, asked)


def threaded(folds: Sequence[Fold], trials: Sequence[Trial], threads: int) -> AskedCores:
    """The same settings one after the other, each with `threads` threads."""
    asked = AskedCores()
    with threadpool_limits(threads), asked.watch():
        for trial in trials:
            judge(folds[: len(trial.folds)], Training(), Setting(trial.parameters, [None] * (len(trial.folds) - 1)))
    return asked


def train(folder: Path, parameters: dict[str, Any]) -> tuple[AskedCores, dict[str, float]]:
    """Train in a process of its own; what it used of the cores, and the seconds of each stage."""
    tracking_uri = write_project(folder, "entity")
    # The records are there, as in every run but the first.
    connect(tracking_uri).search_experiments()
    (folder / "parameters.json").write_text(json.dumps({"parameters": parameters}), "utf-8")
    asked = AskedCores()
    with asked.watch():
        subprocess.run([sys.executable, "-c", TRAINING, str(folder)], stdout=subprocess.DEVNULL, check=True)
    client = connect(tracking_uri)
    (run,) = client.search_runs([experiment_id(client, tracking_uri, "benchmark")])
    recorded = run.data.metrics.items()
    return asked, {name.removeprefix("seconds_"): value for name, value in recorded if name.startswith("seconds_")}


def search_and_train(rows: int, cores: int) -> tuple[list[Fold], Measured, list[Ratio]]:
    """What the steps do at a size: the folds, the search, and how busy it and the training keep the cores."""
    with tempfile.TemporaryDirectory() as place:
        folds = time_ordered_folds(training_set(Path(place) / "set", rows), Training(), 2, HORIZON)
        found = measure(folds, cores)
        best = max(found.trials, key=lambda trial: trial.value or 0)
        training, stages = train(Path(place), best.parameters)
    export = stages["calibrate_and_export"] + stages["parity"]
    size = f"{rows * SNAPSHOTS['train']:,} rows"
    for step, asked in (("search", found.cores), ("training", training)):
        print(
            f"{step}, {size}: {asked.seconds:.1f} s, {asked.ran:.1f} s of processor time, "
            f"{asked.asked - asked.ran:.1f} s of waiting for a core that others had; without that about "
            f"{asked.undisturbed:.1f} s"
        )
    print(f"stages of the training: {stages}")

    def share(*steps: AskedCores) -> float:
        # Each weighs as it would on a machine of its own.
        whole = sum(step.undisturbed for step in steps)
        return sum(step.asked / step.seconds * step.undisturbed for step in steps) / cores / whole

    ratios = [
        Ratio(f"tuning, {size}: cores asked for / {cores} cores", share(found.cores), "≥ 0.9"),
        Ratio(f"training, {size}: cores asked for / {cores} cores", share(training)),
        Ratio(f"both, {size}: cores asked for / {cores} cores", share(found.cores, training), "≥ 0.9"),
        Ratio(f"export and parity, {size} / {PROMISED_EXPORT_SECONDS} s", export / PROMISED_EXPORT_SECONDS, "≤ 1"),
    ]
    return folds, found, ratios


def main() -> int:
    """Measure and print."""
    options = argument_parser(__doc__).parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = joblib.cpu_count()
    folds, many, ratios = search_and_train(ROWS, cores)
    ratios += search_and_train(LARGER * ROWS, cores)[2]
    one = measure(folds, 1)
    all_folds = measure(folds, cores, pruning=False)
    threads = threaded(folds, many.trials, cores)
    assert [trial.folds for trial in many.trials] == [trial.folds for trial in one.trials]
    seconds = many.cores.undisturbed
    ratios += [
        Ratio(f"tuning: one process / {cores} processes", one.cores.undisturbed / seconds),
        Ratio(f"tuning: one process with {cores} threads / {cores} processes", threads.undisturbed / seconds),
        Ratio("tuning: without giving up / with it", all_folds.cores.undisturbed / seconds),
    ]
    for ratio in ratios:
        print(f"{ratio.what}: {ratio.value:.2f} {ratio.promise}".rstrip())
    save_ratios(ratios, options.ratios)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
