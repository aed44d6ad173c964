"""What a namespace has to hold for a project's runs: objects, kinds, rights and room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.kubeflow.cluster import Absent, ask
from kfp_lifecycle.config.locations import KServeServing, serving_place
from kfp_lifecycle.config.targets import KubeflowTarget

# What a release asks of KServe, and what it keeps beside its service (docs/cluster-releases.md).
RELEASE_RIGHTS = {
    ("serving.kserve.io", "inferenceservices"): ("get", "create", "patch", "delete"),
    ("policy", "poddisruptionbudgets"): ("get", "create", "patch"),
    ("gateway.networking.k8s.io", "httproutes"): ("get", "create", "patch", "delete"),
}
# What submitting, watching and scheduling ask of a Kubeflow for many users, which looks for these rights in Kubernetes.
SUBMIT_RIGHTS = {
    "experiments": ("get", "list", "create"),
    "pipelines": ("get", "list", "create", "delete"),
    "runs": ("get", "list", "create", "terminate", "retry", "readArtifact"),
    "jobs": ("get", "list", "create", "enable", "disable", "delete"),
}
PIPELINES_GROUP = "pipelines.kubeflow.org"
# Who runs steps where the target names nobody: on a Kubeflow for one, and on one for many.
DEFAULT_ACCOUNTS = {False: "pipeline-runner", True: "default-editor"}
# Compute resources as quotas name them, and as containers do.
QUOTAS = {
    "cpu": ("requests", "cpu"),
    "requests.cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}


@dataclass(frozen=True)
class StepRoom:
    """What a step's container asks for, as Kubernetes writes quantities."""

    step: str
    requests: Mapping[str, str]
    limits: Mapping[str, str]


def examine_namespace(api: Any, target: KubeflowTarget, steps: Sequence[StepRoom], *, katib: bool) -> Iterator[Finding]:
    """Look at a namespace by Kubernetes' own API.

    Args:
        api: Its client.
        target: What the project says of the Kubeflow.
        steps: What each step's container asks for.
        katib: Whether the project searches with Katib.
    """
    import kubernetes

    namespace = target.namespace or target.installation
    account = target.service_account or DEFAULT_ACCOUNTS[bool(target.namespace)]
    core, custom = kubernetes.client.CoreV1Api(api), kubernetes.client.CustomObjectsApi(api)
    yield _version(kubernetes.client.VersionApi(api))
    yield from _objects(core, target, namespace)
    yield _there(
        f"service account {account}",
        partial(ask, core.read_namespaced_service_account, account, namespace),
        lambda found: [],
        f"kubectl -n {namespace} create serviceaccount {account}, or name another in targets.kubeflow.service_account",
    )
    yield from _room(core, namespace, steps)
    authorization = kubernetes.client.AuthorizationV1Api(api)
    if target.namespace:
        yield _own_rights(authorization, namespace)
    kinds = [("Katib", "kubeflow.org", "v1beta1", namespace, "experiments")] if katib else []
    place = serving_place(target.serving)
    if isinstance(place, KServeServing):
        kinds.append(("KServe", "serving.kserve.io", "v1beta1", place.namespace, "inferenceservices"))
    for name, group, version, where, plural in kinds:
        yield _there(
            name,
            partial(ask, custom.list_namespaced_custom_object, group, version, where, plural, limit=1),
            lambda found: [],
            f"install {name}, and let this account list {plural} in {where}",
        )
    if isinstance(place, KServeServing):
        yield _account_rights(authorization, place.namespace, account, namespace)


def _version(api: Any) -> Finding:
    try:
        return Finding("Kubernetes answers", Found.good, f"version {ask(api.get_code).git_version.removeprefix('v')}")
    except BackendError as error:
        return Finding("Kubernetes answers", Found.unknown, str(error), "log in to the cluster with kubectl")


