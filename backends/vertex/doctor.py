"""Doctor of Vertex AI: what a run there would need, asked of Google's services as whoever would submit it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.findings import Finding, Found, looked_at
from kfp_lifecycle.backends.registries import examine_images, images_of
from kfp_lifecycle.backends.vertex.api import CONSOLE, VertexApi
from kfp_lifecycle.backends.vertex.backend import VertexBackend
from kfp_lifecycle.backends.vertex.machines import examine_machines
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.steps import cores
from kfp_lifecycle.config.targets import VertexTarget

# What whoever submits may do, and the role that lets them.
SUBMITTER = {
    "roles/aiplatform.user": (
        "aiplatform.pipelineJobs.create",
        "aiplatform.pipelineJobs.get",
        "aiplatform.pipelineJobs.list",
        "aiplatform.pipelineJobs.cancel",
        "aiplatform.schedules.create",
        "aiplatform.schedules.update",
    ),
    "roles/logging.viewer": ("logging.logEntries.list",),
}
# What the steps' account needs in the project, and what beside it where a store is there.
STEPS = ("roles/aiplatform.user", "roles/logging.logWriter")
WITH_BIGQUERY, WITH_BIGTABLE = ("roles/bigquery.jobUser", "roles/bigquery.dataEditor"), ("roles/bigtable.user",)
# Roles that hold these.
ABOVE = ("roles/owner", "roles/editor", "roles/aiplatform.admin")
BUCKET = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
# The machine of a step that asks for nothing has so many cores.
CORES = 4
CPUS = "custom_model_training_cpus"


def examine_vertex(configuration: Configuration, target: VertexTarget, compiled: Sequence[Path]) -> Iterator[Finding]:
    """Look at everything a run on Vertex AI needs, one after the other.

    Args:
        configuration: The project's configuration.
        target: What it says of Vertex AI.
        compiled: The compiled pipelines.
    """
    backend = VertexBackend(target, configuration.name)
    api = backend.api
    for service in _services(target):
        yield from _enabled(api, service)
    try:
        backend.runs(1)
    except BackendError as error:
        yield Finding(f"Vertex AI answers in {api.location}", Found.bad, str(error), "see what it says, then ask again")
        return
    yield Finding(f"Vertex AI answers in {api.location}", Found.good, f"project {api.project}")
    yield from _submitter(api)
    yield from _account(api, target.service_account, _roles(target))
    for bucket in sorted({_bucket(target.upload_root), _bucket(target.pipeline_root or target.upload_root)}):
        yield from _bucket_of_runs(api, bucket)
    for variable, reference in target.secrets.items():
        yield from _secret(api, variable, reference)
    if target.encryption_key:
        yield from _key(api, target.encryption_key)
    if target.persistent_resource:
        yield from _persistent_resource(api, target.persistent_resource)
    yield from _quotas(api, compiled)
    yield from examine_machines(api, target, compiled)
    yield from examine_images(images_of(compiled), api.registry_login)


def _services(target: VertexTarget) -> list[str]:
    needed = ["aiplatform", "storage", "logging"]
    needed += ["secretmanager"] if target.secrets else []
    needed += ["bigquery"] if target.offline_store.startswith("bigquery:") or target.servers.request_log else []
    needed += ["bigtable"] if target.online_store.startswith("bigtable:") else []
    needed += ["artifactregistry"] if ".pkg.dev/" in target.image_registry else []
    return needed


def _roles(target: VertexTarget) -> list[str]:
    """What the steps' account needs in the project."""
    roles = list(STEPS)
    roles += WITH_BIGQUERY if target.offline_store.startswith("bigquery:") else []
    roles += WITH_BIGTABLE if target.online_store.startswith("bigtable:") else []
    return roles


def _enabled(api: VertexApi, service: str) -> Iterator[Finding]:
    name = f"{service}.googleapis.com"
    what, remedy = f"the API {name} is enabled", f"gcloud services enable {name} --project={api.project}"

    def look() -> Iterator[Finding]:
        role = "roles/serviceusage.serviceUsageViewer"
        found = api.service(f"see {name}", "serviceusage", f"/v1/projects/{api.project}/services/{name}", role=role)
        enabled = found.get("state") == "ENABLED"
        yield Finding(what, Found.good if enabled else Found.bad, "", "" if enabled else remedy)

    yield from looked_at(what, look, remedy)


def _missing(api: VertexApi, what: str, service: str, path: str, wanted: Sequence[str]) -> list[str]:
    """Permissions that whoever asks does not have."""
    granted = api.service(what, service, f"{path}:testIamPermissions", {"permissions": list(wanted)})
    return [permission for permission in wanted if permission not in granted.get("permissions", [])]


