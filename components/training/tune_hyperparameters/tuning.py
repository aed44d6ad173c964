"""Hyperparameter search by Optuna or Vizier, judged by processes on every core, with time-ordered cross-validation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from kfp_lifecycle.components.training.tune_hyperparameters.judging import Outcome, Setting, judge
from kfp_lifecycle.components.training.tune_hyperparameters.optuna_study import REASON, SECONDS, as_trial
from kfp_lifecycle.components.training.tune_hyperparameters.study_store import kept_study, study_name
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Died, Workers
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import (
    ESTIMATOR,
    Choice,
    Engine,
    FloatRange,
    Space,
    Tuning,
    estimators_of,
    is_active,
    space_of,
)
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.estimator import build_estimator
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.tuning.cross_validation import Fold, folds_of
from kfp_lifecycle.tuning.study import Study, Trial, show_all
from kfp_lifecycle.tuning.study_page import study_page
from kfp_lifecycle.tuning.study_plots import study_plots

if TYPE_CHECKING:
    from kfp_lifecycle.tuning.vizier import VizierStudy

# Trials that are drawn at random before Optuna learns from them, and that must have passed a fold before its median
# stops another.
STARTUP_TRIALS, TRIALS_BEHIND_A_MEDIAN = 5, 3

optuna.logging.set_verbosity(optuna.logging.WARNING)


def tune(
    study: optuna.Study,
    folds: Sequence[Fold],
    training: Training,
    tuning: Tuning,
    workers: Workers[Setting, Outcome],
    vizier: VizierStudy | None = None,
) -> list[Trial]:
    """Search, or go on with a search.

    Trial n is proposed when the trials to n - `parallel_trials` are known, and from those alone; so the same seed
    tries the same settings on any number of cores, and after a kill as without one. Only a search that its time limit
    cut short depends on the machine.

    Args:
        study: What was found so far; every result is added to it as soon as those before it are there.
        folds: What settings are judged by.
        training: The estimator, its default parameters and the seed.
        tuning: Search space, number of trials, pruning and time limit.
        workers: Processes that have no work yet.
        vizier: Who says what to try; None for Optuna.

    Returns:
        All trials in order, the default first.

    Raises:
        ContractViolation: the default itself cannot be trained, or the estimator does not know a parameter.
    """
    # A misspelt name in the search space is known before anything is trained.
    estimators = estimators_of(tuning.space)
    for path in estimators or [training.estimator]:
        defaults = training.parameters if path == training.estimator else {}
        build_estimator(path, {**defaults, **dict.fromkeys(space_of(path, tuning.space))}, training.seed)
    first = [{ESTIMATOR: path} for path in estimators if path != training.estimator]
    wanted = tuning.trials_here
    end = time.monotonic() + tuning.timeout_seconds
    if _trials(study):
        known = sum(trial.state.is_finished() for trial in _trials(study))
        print(f"Going on with a search that was cut off; {known} of its trials are known.", flush=True)
    workers.begin(partial(judge, folds, training))
    for trial in _trials(study):
        if not trial.state.is_finished():
            workers.submit(trial.number, _setting(study, trial.number, dict(trial.params), len(folds), tuning))

    def propose() -> None:
        while len(_trials(study)) < min(_known(study) + tuning.parallel_trials, wanted):
            number, parameters = _propose(study, training.seed, tuning.space, first, vizier)
            workers.submit(number, _setting(study, number, parameters, len(folds), tuning))

    arrived: dict[int, Outcome | Died] = {}
    propose()
    while (told := _known(study)) < wanted:
        # The default is waited for in any case: without it there would be no result at all.
        seconds = end - time.monotonic() if told else None
        if seconds is not None and seconds <= 0:
            break
        arrived |= workers.results(seconds)
        while (told := _known(study)) in arrived:
            _tell(study, told, arrived.pop(told), len(folds), vizier)
            report(study, told, wanted, len(folds))
            _refuse_failed_default(study)
            # After each that is told, also where several arrived at once: what is proposed must not depend on that.
            propose()
    for number, outcome in sorted(arrived.items()):
        _tell(study, number, outcome, len(folds), vizier)
        report(study, number, wanted, len(folds))
    found = [as_trial(trial) for trial in _trials(study) if trial.state.is_finished()]
    if len(found) < wanted:
        print(f"tuning.timeout_seconds ({tuning.timeout_seconds}) ended the search after {len(found)} trials.")
    return found


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, not copied: there may be thousands, and they are asked for after each."""
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
    return trials


def _refuse_failed_default(study: optuna.Study) -> None:
    reason = as_trial(_trials(study)[0]).reason
    if reason is not None:
        raise ContractViolation(f"The default itself, training.parameters, cannot be trained: {reason}")


def _known(study: optuna.Study) -> int:
    """How many trials are known without a gap."""
    finished = [trial.state.is_finished() for trial in _trials(study)]
    return (*finished, False).index(False)


