"""The search never chooses something worse than the default, says what it tried, and survives what kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_hyperparameters import search as step
from kfp_lifecycle.components.training.tune_hyperparameters.judging import Outcome, Setting
from kfp_lifecycle.components.training.tune_hyperparameters.study_store import kept_study, study_name
from kfp_lifecycle.components.training.tune_hyperparameters.tuning import median_bound, suggest, tune
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Died, Workers
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning, active_values
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning.cross_validation import Fold, fold_snapshots, folds_of
from kfp_lifecycle.tuning.parameter_importance import parameter_importance
from kfp_lifecycle.tuning.study import Study, Trial
from kfp_lifecycle.tuning.study_page import study_page
from kfp_lifecycle.tuning.study_plots import study_plots
from tests.modelling.business import write_project, write_training_set
from tests.projects import load_locations, read_project, save_locations

pytestmark = pytest.mark.slow

TRAINING = Training(parameters={"max_iter": 8})
SPACE = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.3, "log": True},
    "max_leaf_nodes": {"type": "int", "low": 3, "high": 20},
}
HORIZON = timedelta(days=28)


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("data") / "set", rows=400))


@pytest.fixture(scope="module")
def folds(training_set: TrainingSet) -> list[Fold]:
    return folds_of(training_set, TRAINING, 2, HORIZON)


def searched(folds: list[Fold], training: Training = TRAINING, cores: int = 2, **settings: Any) -> list[Trial]:
    study, tuning = optuna.create_study(direction="maximize"), Tuning(**{"space": SPACE, **settings})
    workers: Workers[Setting, Outcome] = Workers(cores, min(tuning.parallel_trials, tuning.trials_here))
    with workers:
        return tune(study, folds, training, tuning, workers)


def figures(trials: list[Trial]) -> list[tuple[dict[str, Any], list[float]]]:
    return [(trial.parameters, trial.folds) for trial in trials]


class TestFolds:
    def test_each_trains_on_what_was_known_before_what_it_is_judged_on(self) -> None:
        dates = list(pd.date_range("2025-01-01", periods=8, freq="30D"))
        found = fold_snapshots(dates, 2, timedelta(days=30))
        assert found == [(dates[:4], dates[4:6]), (dates[:6], dates[6:])]

    def test_a_label_that_takes_longer_widens_the_gap_and_leaves_fewer_folds(self) -> None:
        dates = list(pd.date_range("2025-01-01", periods=4, freq="30D"))
        assert fold_snapshots(dates, 2, timedelta(days=90)) == [(dates[:1], dates[3:])]

    def test_they_never_read_the_validation_or_the_test_part(self, tmp_path: Path) -> None:
        folder = write_training_set(tmp_path / "set", rows=300)
        for part in ("validation", "test"):
            (folder / f"{part}.parquet").unlink()
        assert len(folds_of(TrainingSet(folder), TRAINING, 2, HORIZON)) == 2

    def test_one_without_positives_is_left_out_and_the_next_one_decides(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def nobody_left_in_february(part: str, frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(gone=frame.gone.where(frame.event_timestamp.dt.month != 2, 0))

        data = TrainingSet(write_training_set(tmp_path / "set", rows=300, change=nobody_left_in_february))
        (fold,) = folds_of(data, TRAINING, 2, HORIZON)
        assert "from 2025-03-" in str(fold)
        assert "the one judged on 2025-02-01 to 2025-02-01 has 0" in capsys.readouterr().out

    def test_twenty_rows_are_refused_with_the_remedy(self, tmp_path: Path) -> None:
        few = TrainingSet(write_training_set(tmp_path / "set", rows=20))
        with pytest.raises(ContractViolation, match=r"fewer than training\.min_class_rows"):
            folds_of(few, Training(min_class_rows=9), 2, HORIZON)

    def test_a_single_snapshot_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        data = TrainingSet(write_training_set(tmp_path / "set", rows=300))
        with pytest.raises(ContractViolation, match=r"no fold in 3 snapshots.*set tuning.engine to none"):
            folds_of(data, TRAINING, 2, timedelta(days=90))

    def test_a_feature_that_was_first_recorded_later_is_left_out_of_the_folds_before(self, tmp_path: Path) -> None:
        def recorded_since_march(part: str, frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(noise=frame.noise.where(frame.event_timestamp >= pd.Timestamp("2025-03-01", tz="UTC")))

        data = TrainingSet(write_training_set(tmp_path / "set", rows=300, change=recorded_since_march))
        linear = Training(estimator="sklearn.linear_model.LogisticRegression")
        assert all(np.isfinite(fold.train).all() for fold in folds_of(data, linear, 2, HORIZON))


class TestSearch:
    def test_the_default_is_the_first_trial_and_nothing_worse_is_chosen(
        self, folds: list[Fold], capsys: pytest.CaptureFixture[str]
    ) -> None:
        study = Study(searched(folds, trials=5), TRAINING.estimator, {}, [])
        assert study.default.parameters == {}
        assert (study.best.value or 0) >= (study.default.value or 1)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5
        assert "trial 1 of 5" in lines[0]
        assert "the default" in lines[0]
        assert all("best" in line for line in lines)

    def test_only_bad_choices_leave_the_default(self, folds: list[Fold]) -> None:
        useless = {"max_iter": {"type": "categorical", "choices": [1]}}
        trials = searched(folds, trials=3, space=useless)
        assert Study(trials, TRAINING.estimator, TRAINING.parameters, []).describe().parameters == TRAINING.parameters

    def test_the_same_seed_tries_the_same_on_any_number_of_cores(self, folds: list[Fold]) -> None:
        one, three = (searched(folds, trials=10, cores=cores) for cores in (1, 3))
        assert figures(one) == figures(three)
        assert figures(one) != figures(searched(folds, TRAINING.model_copy(update={"seed": 7}), trials=10))

    def test_a_trial_worse_than_the_median_of_those_before_it_is_given_up_and_never_chosen(
        self, folds: list[Fold]
    ) -> None:
        trials = searched(folds, trials=12)
        given_up = Study(trials, TRAINING.estimator, {}, []).given_up
        assert given_up
        for trial in given_up:
            before = [{0: other.folds[0]} for other in trials[: trial.number - 3]]
            assert trial.folds[0] < (median_bound(before, 0) or 0)
        assert not Study(searched(folds, trials=12, pruning=False), TRAINING.estimator, {}, []).given_up

    def test_the_median_is_that_of_optunas_own_pruner(self) -> None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
        earlier = [{0: 0.6}, {0: 0.7}, {0: 0.8}, {0: 0.75}]
        for value in (0.72, 0.73):
            study = optuna.create_study(direction="maximize", pruner=pruner)
            for means in earlier:
                study.add_trial(optuna.trial.create_trial(value=means[0], intermediate_values=means))
            trial = study.ask()
            trial.report(value, 0)
            assert trial.should_prune() == (value < (median_bound(earlier, 0) or 0))

    def test_a_parameter_with_a_condition_is_searched_only_where_it_holds(self) -> None:
        space = Tuning(
            space={
                "early_stopping": {"type": "categorical", "choices": [True, False]},
                "n_iter_no_change": {"type": "int", "low": 2, "high": 9, "when": {"early_stopping": True}},
                "tol": {"type": "float", "low": 1e-6, "high": 1e-3, "log": True, "when": {"n_iter_no_change": 3}},
            }
        ).space
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        tried = [suggest(study.ask(), space) for _ in range(60)]
        assert all(("n_iter_no_change" in values) == values["early_stopping"] for values in tried)
        assert all(("tol" in values) == (values.get("n_iter_no_change") == 3) for values in tried)
        assert any("tol" in values for values in tried)
        without = {"early_stopping": False, "n_iter_no_change": 3, "tol": 1e-4}
        assert active_values(space, without) == {"early_stopping": False}

    def test_a_misspelt_name_in_the_space_is_refused_before_anything_is_trained(
        self, folds: list[Fold], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ContractViolation, match="did you mean max_leaf_nodes"):
            searched(folds, space={"max_leaf_node": {"type": "int", "low": 2, "high": 9}})
        assert capsys.readouterr().out == ""

    def test_where_every_other_trial_fails_the_default_stands_and_the_reason_is_shown(
        self, folds: list[Fold], capsys: pytest.CaptureFixture[str]
    ) -> None:
        impossible = {"max_bins": {"type": "int", "low": 1000, "high": 2000}}
        study = Study(searched(folds, trials=3, space=impossible), TRAINING.estimator, {}, ["a fold", "a fold"])
        assert study.best is study.default
        assert len(study.failed) == 2
        assert "max_bins" in (study.failed[0].reason or "")
        assert "failed: training.estimator" in capsys.readouterr().out
        assert "Trial 2 failed" in study_page(study)

    def test_a_default_that_cannot_be_trained_is_refused_with_its_reason(self, folds: list[Fold]) -> None:
        with pytest.raises(ContractViolation, match=r"training.parameters, cannot be trained.*max_bins"):
            searched(folds, Training(parameters={"max_bins": 1000}), trials=2)

    def test_time_that_is_up_before_the_first_trial_ends_still_gives_the_default(
        self, folds: list[Fold], capsys: pytest.CaptureFixture[str]
    ) -> None:
        slow = Training(parameters={"max_iter": 600, "early_stopping": False})
        trials = searched(folds, slow, trials=50, timeout_seconds=1)
        assert trials[0].value is not None
        assert len(trials) < 50
        assert "tuning.timeout_seconds (1) ended the search" in capsys.readouterr().out


def sleep_or_die(dying: Path, task: str) -> str:
    """A worker's task that kills its own process as often as `dying` holds a letter."""
    letters = dying.read_text("utf-8")
    if task == "dies" and letters:
        dying.write_text(letters[1:], "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return task.upper()


@pytest.mark.parametrize(("kills", "second"), [("x", "DIES"), ("xx", Died(-signal.SIGKILL))])
def test_a_killed_worker_is_replaced_and_its_task_tried_once_more(tmp_path: Path, kills: str, second: Any) -> None:
    (tmp_path / "dying").write_text(kills, "utf-8")
    found: dict[int, Any] = {}
    workers: Workers[str, str] = Workers(cores=2, most=2)
    with workers:
        workers.begin(partial(sleep_or_die, tmp_path / "dying"))
        for number, task in enumerate(["first", "dies", "third"]):
            workers.submit(number, task)
        while len(found) < 3:
            found |= workers.results(200)
        processes = workers.processes
    assert found == {0: "FIRST", 1: second, 2: "THIRD"}
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def train(seed: int) -> float:
    """A worker's task that keeps several OpenMP threads busy."""
    random = np.random.default_rng(seed)
    inputs, label = random.normal(size=(2_000, 3)), random.integers(0, 2, 2_000)
    return float(HistGradientBoostingClassifier(max_iter=2).fit(inputs, label).score(inputs, label))


def test_a_worker_has_threads_though_those_of_the_process_that_started_it_have_worked() -> None:
    expected = train(3)
    workers: Workers[int, float] = Workers(cores=2, most=1)
    with workers:
        workers.begin(train)
        workers.submit(0, 3)
        assert workers.results(300) == {0: expected}


ENDLESS = """
import time
from kfp_lifecycle.components.training.tune_hyperparameters.workers import Workers
with Workers(cores=2, most=2) as workers:
    workers.begin(time.sleep)
    for number in range(2):
        workers.submit(number, 600)
    print(*workers.processes, flush=True)
    workers.results(None)
"""


def test_workers_do_not_outlive_the_process_that_was_killed() -> None:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", ENDLESS], env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [Path(f"/proc/{number}") for number in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
        end = time.monotonic() + 100
        while any(worker.exists() for worker in workers):
            assert time.monotonic() < end
            time.sleep(0.1)


def search(project: Path, *places: Path) -> dict[str, Any]:
    """Training set, parameters and page, as the step's own function takes them."""
    given = read_project(project)
    return step.search(given.settings, given.locations, *places)


SEARCH = """
import sys
from pathlib import Path
from kfp_lifecycle.components.training.tune_hyperparameters.search import search
from tests.projects import read_project
given = read_project(Path(sys.argv[1]))
search(given.settings, given.locations, *map(Path, sys.argv[2:]))
"""


class TestACutOffSearch:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        project = write_project(
            tmp_path / "project",
            tmp_path / "state",
            label={"horizon_days": 28},
            tuning={"trials": 12, "space": SPACE},
            training={"parameters": {"max_iter": 60}},
        )
        locations = load_locations(project).model_dump()
        save_locations(Locations.model_validate({**locations, "study_store": str(tmp_path / "studies")}), project)
        return project

    def test_goes_on_after_kill_9_and_finds_what_it_would_have_found(self, tmp_path: Path, project: Path) -> None:
        folder = write_training_set(tmp_path / "set", rows=600)
        arguments = [str(place) for place in (project, folder, tmp_path / "found", tmp_path / "page.html")]
        command = [sys.executable, "-c", SEARCH, *arguments]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any(line.startswith("trial 3 of 12") for line in process.stdout)
            process.kill()
        (journal,) = (tmp_path / "studies").glob("*.journal")
        assert not (tmp_path / "found").exists()
        with journal.open("ab") as file:
            file.write(b'{"op_code": 5, "wor')
        resumed = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
        assert "Going on with a search that was cut off" in resumed
        assert "trial 3 of 12" not in resumed
        assert "trial 12 of 12" in resumed
        assert list((tmp_path / "studies").iterdir()) == []
        found = (tmp_path / "found").read_bytes()
        search(project, folder, tmp_path / "found", tmp_path / "page.html")
        assert (tmp_path / "found").read_bytes() == found

    def test_is_found_by_its_inputs_and_only_by_those(self, tmp_path: Path, training_set: TrainingSet) -> None:
        def name(training: Training = TRAINING, horizon: timedelta = HORIZON, **settings: Any) -> str:
            return study_name(training_set, training, Tuning(**{"space": SPACE, **settings}), horizon)

        assert name() == name(timeout_seconds=5)
        others = [
            name(Training(seed=1)),
            name(horizon=timedelta(days=9)),
            name(folds=2),
            name(trials=9),
            name(space={}),
        ]
        assert len({name(), *others}) == 6

    def test_one_that_was_refused_is_forgotten_so_that_what_was_mended_is_tried_again(self, tmp_path: Path) -> None:
        with pytest.raises(ContractViolation), kept_study(tmp_path, "name"):
            raise ContractViolation("the default cannot be trained")
        assert list(tmp_path.iterdir()) == []

    def test_a_second_process_waits_for_the_first(self, tmp_path: Path) -> None:
        hold = (
            "import sys, time; from pathlib import Path\n"
            "from kfp_lifecycle.components.training.tune_hyperparameters.study_store import kept_study\n"
            "with kept_study(Path(sys.argv[1]), 'name'): print('held', flush=True); time.sleep(4)"
        )
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", hold, str(tmp_path)]
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            started = time.monotonic()
            with kept_study(tmp_path, "name") as study:
                assert time.monotonic() - started > 1
                assert study.trials == []

    def test_a_folder_that_cannot_be_written_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", "utf-8")
        with (
            pytest.raises(ContractViolation, match=r"folder for studies .*file.* cannot be used: Not a directory"),
            kept_study(tmp_path / "file" / "studies", "name"),
        ):
            pass


class TestTheStep:
    def test_writes_parameters_and_a_page_that_needs_no_network(self, tmp_path: Path) -> None:
        project = write_project(tmp_path / "project", tmp_path / "state", label={"horizon_days": 28})
        folder = write_training_set(tmp_path / "set", rows=300)
        metadata = search(project, folder, tmp_path / "parameters", tmp_path / "study.html")
        found = Parameters.read(tmp_path / "parameters")
        assert (found.best_value or 0) >= (found.default_value or 1)
        assert metadata["trials"] == found.trials == 3
        page = (tmp_path / "study.html").read_text("utf-8")
        assert page.count("<svg") == 2
        assert "learning_rate" in page
        assert "src=" not in page

    def test_without_an_engine_the_defaults_pass_through_untried(self, tmp_path: Path) -> None:
        project = write_project(tmp_path / "project", tmp_path / "state", tuning={"engine": "none"})
        metadata = search(project, tmp_path / "no set", tmp_path / "parameters", tmp_path / "study.html")
        assert Parameters.read(tmp_path / "parameters") == Parameters(parameters={"max_iter": 30})
        assert metadata["trials"] == 0

    def test_for_katib_the_default_alone_is_tried(self, tmp_path: Path) -> None:
        tuning = {"engine": "katib", "trials": 9}
        project = write_project(tmp_path / "project", tmp_path / "state", tuning=tuning, label={"horizon_days": 28})
        folder = write_training_set(tmp_path / "set", rows=300)
        assert search(project, folder, tmp_path / "parameters", tmp_path / "study.html")["trials"] == 1


def test_the_parameter_that_makes_the_difference_is_found() -> None:
    space = Tuning.model_validate({"space": {**SPACE, "kind": {"type": "categorical", "choices": ["x", "y"]}}}).space
    random = np.random.default_rng(0)
    trials = [Trial(0, {}, [], 0.5, 1, None)]
    for number in range(1, 41):
        rate, leaves = float(random.uniform(0.02, 0.3)), int(random.integers(3, 20))
        chosen = {"learning_rate": rate, "max_leaf_nodes": leaves, "kind": "xy"[number % 2]}
        trials.append(Trial(number, chosen, [], rate, 1, None))
    shares = parameter_importance(Study(trials, TRAINING.estimator, {}, []), space)
    assert set(shares) == {"learning_rate", "max_leaf_nodes", "kind"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.8
    assert parameter_importance(Study(trials[:5], TRAINING.estimator, {}, []), space) == {}


def test_the_page_shows_conditional_parameters_and_those_given_up() -> None:
    trials = [
        Trial(0, {}, [0.5, 0.5], 0.5, 1, None),
        Trial(1, {"kind": "<b>", "a": 0.1}, [0.7, 0.7], 0.7, 1, None),
        Trial(2, {"kind": None}, [0.6, 0.6], 0.6, 1, None),
        Trial(3, {"kind": None}, [0.4], None, 1, None),
    ]
    found = Study(trials, TRAINING.estimator, {}, ["first", "second"])
    page = study_page(found, study_plots(found, Tuning().space))
    assert page.count("<svg") == 2
    assert "1 were given up early" in page
    assert "<b>" not in page
