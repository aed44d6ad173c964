"""Katib `Experiment` of a hyperparameter search."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kubeflow.katib import (
    V1beta1AlgorithmSetting,
    V1beta1AlgorithmSpec,
    V1beta1CollectorSpec,
    V1beta1EarlyStoppingSetting,
    V1beta1EarlyStoppingSpec,
    V1beta1Experiment,
    V1beta1ExperimentSpec,
    V1beta1FeasibleSpace,
    V1beta1MetricsCollectorSpec,
    V1beta1MetricStrategy,
    V1beta1ObjectiveSpec,
    V1beta1ParameterSpec,
    V1beta1TrialParameterSpec,
    V1beta1TrialTemplate,
)
from kubernetes.client import V1ObjectMeta

from kfp_lifecycle.config.tuning import Choice, FloatRange, IntRange, Tuning
from kfp_lifecycle.runtime.contract import OPENMP_VARIABLES, ContractViolation
from kfp_lifecycle.tuning.trial_settings import METRIC, PARAMETERS_VARIABLE, SETTINGS_VARIABLE, TrialSettings

CONTAINER = "training"
# Katib's own limit is 40 characters; the trials' names add nine.
LONGEST_PROJECT_NAME = 24
# Succeeded trials before the median stops another: as many as Optuna's engine asks for.
TRIALS_BEHIND_A_MEDIAN = 3

# Katib runs the words after `sh -c` unquoted and adds its own to them, so that they are one simple command, and
# everything that could need quotes is in environment variables. The image holds the library.
COMMAND = "python -m kfp_lifecycle.tuning.trial"
# What the Restricted standard asks of a container. The user is the image's; named, it is also the collector's where
# Katib gives that the container's own context (`injectSecurityContext`).
SECURITY_CONTEXT = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Characters that would change the JSON text or the variable that a value is put into.
UNSAFE = frozenset('"\\$') | {chr(code) for code in range(32)}


def build_experiment(
    project: str, namespace: str, image: str, settings: TrialSettings, tuning: Tuning
) -> V1beta1Experiment:
    """The search that `tuning` asks for.

    Args:
        project: The project's name, which the experiment's begins with.
        namespace: Kubernetes namespace of the experiment and its trials.
        image: Image of the environment `modelling`, which holds this library, tagged by its digest.
        settings: What trials are told.
        tuning: Space, number of trials, and how trials run.

    Raises:
        ContractViolation: a choice cannot be written into a trial's manifest, or two read the same.
    """
    for name, dimension in tuning.space.items():
        if isinstance(dimension, Choice):
            _refuse_unwritable(name, dimension)
    # The default was tried by the step before.
    trials = tuning.trials - 1
    identity = json.dumps([settings.model_dump(mode="json"), image])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    metadata = V1ObjectMeta(
        name=f"{project.replace('_', '-')[:LONGEST_PROJECT_NAME].rstrip('-')}-{digest}", namespace=namespace
    )
    early_stopping = V1beta1EarlyStoppingSpec(
        algorithm_name="medianstop",
        algorithm_settings=[
            V1beta1EarlyStoppingSetting(name="min_trials_required", value=str(TRIALS_BEHIND_A_MEDIAN)),
            # Katib compares once, at this report; ours are one for each fold.
            V1beta1EarlyStoppingSetting(name="start_step", value="1"),
        ],
    )
    return V1beta1Experiment(
        api_version="kubeflow.org/v1beta1",
        kind="Experiment",
        metadata=metadata,
        spec=V1beta1ExperimentSpec(
            # A trial's last line is its result. Katib's own choice, the largest, would be that of its best fold.
            objective=V1beta1ObjectiveSpec(
                type="maximize",
                objective_metric_name=METRIC,
                metric_strategies=[V1beta1MetricStrategy(name=METRIC, value="latest")],
            ),
            algorithm=V1beta1AlgorithmSpec(
                algorithm_name="tpe",
                algorithm_settings=[V1beta1AlgorithmSetting(name="random_state", value=str(settings.training.seed))],
            ),
            early_stopping=early_stopping if settings.stopping else None,
            max_trial_count=trials,
            parallel_trial_count=min(tuning.parallel_trials, trials),
            max_failed_trial_count=min(tuning.katib.max_failed_trials, trials),
            resume_policy=tuning.katib.resume_policy,
            metrics_collector_spec=V1beta1MetricsCollectorSpec(collector=V1beta1CollectorSpec(kind="StdOut")),
            parameters=[_parameter(name, dimension) for name, dimension in tuning.space.items()],
            trial_template=V1beta1TrialTemplate(
                primary_container_name=CONTAINER,
                # Pods stay until the experiment goes, so that a failed one can be asked why.
                retain=True,
                success_condition='status.conditions.#(type=="Complete")#|#(status=="True")#',
                failure_condition='status.conditions.#(type=="Failed")#|#(status=="True")#',
                trial_parameters=[
                    V1beta1TrialParameterSpec(name=name, reference=name, description=name) for name in tuning.space
                ],
                trial_spec=_job(image, settings, tuning),
            ),
        ),
    )


def _refuse_unwritable(name: str, dimension: Choice) -> None:
    texts = [str(choice) for choice in dimension.choices]
    unsafe = [text for text in texts if UNSAFE & set(text)]
    if unsafe or len(set(texts)) < len(texts):
        problem = f"{unsafe[0]!r} cannot be written into a manifest" if unsafe else "two of them read the same"
        raise ContractViolation(
            f"tuning.space.{name}.choices: {problem}, which Katib hands to trials as text. Change the choices, or set "
            "tuning.engine to optuna."
        )


def _parameter(name: str, dimension: FloatRange | IntRange | Choice) -> V1beta1ParameterSpec:
    """Katib knows no conditions: it always gives a value, and a trial passes over those whose condition fails."""
    if isinstance(dimension, Choice):
        choices = V1beta1FeasibleSpace(list=[str(choice) for choice in dimension.choices])
        return V1beta1ParameterSpec(name=name, parameter_type="categorical", feasible_space=choices)
    whole = isinstance(dimension, IntRange)
    bounds = V1beta1FeasibleSpace(
        min=str(dimension.low),
        max=str(dimension.high),
        # Only a step keeps Katib's logarithmic scale on whole numbers.
        step="1" if whole and dimension.log else None,
        distribution="logUniform" if dimension.log else "uniform",
    )
    return V1beta1ParameterSpec(name=name, parameter_type="int" if whole else "double", feasible_space=bounds)


def _job(image: str, settings: TrialSettings, tuning: Tuning) -> dict[str, Any]:
    """The Kubernetes Job of each trial."""
    katib = tuning.katib
    parameters = {name: f"${{trialParameters.{name}}}" for name in tuning.space}
    variables: list[dict[str, Any]] = [
        {"name": SETTINGS_VARIABLE, "value": settings.model_dump_json()},
        {"name": PARAMETERS_VARIABLE, "value": json.dumps(parameters)},
        *({"name": name, "value": value} for name, value in OPENMP_VARIABLES.items()),
    ]
    if katib.object_store_secret:
        variables += [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": katib.object_store_secret, "key": key}}}
            for name, key in (("AWS_ACCESS_KEY_ID", "accesskey"), ("AWS_SECRET_ACCESS_KEY", "secretkey"))
        ]
    resources = {"cpu": katib.cpu, "memory": katib.memory}
    container = {
        "name": CONTAINER,
        "image": image,
        "command": ["sh", "-c"],
        "args": [COMMAND],
        "env": variables,
        "resources": {"requests": resources, "limits": resources},
        "securityContext": SECURITY_CONTEXT,
    }
    # A mesh's sidecar would outlive the training, and the Job never end.
    labels = {"sidecar.istio.io/inject": "false"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": labels, "annotations": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": katib.service_account,
                    "containers": [container],
                },
            },
        },
    }