def _objects(core: Any, target: KubeflowTarget, namespace: str) -> Iterator[Finding]:
    for kind, created, read, wanted in (
        ("secret", "secret generic", core.read_namespaced_secret, target.secrets),
        ("config map", "configmap", core.read_namespaced_config_map, target.config_maps),
    ):
        for name, keys in wanted.items():
            literals = " ".join(f"--from-literal={key}=…" for key in keys)
            yield _there(
                f"{kind} {name}",
                partial(ask, read, name, namespace),
                partial(_missing_keys, keys),
                f"kubectl -n {namespace} create {created} {name} {literals}",
            )
    for name in target.pull_secrets:
        yield _there(
            f"pull secret {name}",
            partial(ask, core.read_namespaced_secret, name, namespace),
            lambda found: [] if ".dockerconfigjson" in (found.data or {}) else [".dockerconfigjson"],
            f"kubectl -n {namespace} create secret docker-registry {name} --docker-server=… --docker-username=… "
            "--docker-password=…",
        )
    for name in target.volumes:
        yield _there(
            f"volume claim {name}",
            partial(ask, core.read_namespaced_persistent_volume_claim, name, namespace),
            lambda found: [] if found.status.phase == "Bound" else ["a volume: nothing provides one yet"],
            f"make a PersistentVolumeClaim {name} in {namespace}, ReadWriteMany where pods share it",
        )


def _missing_keys(keys: Iterable[str], found: Any) -> list[str]:
    return sorted(set(keys) - set(found.data or {}))


def _there(what: str, read: Callable[[], Any], lacks: Callable[[Any], Sequence[str]], remedy: str) -> Finding:
    try:
        missing = lacks(read())
    except Absent as absent:
        return Finding(what, Found.bad, str(absent), remedy)
    except BackendError as error:
        return Finding(what, Found.unknown, str(error), "ask who may look")
    return Finding(what, Found.bad, f"it lacks {', '.join(missing)}", remedy) if missing else Finding(what, Found.good)


def _room(core: Any, namespace: str, steps: Sequence[StepRoom]) -> Iterator[Finding]:
    """Quotas and limits of the namespace against each step: a pod that breaks one is never made."""
    what = f"quotas of {namespace} leave room for each step"
    try:
        quotas = ask(core.list_namespaced_resource_quota, namespace).items
        ranges = ask(core.list_namespaced_limit_range, namespace).items
    except BackendError as error:
        yield Finding(what, Found.unknown, str(error), "ask who may list resourcequotas and limitranges")
        return
    limits = [item for limit_range in ranges for item in limit_range.spec.limits if item.type == "Container"]
    defaulted = {key for item in limits for key in (item.default or {})}
    broken = [
        problem
        for step in steps
        for problem in (
            *(line for quota in quotas for line in _over_quota(quota, step, defaulted)),
            *(line for item in limits for line in _out_of_range(item, step)),
        )
    ]
    yield Finding(
        what,
        Found.bad if broken else Found.good,
        "; ".join(broken) if broken else f"{len(quotas)} quotas, {len(ranges)} limit ranges",
        "set targets.kubeflow.steps.STEP (cpu, memory, cpu_limit, memory_limit) to what it allows, or ask for more"
        if broken
        else "",
    )


def _over_quota(quota: Any, step: StepRoom, defaulted: set[str]) -> Iterator[str]:
    from kubernetes.utils.quantity import parse_quantity

    hard, used = quota.spec.hard or {}, quota.status.used or {}
    for name, allowed in sorted(hard.items()):
        if name == "pods":
            if parse_quantity(allowed) - parse_quantity(used.get(name, 0)) < 1:
                yield f"{quota.metadata.name} allows {allowed} pods, and all are there"
            continue
        kind, resource = QUOTAS.get(name, ("requests", name.removeprefix("requests.")))
        asked = (step.requests if kind == "requests" else step.limits).get(resource)
        if asked is None:
            if kind == "limits" and name in QUOTAS and resource not in defaulted:
                yield f"{step.step} has no {resource} limit, which {quota.metadata.name} asks of every pod"
            continue
        left: Decimal = parse_quantity(allowed) - parse_quantity(used.get(name, 0))
        if parse_quantity(asked) > left:
            yield f"{step.step} asks for {asked} {resource}, and {quota.metadata.name} has {left:f} of {allowed} left"