def _propose(
    study: optuna.Study, seed: int, space: Space, first: Sequence[dict[str, Any]], vizier: VizierStudy | None
) -> tuple[int, dict[str, Any]]:
    """The next trial's number and parameters; after the default come those of `first`, the rest of them by chance."""
    number = len(_trials(study))
    if vizier is None and 0 < number <= len(first):
        study.enqueue_trial(first[number - 1])
    if vizier is not None and number:
        study.enqueue_trial(vizier.suggest(number))
    # A sampler of its own for each trial: one that lives on would remember what a search that was cut off forgets.
    chance = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=chance, n_startup_trials=STARTUP_TRIALS)
    trial = study.ask()
    # The default may lie outside the space, so that it is a trial without parameters.
    return number, suggest(trial, space) if number else {}


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Ask Optuna for a value of each dimension whose condition holds."""
    values: dict[str, Any] = {}
    for name, dimension in space.items():
        if not is_active(dimension, values):
            continue
        if isinstance(dimension, Choice):
            values[name] = trial.suggest_categorical(name, dimension.choices)
        elif isinstance(dimension, FloatRange):
            values[name] = trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        else:
            values[name] = trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    return values


def _setting(study: optuna.Study, number: int, parameters: dict[str, Any], folds: int, tuning: Tuning) -> Setting:
    before = [trial.intermediate_values for trial in _trials(study)[: max(0, number - tuning.parallel_trials + 1)]]
    bounded = tuning.pruning and number > 0
    return Setting(parameters, [median_bound(before, fold) if bounded else None for fold in range(folds - 1)])


def median_bound(trials: Sequence[Mapping[int, float]], fold: int) -> float | None:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", 3.2.2): worse than this is given up.

    Args:
        trials: For each earlier trial its mean ROC AUC after each fold that it came to.
        fold: After which fold, 0 for the first.

    Returns:
        The median after that fold; None where fewer than `TRIALS_BEHIND_A_MEDIAN` came to it.
    """
    values = [means[fold] for means in trials if fold in means]
    return float(np.median(values)) if len(values) >= TRIALS_BEHIND_A_MEDIAN else None


def _tell(study: optuna.Study, number: int, outcome: Outcome | Died, folds: int, vizier: VizierStudy | None) -> None:
    """Add a result to the study."""
    if isinstance(outcome, Died):
        outcome = Outcome([], 0.0, str(outcome))
    if vizier is not None and number:
        vizier.tell(number, float(np.mean(outcome.values)) if outcome.reason is None else None, outcome.reason or "")
    trial = optuna.trial.Trial(study, _trials(study)[number]._trial_id)
    for fold in range(len(outcome.values)):
        trial.report(float(np.mean(outcome.values[: fold + 1])), fold)
    trial.set_user_attr(SECONDS, outcome.seconds)
    if outcome.reason is not None:
        trial.set_user_attr(REASON, outcome.reason)
        study.tell(trial, state=TrialState.FAIL)
    elif len(outcome.values) < folds:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, float(np.mean(outcome.values)))


def report(study: optuna.Study, number: int, wanted: int, folds: int) -> None:
    """One line of progress."""
    trial = as_trial(_trials(study)[number])
    if trial.reason is not None:
        result = f"failed: {trial.reason}"
    elif trial.value is None:
        result = f"given up after {len(trial.folds)} of {folds} folds at AUC {np.mean(trial.folds):.4f}"
    else:
        result = f"AUC {trial.value:.4f}"
    values = [done.value for done in _trials(study) if done.state is TrialState.COMPLETE]
    best = f", best {max(values):.4f}" if values else ""
    print(
        f"trial {number + 1} of {wanted}: {result}{best} ({trial.seconds:.1f} s; {show_all(trial.parameters)})",
        flush=True,
    )


def _asked_of_vizier(tuning: Tuning, name: str) -> VizierStudy | None:
    """The study at Vizier, where it is the one that suggests."""
    if tuning.engine is not Engine.vizier or not tuning.space:
        return None
    # Google's libraries take a while to import.
    from kfp_lifecycle.tuning.vizier import VizierStudy

    return VizierStudy(tuning, name)


def search_with(
    workers: Workers[Setting, Outcome],
    settings: Configuration,
    locations: Locations,
    training_set: Path,
    parameters: Path,
    page: Path,
) -> dict[str, Any]:
    """As `search.search` does, with processes that have started already."""
    training, tuning, study_store = settings.training, settings.tuning, locations.study_store
    data = TrainingSet(training_set)
    # A part too small to train on, to calibrate on or to be judged by is told before anything is tried.
    data.trainable(("train", "validation", "calibration", "test"), training.min_class_rows)
    horizon = settings.label.horizon
    folds = folds_of(data, training, tuning.folds, horizon, estimators_of(tuning.space))
    for number, fold in enumerate(folds, start=1):
        print(f"fold {number} of {len(folds)}: {fold}", flush=True)
    name = study_name(data, training, tuning, horizon)
    with kept_study(Path(study_store) if study_store else None, name) as study:
        vizier = _asked_of_vizier(tuning, name)
        trials = tune(study, folds, training, tuning, workers, vizier)
        if vizier is not None:
            vizier.end()
        result = Study(trials, training.estimator, training.parameters, [str(fold) for fold in folds])
        found = result.describe()
        write_whole(page, study_page(result, study_plots(result, tuning.space)))
        found.write(parameters)
    told = found.metadata()
    if len(trials) < tuning.trials_here:
        told["summary"] += f", {len(trials)} of {tuning.trials_here} trials: tuning.timeout_seconds ended the search"
    return told