def _submitter(api: VertexApi) -> Iterator[Finding]:
    what = "runs may be submitted, watched and scheduled"

    def look() -> Iterator[Finding]:
        wanted = [permission for permissions in SUBMITTER.values() for permission in permissions]
        path = f"/v1/projects/{api.project}"
        missing = _missing(api, "see its own rights", "cloudresourcemanager", path, wanted)
        roles = [role for role, permissions in SUBMITTER.items() if set(permissions) & set(missing)]
        yield Finding(
            what,
            Found.bad if missing else Found.good,
            f"this account lacks {', '.join(missing)}" if missing else "",
            "\n".join(_binding(api.project, role, "user:YOU") for role in roles),
        )

    yield from looked_at(what, look, "see targets.vertex.project")


def _binding(project: str, role: str, member: str) -> str:
    return f"gcloud projects add-iam-policy-binding {project} --member={member} --role={role}"


def _account(api: VertexApi, account: str, roles: Sequence[str]) -> Iterator[Finding]:
    what = "steps have an account of their own"
    if not account:
        yield Finding(
            what,
            Found.unknown,
            "they work as the Compute Engine default service account, whose rights are often those of an editor",
            "make one that may do what steps do and no more (docs/deploy.md), and name it in "
            "targets.vertex.service_account",
        )
        return
    what = f"steps may work as {account}"

    def look() -> Iterator[Finding]:
        path, act = f"/v1/projects/-/serviceAccounts/{account}", "iam.serviceAccounts.actAs"
        missing = _missing(api, f"see its rights on {account}", "iam", path, [act])
        remedy = (
            f"gcloud iam service-accounts add-iam-policy-binding {account} --member=user:YOU "
            "--role=roles/iam.serviceAccountUser"
        )
        yield Finding(
            what,
            Found.bad if missing else Found.good,
            f"this account lacks {act}" if missing else "",
            remedy if missing else "",
        )

    yield from looked_at(what, look, f"gcloud iam service-accounts create {account.partition('@')[0]}")
    what = f"{account} may do what steps do"

    def look_at_roles() -> Iterator[Finding]:
        path = f"/v1/projects/{api.project}:getIamPolicy"
        policy = api.service("read the project's policy", "cloudresourcemanager", path, {}, role="roles/browser")
        member = f"serviceAccount:{account}"
        held = {item["role"] for item in policy.get("bindings", []) if member in item.get("members", [])}
        missing = [] if held & set(ABOVE) else [role for role in roles if role not in held]
        seen = f"the project itself binds no {', '.join(missing)} to it; groups and folders are not seen"
        yield Finding(
            what,
            Found.unknown if missing else Found.good,
            seen if missing else "",
            "\n".join(_binding(api.project, role, member) for role in missing),
        )

    yield from looked_at(what, look_at_roles, "see targets.vertex.project")


def _bucket(uri: str) -> str:
    return uri.removeprefix("gs://").partition("/")[0]


def _bucket_of_runs(api: VertexApi, bucket: str) -> Iterator[Finding]:
    what = f"the bucket {bucket} takes what is uploaded"
    make = f"gcloud storage buckets create gs://{bucket} --location={api.location} --uniform-bucket-level-access"

    def look() -> Iterator[Finding]:
        path = f"/storage/v1/b/{bucket}"
        role = "roles/storage.legacyBucketReader"
        where = str(api.service(f"see the bucket {bucket}", "storage", path, role=role).get("location", "")).lower()
        asked = urlencode([("permissions", permission) for permission in BUCKET])
        granted = api.service(f"see its rights on {bucket}", "storage", f"{path}/iam/testPermissions?{asked}")
        missing = [permission for permission in BUCKET if permission not in granted.get("permissions", [])]
        remedy = (
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=user:YOU "
            "--role=roles/storage.objectAdmin"
        )
        here = where in (api.location, api.location[:2])
        detail = f"in {where}" + ("" if here else f", and not in {api.location}: each step reads across regions")
        yield Finding(
            what,
            Found.bad if missing else Found.good,
            f"this account lacks {', '.join(missing)}" if missing else detail,
            remedy if missing else "",
        )

    yield from looked_at(what, look, make)