def _out_of_range(limit: Any, step: StepRoom) -> Iterator[str]:
    from kubernetes.utils.quantity import parse_quantity

    for resource, most in sorted((limit.max or {}).items()):
        asked = step.limits.get(resource) or step.requests.get(resource)
        if asked and parse_quantity(asked) > parse_quantity(most):
            yield f"{step.step} asks for {asked} {resource}, and a container may have {most}"
    for resource, least in sorted((limit.min or {}).items()):
        asked = step.requests.get(resource)
        if asked and parse_quantity(asked) < parse_quantity(least):
            yield f"{step.step} asks for {asked} {resource}, and a container has to ask for {least}"


def _own_rights(api: Any, namespace: str) -> Finding:
    """Whether who asks may submit, watch and schedule."""
    what = "this account may submit, watch and schedule"
    try:
        denied = {
            resource: refused
            for resource, verbs in SUBMIT_RIGHTS.items()
            if (refused := [verb for verb in verbs if not _may(api, PIPELINES_GROUP, resource, verb, namespace)])
        }
    except BackendError as error:
        return Finding(what, Found.unknown, str(error), "log in to the cluster with kubectl")
    if not denied:
        return Finding(what, Found.good)
    detail = "; ".join(f"it may not {', '.join(verbs)} {resource}" for resource, verbs in denied.items())
    return Finding(what, Found.bad, f"{detail} in {namespace}", role_to_submit(namespace))


def _account_rights(api: Any, namespace: str, account: str, own: str) -> Finding:
    """Whether the steps' account may release, verb by verb; with the role to bind where it may not."""
    what = f"the account {account} may release"
    user = f"system:serviceaccount:{own}:{account}"
    try:
        denied = [
            f"{verb} {resource}"
            for (group, resource), verbs in RELEASE_RIGHTS.items()
            for verb in verbs
            if not _may(api, group, resource, verb, namespace, user)
        ]
    except BackendError as error:
        return Finding(what, Found.unknown, str(error), "ask somebody who may make SubjectAccessReviews")
    if not denied:
        return Finding(what, Found.good)
    detail = f"it may not {', '.join(denied)} in {namespace}"
    return Finding(what, Found.bad, detail, role_to_release(namespace, account, own))


def _may(api: Any, group: str, resource: str, verb: str, namespace: str, user: str = "") -> bool:
    """Ask Kubernetes whether somebody, by default who asks, may do something."""
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    specification = {"resourceAttributes": attributes, **({"user": user} if user else {})}
    review = api.create_subject_access_review if user else api.create_self_subject_access_review
    return bool(ask(review, {"spec": specification}).status.allowed)


def role_to_release(namespace: str, account: str, own: str) -> str:
    """The role that releases need, and its binding, as YAML for kubectl apply."""
    rules = "\n".join(
        f"- {{apiGroups: [{group}], resources: [{resource}], verbs: [{', '.join(verbs)}]}}"
        for (group, resource), verbs in RELEASE_RIGHTS.items()
    )
    subject = f"{{kind: ServiceAccount, name: {account}, namespace: {own}}}"
    return _role("lifecycle-release", namespace, rules, subject)


def role_to_submit(namespace: str) -> str:
    """The role that submitting, watching and scheduling need, and its binding, as YAML for kubectl apply."""
    rules = "\n".join(
        f"- {{apiGroups: [{PIPELINES_GROUP}], resources: [{resource}], verbs: [{', '.join(verbs)}]}}"
        for resource, verbs in SUBMIT_RIGHTS.items()
    )
    return _role("lifecycle-user", namespace, rules, "{kind: User, name: YOU, apiGroup: rbac.authorization.k8s.io}")


def _role(name: str, namespace: str, rules: str, subject: str) -> str:
    return f"""kubectl apply -f - <<'YAML'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: {namespace}}}
rules:
{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: {namespace}}}
subjects: [{subject}]
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
YAML"""
