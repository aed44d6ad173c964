"""Pod of a step: its resources, placement, retries and labels, by the project's settings over the library's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kfp import dsl, kubernetes
from kfp.dsl.structures import ResourceSpec

from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.config.steps import DEFAULT, StepSettings
from kfp_lifecycle.config.targets import KubeflowTarget
from kfp_lifecycle.runtime.component import LifecycleComponent
from kfp_lifecycle.serving.container import USER

# Requests without limits, so that a step may use what is idle. Memory is what was measured (docs/benchmarks.md) and
# room beside it: TFDV 2.7 GB at 5,000,000 rows, the evaluation 1.1 GB, ingest 0.7 GB, the training set 0.7 GB; what an
# environment imports is 0.2 to 0.8 GB. Any of them fits a node of two cores and 8 GB beside Kubeflow's own pods.
SMALL = StepSettings(cpu="100m", memory="256Mi")
USUAL = StepSettings(cpu="250m", memory="512Mi")
REQUESTS: Mapping[str, StepSettings] = {
    "notify": SMALL,
    "check_stores": SMALL,
    "trigger_retraining": SMALL,
    "write_report": SMALL,
    "build_training_set": StepSettings(cpu="500m", memory="1Gi"),
    "decide_remedy": StepSettings(cpu="500m", memory="1Gi"),
    "detect_drift": StepSettings(cpu="500m", memory="1Gi"),
    "evaluate_model": StepSettings(cpu="500m", memory="1536Mi"),
    "ingest_data": StepSettings(cpu="500m", memory="1Gi"),
    "materialize_features": StepSettings(cpu="500m", memory="1Gi"),
    "recompute_features": StepSettings(cpu="500m", memory="1Gi"),
    "score_batch": StepSettings(cpu="500m", memory="1Gi"),
    "train_model": StepSettings(cpu="500m", memory="2Gi"),
    "tune_hyperparameters": StepSettings(cpu="500m", memory="2Gi"),
    "validate_data": StepSettings(cpu="500m", memory="3Gi"),
    "validate_serving": StepSettings(cpu="500m", memory="1Gi"),
}

BACKOFF_SECONDS = 60
# Argo ends each later attempt so long after the first one began, and tries no more: by KFP's default that is an hour,
# less than a search may take.
RETRY_WINDOW = "604800s"


def step_settings(name: str, target: Target) -> StepSettings:
    """What a step's pod is given on a target.

    Vertex AI chooses a machine of 4 cores and 16 GB for a step that asks for nothing, so there the library does not.
    """
    said = target.steps.get(name, StepSettings()).over(target.steps.get(DEFAULT, StepSettings()))
    limits = {}
    if said.memory and not said.memory_limit:
        limits["memory_limit"] = said.memory
    if target.name == "vertex":
        # The machine is chosen by limits.
        return said.model_copy(update=limits | ({"cpu_limit": said.cpu_limit or said.cpu}))
    return said.model_copy(update=limits).over(REQUESTS.get(name, USUAL))


def settle(task: dsl.PipelineTask, component: LifecycleComponent, target: Target) -> None:
    """Give a task's pod what it is to have on a cluster."""
    settings = step_settings(component.name, target)
    _give_resources(task, settings)
    if settings.retries:
        backoff = f"{settings.backoff_seconds or BACKOFF_SECONDS}s"
        window = RETRY_WINDOW if target.name == "kubeflow" else None
        task.set_retry(settings.retries, backoff_duration=backoff, backoff_factor=2.0, backoff_max_duration=window)
    if settings.cache is False or not component.cached:
        task.set_caching_options(False)
    if target.kubeflow is not None:
        _place(task, settings)
        _make_pod(task, target, target.kubeflow)
        # What people read in the dashboard; everything else goes by the task's own name.
        task.set_display_name(component.name.replace("_", " ").capitalize())


def _give_resources(task: dsl.PipelineTask, settings: StepSettings) -> None:
    """Set all at once. Each of the task's own setters reads the whole call stack for its caller's name: half of the
    time that compiling took."""
    accelerator = settings.accelerator
    task.container_spec.resources = ResourceSpec(
        cpu_request=settings.cpu,
        cpu_limit=settings.cpu_limit,
        memory_request=settings.memory,
        memory_limit=settings.memory_limit,
        accelerator_type=accelerator.type if accelerator else None,
        accelerator_count=str(accelerator.count) if accelerator else None,
    )


def _place(task: dsl.PipelineTask, settings: StepSettings) -> None:
    if settings.timeout_seconds:
        kubernetes.set_timeout(task, settings.timeout_seconds)
    for key, value in sorted((settings.node_selector or {}).items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in settings.tolerations or []:
        kubernetes.add_toleration(
            task,
            key=toleration.key or None,
            operator=toleration.operator,
            value=toleration.value or None,
            effect=toleration.effect or None,
            toleration_seconds=toleration.toleration_seconds,
        )


def _make_pod(task: dsl.PipelineTask, target: Target, cluster: KubeflowTarget) -> None:
    for secret, variables in cluster.secrets.items():
        kubernetes.use_secret_as_env(task, secret, dict(variables))
    for name, variables in cluster.config_maps.items():
        kubernetes.use_config_map_as_env(task, name, dict(variables))
    for claim, place in cluster.volumes.items():
        kubernetes.mount_pvc(task, claim, place)
    if cluster.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.pull_secrets))
    for key, value in sorted({**target.labels, **cluster.pod_labels}.items()):
        kubernetes.add_pod_label(task, key, value)
    for key, value in sorted(cluster.pod_annotations.items()):
        kubernetes.add_pod_annotation(task, key, value)
    # Kubeflow Pipelines sets all else that the Restricted standard asks; only an image's user is not its to know.
    kubernetes.set_security_context(task, run_as_user=None if target.vehicle == "image" else USER, run_as_non_root=True)


def labels_of(project: str, pipeline: str, commit: str) -> dict[str, str]:
    """Labels that lead from a pod to what it was compiled from; the commit's only where it is known."""
    labels = {"lifecycle.project": project, "lifecycle.pipeline": pipeline, "lifecycle.commit": commit[:12]}
    # Characters and length as Kubernetes has them: a project's name may end in an underscore.
    valid = {key: re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", value[:63]) for key, value in labels.items()}
    return {key: value for key, value in valid.items() if value}