def _secret(api: VertexApi, variable: str, reference: str) -> Iterator[Finding]:
    secret, _, version = reference.removeprefix("secretmanager://").partition("/versions/")
    parts = secret.split("/")
    what = f"the secret of {variable}"
    project, name = parts[1], parts[-1]
    add = f"gcloud secrets versions add {name} --project={project} --data-file=FILE"

    def look() -> Iterator[Finding]:
        service = "secretmanager" if len(parts) == 4 else f"secretmanager.{parts[3]}.rep"
        path = f"/v1/{secret}/versions/{version or 'latest'}"
        # The version, and not what is in it.
        found = api.service(f"see the secret {name}", service, path, role="roles/secretmanager.viewer")
        state = found.get("state", "ENABLED")
        yield Finding(
            what,
            Found.good if state == "ENABLED" else Found.bad,
            "" if state == "ENABLED" else f"{reference} is {state.lower()}",
            "" if state == "ENABLED" else add,
        )

    yield from looked_at(what, look, f"gcloud secrets create {name} --project={project} --data-file=FILE")


def _key(api: VertexApi, key: str) -> Iterator[Finding]:
    what = "the encryption key is in use"

    def look() -> Iterator[Finding]:
        found = api.service("see the encryption key", "cloudkms", f"/v1/{key}", role="roles/cloudkms.viewer")
        state = found.get("primary", {}).get("state", "without a primary version")
        good, here = state == "ENABLED", key.split("/")[3]
        detail = f"it is {state}" if not good else f"it is a key of {here}" if here != api.location else ""
        remedy = "enable a version of it, or name another key" if not good else f"name a key of {api.location}"
        yield Finding(what, Found.bad if detail else Found.good, detail, remedy if detail else "")

    yield from looked_at(what, look, "see targets.vertex.encryption_key")


def _persistent_resource(api: VertexApi, name: str) -> Iterator[Finding]:
    what = f"the persistent resource {name} is running"

    def look() -> Iterator[Finding]:
        found = api.vertex("see the persistent resource", f"/v1/{api.parent}/persistentResources/{name}")
        state = found.get("state", "")
        yield Finding(
            what,
            Found.good if state == "RUNNING" else Found.bad,
            "" if state == "RUNNING" else f"it is {state.lower() or 'in no state'}",
            "" if state == "RUNNING" else "wait for it, or leave targets.vertex.persistent_resource out",
        )

    yield from looked_at(what, look, f"gcloud ai persistent-resources create --persistent-resource-id={name} …")


def _quotas(api: VertexApi, compiled: Sequence[Path]) -> Iterator[Finding]:
    """Whether the largest step fits what the project may use at once of each kind."""
    for metric, needed in sorted(needs_of(compiled).items()):
        yield from _quota(api, metric, needed)


def needs_of(compiled: Sequence[Path]) -> dict[str, int]:
    """What the largest step of compiled pipelines takes of each quota: cores, and accelerators by their kind."""
    most = {CPUS: CORES}
    for file in compiled:
        executors = yaml.safe_load(file.read_text("utf-8")).get("deploymentSpec", {}).get("executors", {})
        for executor in executors.values():
            resources: Mapping[str, Any] = executor.get("container", {}).get("resources", {})
            most[CPUS] = max(most[CPUS], math.ceil(cores(resources.get("resourceCpuLimit", "0"))))
            if accelerator := resources.get("accelerator"):
                kind = accelerator["resourceType"].lower().replace("tesla_", "")
                metric = f"custom_model_training_{kind}_gpus"
                most[metric] = max(most.get(metric, 0), int(accelerator["resourceCount"]))
    return most


def _quota(api: VertexApi, metric: str, needed: int) -> Iterator[Finding]:
    what = f"the quota {metric} in {api.location}"

    def look() -> Iterator[Finding]:
        named = quote(f"aiplatform.googleapis.com/{metric}", safe="")
        path = f"/v1beta1/projects/{api.project}/services/aiplatform.googleapis.com/consumerQuotaMetrics/{named}"
        found = api.service(
            f"read the quota {metric}", "serviceusage", path, role="roles/servicemanagement.quotaViewer"
        )
        buckets = [bucket for limit in found.get("consumerQuotaLimits", []) for bucket in limit.get("quotaBuckets", [])]
        here = [bucket for bucket in buckets if bucket.get("dimensions", {}).get("region") == api.location]
        everywhere = [bucket for bucket in buckets if not bucket.get("dimensions")]
        limits = [int(bucket.get("effectiveLimit", -1)) for bucket in here or everywhere]
        # Less than nothing is no limit.
        limit = min((limit for limit in limits if limit >= 0), default=None)
        short = limit is not None and limit < needed
        yield Finding(
            what,
            Found.bad if short else Found.good,
            f"{'no limit' if limit is None else limit}; the largest step takes {needed}",
            f"have it raised at {CONSOLE}/iam-admin/quotas?project={api.project}" if short else "",
        )

    yield from looked_at(what, look, f"see {CONSOLE}/iam-admin/quotas?project={api.project}")
