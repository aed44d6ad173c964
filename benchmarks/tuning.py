"""How busy the cores are while hyperparameters are searched, and what processes and giving up early save.

    python benchmarks/run.py tuning

The same search of 12 trials on rows of the reference project's size (8 training snapshots, 29,600 rows, 26 features):
in one process with as many threads as there are cores, in one process with one thread, and in one process for each
core with one thread each, as the step does it; then without giving trials up.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import joblib
import numpy as np
import optuna
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from components.training.cross_validation import Fold, time_ordered_folds
from components.training.dataset import TrainingSet
from components.training.study import Trial
from components.training.tune_hyperparameters.tuning import Setting, judge, tune
from project.training import Training
from project.tuning import Tuning

SNAPSHOTS, ROWS, FEATURES = 8, 3_700, 26
HORIZON = timedelta(days=30)
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
        seconds: Wall clock.
        processor: Processor seconds of this process and its workers.
    """

    trials: list[Trial]
    seconds: float
    processor: float


def training_set(folder: Path) -> TrainingSet:
    """Rows with a weak signal in some columns, as churn has it: about 5% events."""
    random = np.random.default_rng(0)
    names = [f"feature_{number}" for number in range(FEATURES)]
    dates = pd.date_range("2025-01-01", periods=SNAPSHOTS, freq="30D", tz="UTC")
    parts = []
    for date in dates:
        values = random.normal(size=(ROWS, FEATURES))
        logit = -3.6 + values[:, :6] @ np.array([0.8, 0.6, -0.5, 0.4, 0.3, -0.3]) + 0.4 * values[:, 6] * values[:, 7]
        part = pd.DataFrame(values, columns=names)
        part["event"] = (random.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int)
        parts.append(part.assign(entity=random.permutation(ROWS), event_timestamp=date))
    pd.concat(parts, ignore_index=True).to_parquet(folder / "train.parquet")
    features = [{"name": name, "type": "numeric"} for name in names]
    description = {"entity": "entity", "label": "event", "features": features, "sensitive": []}
    (folder / "training_set.json").write_text(json.dumps(description), "utf-8")
    return TrainingSet(folder)


def measure(folds: Sequence[Fold], cores: int, pruning: bool = True) -> Measured:
    """One search in `cores` processes."""
    study = optuna.create_study(direction="maximize")
    before, started = _processor(), time.monotonic()
    trials = tune(study, folds, Training(), Tuning(space=SPACE, pruning=pruning, timeout_seconds=3600), cores)
    return Measured(trials, time.monotonic() - started, _processor() - before)


def threaded(folds: Sequence[Fold], trials: Sequence[Trial], threads: int) -> float:
    """Seconds that the same settings take one after the other, each with `threads` threads."""
    with threadpool_limits(threads):
        started = time.monotonic()
        for trial in trials:
            judge(folds[: len(trial.folds)], Training(), Setting(trial.parameters, [None] * (len(trial.folds) - 1)))
        return time.monotonic() - started


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> int:
    """Measure and print."""
    options = argument_parser(__doc__).parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = joblib.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        folds = time_ordered_folds(training_set(Path(folder)), Training(), 2, HORIZON)
    many = measure(folds, cores)
    one = measure(folds, 1)
    all_folds = measure(folds, cores, pruning=False)
    threads = threaded(folds, many.trials, cores)
    assert [trial.folds for trial in many.trials] == [trial.folds for trial in one.trials]
    at_work = sum(trial.seconds for trial in many.trials) / cores / many.seconds
    busy = many.processor / cores / many.seconds
    ratios = [
        Ratio(f"tuning: processor time / ({cores} cores × wall clock)", busy, "≥ 0.9"),
        Ratio("tuning: a process's time at trials / wall clock", at_work, "≥ 0.9"),
        Ratio(f"tuning: one process / {cores} processes", one.seconds / many.seconds),
        Ratio(f"tuning: one process with {cores} threads / {cores} processes", threads / many.seconds),
        Ratio("tuning: without giving up / with it", all_folds.seconds / many.seconds),
    ]
    print(f"12 trials, {len(folds)} folds: {many.seconds:.1f} s in {cores} processes")
    for ratio in ratios:
        print(f"{ratio.what}: {ratio.value:.2f} {ratio.promise}".rstrip())
    save_ratios(ratios, options.ratios)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
