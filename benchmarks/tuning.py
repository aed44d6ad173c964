"""What processes, and giving up early, save in a search for hyperparameters. Run in the modelling environment.

    python -m benchmarks.tuning

The same search of 12 trials on rows of the reference project's size (29,600 rows, 26 features): in one process for
each core, as the step does it, in one process with one thread, in one with as many threads as there are cores, and
without giving trials up. Each time the processes are started anew, and import what they need.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import optuna
from joblib import cpu_count

from benchmarks.invented_project import SPACE
from benchmarks.invented_rows import training_set
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.components.training.tune_hyperparameters.judging import Outcome, Setting
from kfp_lifecycle.components.training.tune_hyperparameters.search import prepare
from kfp_lifecycle.components.training.tune_hyperparameters.tuning import tune
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Workers
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.runtime.contract import OPENMP_VARIABLES
from kfp_lifecycle.tuning.cross_validation import Fold, folds_of
from kfp_lifecycle.tuning.study import Trial

ROWS = 29_600
HORIZON = timedelta(days=30)


def search(folds: Sequence[Fold], cores: int, processes: int, pruning: bool = True) -> tuple[list[Trial], float]:
    """The trials of a search in so many processes, and its seconds."""
    began = time.perf_counter()
    workers: Workers[Setting, Outcome] = Workers(cores, processes, prepare)
    with workers:
        study = optuna.create_study(direction="maximize")
        tuning = Tuning(space=SPACE, pruning=pruning, timeout_seconds=3600)
        trials = tune(study, folds, Training(), tuning, workers)
        return trials, time.perf_counter() - began


def main() -> int:
    """Measure and print."""
    options = argument_parser(__doc__).parse_args()
    os.environ |= OPENMP_VARIABLES
    cores = cpu_count()
    with tempfile.TemporaryDirectory() as place:
        folds = folds_of(training_set(Path(place) / "set", ROWS), Training(), 2, HORIZON)
        trials, seconds = search(folds, cores, cores)
        alone, one = search(folds, 1, 1)
        _, threads = search(folds, cores, 1)
        _, everything = search(folds, cores, cores, pruning=False)
    assert [trial.folds for trial in trials] == [trial.folds for trial in alone]
    ratios = [
        Ratio(f"tuning: one process / {cores} processes", one / seconds),
        Ratio(f"tuning: one process with {cores} threads / {cores} processes", threads / seconds),
        Ratio("tuning: without giving up / with it", everything / seconds),
    ]
    for ratio in ratios:
        print(f"{ratio.what}: {ratio.value:.2f}")
    save_ratios(ratios, options.ratios)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
