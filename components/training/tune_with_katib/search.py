"""Hyperparameter search with Katib: create the experiment, follow it, take the best, leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from kubeflow.katib import KatibClient, V1beta1Experiment, V1beta1Trial
from kubernetes.client import ApiException, BatchV1Api, V1ContainerStateTerminated

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_with_katib.experiment import CONTAINER, build_experiment
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.tuning import Space, Tuning, active_values
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.tuning.study import Study, Trial, show_all
from kfp_lifecycle.tuning.study_page import no_study_page, study_page
from kfp_lifecycle.tuning.study_plots import study_plots
from kfp_lifecycle.tuning.trial_settings import METRIC, TrialSettings

POLL_SECONDS = 5.0
# The API server may be away for a moment; so many times in a row it is gone.
FAILED_POLLS = 6
TRIAL_LABEL, EXPERIMENT_LABEL = "katib.kubeflow.org/trial", "katib.kubeflow.org/experiment"
# Why a container waits that will soon begin.
BEGINNING = ("ContainerCreating", "PodInitializing")
STOPPED = "EarlyStopped"
ENDED = ("Succeeded", "Failed", STOPPED, "Killed", "MetricsUnavailable")
OUT_OF_MEMORY = "OOMKilled"


def search(
    settings: Configuration,
    training_set: str,
    default: Path,
    image: str,
    parameters: Path,
    page: Path,
    client: KatibClient,
) -> dict[str, Any]:
    """Search with Katib and write the `parameters` and `study` artifacts, as the search on one machine does.

    Args:
        settings: `name`, `training`, `tuning` and `label.horizon_days`.
        training_set: URI of the training set, which trials read themselves.
        default: What `tune_hyperparameters` found for the default alone.
        image: Image of the trials.
        parameters: JSON file to write.
        page: HTML file to write.
        client: Katib's client for the namespace to work in.

    Returns:
        Metadata: `trials`, `best_value`, `default_value`, `experiment`, `summary`.

    Raises:
        ContractViolation: there is no image, Katib refuses the experiment or cannot be reached, or too many trials
            failed, with their reasons.
    """
    training, tuning = settings.training, settings.tuning
    known = Parameters.read(default)
    if known.version:
        # The estimator in production stays, and its parameters with it.
        write_whole(page, no_study_page(f"The parameters are those of version {known.version}, which stay."))
        known.write(parameters)
        return known.metadata()
    trials = [Trial(0, {}, [], known.default_value, 0.0, None)]
    name = ""
    if tuning.space and tuning.trials > 1:
        trial_settings = TrialSettings(
            training_set=training_set,
            object_store=tuning.katib.object_store,
            training=training,
            space=tuning.space,
            folds=tuning.folds,
            horizon_days=settings.label.horizon.days,
            stopping=tuning.pruning and len(known.folds) > 1,
        )
        experiment = build_experiment(settings.name, client.namespace, image, trial_settings, tuning)
        name = experiment.metadata.name
        trials += run_experiment(client, experiment, tuning, trials[0])
    study = Study(trials, training.estimator, training.parameters, known.folds)
    found = study.describe()
    write_whole(page, study_page(study, study_plots(study, tuning.space)))
    found.write(parameters)
    return {**found.metadata(), "experiment": name}


def run_experiment(client: KatibClient, experiment: V1beta1Experiment, tuning: Tuning, default: Trial) -> list[Trial]:
    """Run an experiment to its end or its time limit, with a line for each trial.

    An experiment of the same name is the same search, left by a step that was lost: it goes on. Whatever ends this
    step, cancelling it too, deletes the experiment with its trials, unless it came to its end and its resume policy
    keeps it.

    Args:
        client: Katib's client.
        experiment: Of `build_experiment`.
        tuning: Time limit and resume policy.
        default: The default's trial, for the best value so far.

    Returns:
        The trials in the order in which Katib made them, numbered from 1.

    Raises:
        ContractViolation: as `search`.
    """
    name = experiment.metadata.name
    keep = False
    with _cancelled_by_sigterm():
        try:
            _create(client, experiment)
            trials, finished = _follow(client, name, tuning, default)
            keep = finished and tuning.katib.resume_policy != "Never"
        finally:
            if not keep:
                _delete(client, name)
    return trials


def _create(client: KatibClient, experiment: V1beta1Experiment) -> None:
    name, wanted = experiment.metadata.name, experiment.spec.max_trial_count
    with _api_errors(f"list the experiments in {client.namespace}"):
        there = {item.metadata.name: item for item in client.list_experiments()}
    if name not in there:
        with _api_errors(f"create the experiment {name}"):
            client.create_experiment(experiment)
        print(f"Created the experiment {name} in the namespace {client.namespace}.", flush=True)
        return
    print(f"Going on with the experiment {name}.", flush=True)
    if (there[name].spec.max_trial_count or 0) < wanted:
        with _api_errors(f"raise the number of trials of the experiment {name}"):
            client.edit_experiment_budget(name, max_trial_count=wanted)


def _delete(client: KatibClient, name: str) -> None:
    """Delete an experiment with its trials; where that fails, say so beside what ended the step."""
    try:
        client.delete_experiment(name)
        print(f"Deleted the experiment {name}.", flush=True)
    except (RuntimeError, TimeoutError) as error:
        by_hand = f"kubectl delete experiments.kubeflow.org {name} --namespace {client.namespace}"
        print(f"{_explain(f'delete the experiment {name}', error)} By hand: {by_hand}", flush=True)


def _follow(client: KatibClient, name: str, tuning: Tuning, default: Trial) -> tuple[list[Trial], bool]:
    """Wait; the trials that ended, and whether the experiment came to its own end."""
    end = time.monotonic() + tuning.timeout_seconds
    shown: set[str] = set()
    obstacles: set[str] = set()
    failures = 0
    while True:
        try:
            experiment, raw = client.get_experiment(name), client.list_trials(experiment_name=name)
            failures = 0
        except (RuntimeError, TimeoutError) as error:
            failures += 1
            if failures >= FAILED_POLLS:
                raise ContractViolation(_explain(f"follow the experiment {name}", error)) from error
            time.sleep(POLL_SECONDS)
            continue
        raw.sort(key=lambda trial: (trial.metadata.creation_timestamp, trial.metadata.name))
        ended = [trial for trial in raw if _state(trial)]
        trials = [_as_trial(client, trial, number, tuning.space) for number, trial in enumerate(ended, start=1)]
        for trial, item in zip(trials, ended, strict=True):
            if item.metadata.name not in shown:
                shown.add(item.metadata.name)
                _report(trial, len(shown), tuning.trials - 1, [default, *trials])
                if _state(item) == STOPPED:
                    _free(client, item.metadata.name)
        if _has(experiment, "Failed"):
            reasons = [f"- {show_all(trial.parameters)}: {trial.reason}" for trial in trials if trial.reason]
            raise ContractViolation(
                f"Katib gave the experiment {name} up after {len(reasons)} failed trial{'s' * (len(reasons) != 1)} "
                f"(tuning.katib.max_failed_trials is {tuning.katib.max_failed_trials}):\n"
                + ("\n".join(reasons) or _message(experiment))
            )
        for kind, said in _obstacles(client, name).items():
            if kind not in obstacles:
                obstacles.add(kind)
                print(f"A pod of the experiment does not begin: {kind}: {said}", flush=True)
        # One that goes on with more trials has succeeded until Katib sees that.
        if _has(experiment, "Succeeded") and len(trials) >= experiment.spec.max_trial_count:
            return trials, True
        if time.monotonic() > end:
            print(f"tuning.timeout_seconds ({tuning.timeout_seconds}) ended the search after {len(trials)} trials.")
            return trials, False
        time.sleep(POLL_SECONDS)


def _as_trial(client: KatibClient, trial: V1beta1Trial, number: int, space: Space) -> Trial:
    assigned = {item.name: item.value for item in trial.spec.parameter_assignments}
    parameters = active_values(space, {key: dimension.parse(assigned[key]) for key, dimension in space.items()})
    state, value, reason = _state(trial), None, None
    if state == "Succeeded":
        # Only a trial that came to all folds is comparable; one that was stopped has the mean of those before.
        value = next(float(metric.latest) for metric in trial.status.observation.metrics if metric.name == METRIC)
    elif state != STOPPED:
        reason = _failure(client, trial, state)
    # Katib notes no end of a trial that it stopped.
    stopped = next((item.last_transition_time for item in trial.status.conditions if item.type == STOPPED), None)
    started, ended = trial.status.start_time, trial.status.completion_time or stopped
    seconds = (ended - started).total_seconds() if started and ended else 0.0
    return Trial(number, parameters, [], value, seconds, reason)


def _free(client: KatibClient, trial: str) -> None:
    """Delete the Job of a trial that was stopped.

    In its pod the collector waits for a mark that the training could not make, so that the pod keeps its processor and
    memory from the trials to come.
    """
    try:
        BatchV1Api(client.core_api.api_client).delete_namespaced_job(
            trial, client.namespace, propagation_policy="Background"
        )
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            print(_explain(f"delete the Job of the trial {trial}, which was stopped", error), flush=True)


def _failure(client: KatibClient, trial: V1beta1Trial, state: str) -> str:
    """Why a trial gave nothing: what its pod said last, else what Katib says."""
    with contextlib.suppress(ApiException):
        pods = client.core_api.list_namespaced_pod(
            client.namespace, label_selector=f"{TRIAL_LABEL}={trial.metadata.name}"
        )
        for pod in pods.items:
            for container in pod.status.container_statuses or []:
                ended = container.state.terminated
                if container.name == CONTAINER and ended and ended.exit_code:
                    return _last_words(ended)
    if state == "MetricsUnavailable":
        return f"it ended without a line {METRIC}=VALUE"
    conditions = [item for item in trial.status.conditions if item.type == state]
    return conditions[-1].message or conditions[-1].reason or state


def _obstacles(client: KatibClient, experiment: str) -> dict[str, str]:
    """What keeps pods of a search from beginning, in Kubernetes' own words, by its name for it."""
    found = {}
    with contextlib.suppress(ApiException):
        pods = client.core_api.list_namespaced_pod(client.namespace, label_selector=f"{EXPERIMENT_LABEL}={experiment}")
        for pod in pods.items:
            placed = next((item for item in pod.status.conditions or [] if item.type == "PodScheduled"), None)
            if placed is not None and placed.status == "False":
                found[placed.reason] = placed.message
            for container in pod.status.container_statuses or []:
                waiting = container.state.waiting
                if waiting is not None and waiting.reason not in BEGINNING:
                    found[waiting.reason] = waiting.message
    return found


