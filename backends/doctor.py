"""Doctor: what a run on a target would need, looked at before anything is started."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import obstore

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.uploads import STORE_ERRORS, credentials_of, reason_of, store_of
from kfp_lifecycle.compilation.pipeline import PIPELINES, CompiledPipeline, compile_pipeline
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.locations import serving_place
from kfp_lifecycle.config.targets import KubeflowTarget, TargetName
from kfp_lifecycle.environments.locks import SETUP, STEP_ENVIRONMENTS, is_built
from kfp_lifecycle.runtime.state_folder import state_folder

# What the environments and a few runs take.
ROOM_GB = 10
# The oldest Kubeflow Pipelines that takes artifacts of a folder's importer and conditions on outputs as compiled here.
OLDEST = (2, 5)
# What a release asks of KServe (docs/cluster-releases.md).
RELEASE_VERBS = ("get", "create", "patch", "delete")


class Found(StrEnum):
    """How a check came out."""

    good = "good"
    bad = "bad"
    unknown = "unknown"
    """It could not be looked at from here."""


@dataclass(frozen=True)
class Finding:
    """One thing that a run needs."""

    what: str
    found: Found
    detail: str = ""
    remedy: str = ""
    """What to do about it; empty where it is good."""


def examine(configuration: Configuration, target: TargetName, project: Path, folder: Path) -> Iterator[Finding]:
    """Look at everything a run needs, one after the other.

    Args:
        configuration: The project's configuration.
        target: Where runs would run.
        project: The project's folder.
        folder: An empty folder to compile to.
    """
    if target == "local":
        yield from _local(configuration)
        return
    compiled: list[CompiledPipeline] = []
    for name in PIPELINES:
        try:
            compiled.append(compile_pipeline(name, target, project, folder / f"{name}.yaml"))
        except ConfigurationError as error:
            yield Finding("the project compiles", Found.bad, str(error), "correct pipeline.yaml")
            return
    yield Finding("the project compiles", Found.good, f"{len(compiled)} pipelines for {target}")
    root = compiled[0].upload_root
    if root:
        yield _upload_root(root)
    if target == "kubeflow" and configuration.targets.kubeflow is not None:
        yield from _kubeflow(configuration.targets.kubeflow, configuration.name)


def _local(configuration: Configuration) -> Iterator[Finding]:
    missing = [name for name in STEP_ENVIRONMENTS if not is_built(name)]
    yield Finding(
        "environments are built",
        Found.bad if missing else Found.good,
        f"missing: {', '.join(missing)}" if missing else ", ".join(STEP_ENVIRONMENTS),
        f"run `{SETUP}`" if missing else "",
    )
    state = state_folder()
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free / 1e9
    yield Finding(
        "there is room",
        Found.good if free > ROOM_GB else Found.bad,
        f"{free:.0f} GB free at {state}",
        "" if free > ROOM_GB else f"make room for {ROOM_GB} GB, or name another folder in LIFECYCLE_STATE",
    )
    port = configuration.deployment.http_port
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    yield Finding(
        "the endpoint's port",
        Found.good,
        f"{port} is {'answered already: by the last release, or by something else' if taken else 'free'}",
    )


def _upload_root(root: str) -> Finding:
    """Write a small object and take it away again."""
    try:
        store, folder = store_of(root)
        key = "/".join(filter(None, (folder, f"doctor-{secrets.token_hex(4)}")))
        obstore.put(store, key, b"written by lifecycle doctor")
        obstore.delete(store, key)
    except STORE_ERRORS as error:
        return Finding(
            "the upload root is writable",
            Found.bad,
            f"{root}: {reason_of(error)}",
            f"see upload_root, and this machine's credentials: {credentials_of(root)}",
        )
    return Finding("the upload root is writable", Found.good, root)


def _kubeflow(target: KubeflowTarget, project: str) -> Iterator[Finding]:
    backend = KubeflowBackend(target, project)
    try:
        version = backend.api.version()
    except BackendError as error:
        yield Finding("Kubeflow Pipelines answers", Found.bad, str(error), "see targets.kubeflow.endpoint")
        return
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = bool(numbers) and numbers < OLDEST
    yield Finding(
        "Kubeflow Pipelines answers",
        Found.bad if old else Found.good,
        f"version {version or 'unknown'}",
        f"pipelines need {'.'.join(map(str, OLDEST))} or later" if old else "",
    )
    try:
        backend.runs(1)
    except BackendError as error:
        yield Finding("runs may be listed", Found.bad, str(error), "log in, or ask for the role that is named")
        return
    yield Finding("runs may be listed", Found.good, f"experiment {target.experiment or project}")
    yield from _kubernetes(target)


def _kubernetes(target: KubeflowTarget) -> Iterator[Finding]:
    """Secrets, volumes and rights, where this machine may ask Kubernetes itself."""
    what = "secrets, volumes and rights in the cluster"
    try:
        import kubernetes
        from kubernetes.client.exceptions import ApiException

        try:
            kubernetes.config.load_incluster_config()
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config()
    except Exception as error:
        yield Finding(what, Found.unknown, f"no kubeconfig here ({error})", "log in to the cluster with kubectl")
        return
    namespace = target.namespace or target.installation
    core, custom = kubernetes.client.CoreV1Api(), kubernetes.client.CustomObjectsApi()
    for name, keys in target.secrets.items():
        yield _there(
            f"secret {name}",
            partial(core.read_namespaced_secret, name, namespace, _request_timeout=10),
            partial(_missing_keys, keys),
            f"kubectl -n {namespace} create secret generic {name} "
            + " ".join(f"--from-literal={key}=…" for key in keys),
            ApiException,
        )
    for name in target.volumes:
        yield _there(
            f"volume claim {name}",
            partial(core.read_namespaced_persistent_volume_claim, name, namespace, _request_timeout=10),
            lambda found: [] if found.status.phase == "Bound" else ["a volume: nothing provides one yet"],
            f"make a PersistentVolumeClaim {name} in {namespace}, ReadWriteMany where pods share it",
            ApiException,
        )
    place = serving_place(target.serving)
    release = getattr(place, "namespace", "")
    if release:
        yield _there(
            "KServe",
            lambda: custom.list_namespaced_custom_object(
                "serving.kserve.io", "v1beta1", release, "inferenceservices", limit=1, _request_timeout=10
            ),
            lambda found: [],
            f"install KServe, and let this account list InferenceServices in {release}",
            ApiException,
        )
        yield from _rights(release, target.service_account or "pipeline-runner", namespace)


def _missing_keys(keys: Iterable[str], secret: Any) -> list[str]:
    return sorted(set(keys) - set(secret.data or {}))


def _there(
    what: str,
    read: Callable[[], Any],
    lacks: Callable[[Any], Sequence[str]],
    remedy: str,
    refused: type[Exception],
) -> Finding:
    try:
        missing = lacks(read())
    except refused as error:
        status = getattr(error, "status", None)
        if status == 404:
            return Finding(what, Found.bad, "it is not there", remedy)
        return Finding(what, Found.unknown, f"Kubernetes says {status}: {getattr(error, 'reason', '')}", "ask who may")
    except Exception as error:
        return Finding(what, Found.unknown, str(error)[:300], "see that the cluster's API server can be reached")
    return Finding(what, Found.bad, f"it lacks {', '.join(missing)}", remedy) if missing else Finding(what, Found.good)


def _rights(namespace: str, account: str, own: str) -> Iterator[Finding]:
    """Whether the steps' account may release, verb by verb; with the role to bind where it may not."""
    import kubernetes
    from kubernetes.client.exceptions import ApiException

    api = kubernetes.client.AuthorizationV1Api()
    denied = []
    for verb in RELEASE_VERBS:
        review = {
            "spec": {
                "user": f"system:serviceaccount:{own}:{account}",
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": "serving.kserve.io",
                    "resource": "inferenceservices",
                },
            }
        }
        try:
            answer = api.create_subject_access_review(review, _request_timeout=10)
        except ApiException as error:
            yield Finding(
                f"the account {account} may release",
                Found.unknown,
                f"Kubernetes says {error.status} to the question",
                "ask somebody who may make SubjectAccessReviews",
            )
            return
        if not answer.status.allowed:
            denied.append(verb)
    yield Finding(
        f"the account {account} may release",
        Found.bad if denied else Found.good,
        f"it may not {', '.join(denied)} InferenceServices in {namespace}" if denied else "",
        role_to_bind(namespace, account, own) if denied else "",
    )


def role_to_bind(namespace: str, account: str, own: str) -> str:
    """The role that releases need, and its binding, as YAML for kubectl apply."""
    verbs = ", ".join(RELEASE_VERBS)
    return f"""kubectl apply -f - <<'YAML'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: lifecycle-release, namespace: {namespace}}}
rules:
- {{apiGroups: [serving.kserve.io], resources: [inferenceservices], verbs: [{verbs}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: lifecycle-release, namespace: {namespace}}}
subjects: [{{kind: ServiceAccount, name: {account}, namespace: {own}}}]
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: lifecycle-release}}
YAML"""