def _last_words(ended: V1ContainerStateTerminated) -> str:
    """What is known of a container that failed: its own reason, else how it ended."""
    if ended.reason == OUT_OF_MEMORY:
        return "it was out of memory (OOMKilled): raise tuning.katib.memory"
    return ended.message or f"its container ended with exit code {ended.exit_code} ({ended.reason}) and without a word"


def _report(trial: Trial, ended: int, wanted: int, all_trials: list[Trial]) -> None:
    if trial.reason is not None:
        result = f"failed: {trial.reason}"
    else:
        result = "stopped early" if trial.value is None else f"AUC {trial.value:.4f}"
    best = max(item.value for item in all_trials if item.value is not None)
    tried = f"({trial.seconds:.0f} s; {show_all(trial.parameters)})"
    print(f"trial {ended} of {wanted}: {result}, best {best:.4f} {tried}", flush=True)


def _state(trial: V1beta1Trial) -> str:
    """How a trial ended; empty where it has not."""
    conditions = trial.status.conditions if trial.status else None
    return next((item.type for item in conditions or [] if item.type in ENDED and item.status == "True"), "")


def _has(experiment: V1beta1Experiment, condition: str) -> bool:
    conditions = experiment.status.conditions if experiment.status else None
    return any(item.type == condition and item.status == "True" for item in conditions or [])


def _message(experiment: V1beta1Experiment) -> str:
    return "; ".join(item.message for item in experiment.status.conditions if item.type == "Failed" and item.message)


@contextlib.contextmanager
def _api_errors(doing: str) -> Iterator[None]:
    """Turn what the SDK raises into plain words; it keeps the API server's own as the exception's context."""
    try:
        yield
    except Exception as error:
        raise ContractViolation(_explain(doing, error)) from error


def _explain(doing: str, error: Exception) -> str:
    cause = error.__context__ if isinstance(error.__context__, ApiException) else error
    if isinstance(cause, ApiException):
        try:
            said = json.loads(cause.body)["message"]
        except (TypeError, ValueError, KeyError):
            said = cause.reason
        return (
            f"Katib: could not {doing}: {said} ({cause.status}). Check that Katib is installed and that the step's "
            "service account may do this in its namespace (docs/tuning.md has the role)."
        )
    return f"Katib: could not {doing}: {cause}. Check that the cluster's API server can be reached from this step."


@contextlib.contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Let a cancelled step end as an interrupted one does, so that it cleans up."""

    def cancel(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt("the step was cancelled")

    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
