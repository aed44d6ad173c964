"""The project that runs belong to, as other services of Google tell of it: what a doctor asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from tests.control_planes.kubeflow.errors import Code
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import GoogleError, not_found


class Project:
    """What there is, and what whoever asks may do: for a test to change."""

    def __init__(self) -> None:
        self.disabled: set[str] = set()
        """APIs that are not enabled."""
        self.denied: set[str] = set()
        """Permissions that whoever asks does not have."""
        self.accounts: dict[str, list[str]] = {}
        """Service accounts, and the roles that the project binds to each."""
        self.buckets: dict[str, str] = {}
        """Buckets, and where each is."""
        self.secrets: dict[str, str] = {}
        """Versions of secrets, `projects/P/secrets/S/versions/V`, and the state of each."""
        self.keys: dict[str, str] = {}
        """Encryption keys, and the state of the version in use."""
        self.persistent_resources: dict[str, str] = {}
        """Persistent resources by their name in full, and the state of each."""
        self.quotas: dict[str, int] = {}
        """Limits by metric; what is not there has none."""
        self.region = "europe-west4"
        self.machines: dict[str, set[str]] = {}
        """Types of machines and of accelerators, as Compute Engine names them, and the zones that have each."""

    def service(self, name: str) -> Document:
        """Service Usage: whether an API is enabled."""
        return {"name": name, "state": "DISABLED" if name in self.disabled else "ENABLED"}

    def quota(self, metric: str) -> Document:
        """Service Usage: the limits of a metric, for the region and for every other."""
        name = unquote(metric).partition("/")[2]
        buckets = [{"effectiveLimit": "-1", "defaultLimit": "-1"}]
        if name in self.quotas:
            buckets.append({"effectiveLimit": str(self.quotas[name]), "dimensions": {"region": self.region}})
        limits = [{"metric": unquote(metric), "unit": "1/{project}/{region}", "quotaBuckets": buckets}]
        return {"metric": unquote(metric), "consumerQuotaLimits": limits}

    def types(self, collection: str, asked: str) -> Document:
        """Compute Engine: machine types or accelerators of a name, by zone."""
        if f"compute.{collection}.list" in self.denied:
            raise GoogleError(Code.permission_denied, f"Required 'compute.{collection}.list' permission")
        name = unquote(asked).removeprefix("name=")
        zones: Document = {
            f"zones/{zone}": {collection: [{"name": name, "zone": zone}]} for zone in self.machines.get(name, ())
        }
        elsewhere = {"zones/us-central1-f": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        return {"items": {**elsewhere, **zones}}

    def granted(self, body: Mapping[str, Any]) -> Document:
        """Resource Manager: of permissions those that whoever asks has."""
        return {"permissions": [item for item in body.get("permissions", []) if item not in self.denied]}

    def granted_on_account(self, account: str, body: Mapping[str, Any]) -> Document:
        """IAM: of permissions on a service account those that whoever asks has."""
        if account not in self.accounts:
            raise not_found("Service account", account)
        return self.granted(body)

    def policy(self) -> Document:
        """Resource Manager: who has which role."""
        if "resourcemanager.projects.getIamPolicy" in self.denied:
            raise GoogleError(Code.permission_denied, "resourcemanager.projects.getIamPolicy is denied")
        members = [(role, f"serviceAccount:{name}") for name, roles in self.accounts.items() for role in roles]
        return {"bindings": [{"role": role, "members": [member]} for role, member in members]}

    def bucket(self, name: str) -> Document:
        """Cloud Storage: a bucket."""
        if name not in self.buckets:
            raise not_found("bucket", name)
        return {"name": name, "location": self.buckets[name].upper()}

    def granted_on_bucket(self) -> Document:
        """Cloud Storage: what whoever asks may do with the objects of a bucket."""
        verbs = ("create", "delete", "get", "list")
        return self.granted({"permissions": [f"storage.objects.{verb}" for verb in verbs]})

    def secret(self, name: str) -> Document:
        """Secret Manager: a version, without what is in it."""
        return {"name": name, "state": _found("Secret version", self.secrets, name)}

    def key(self, name: str) -> Document:
        """Cloud KMS: a key."""
        return {"name": name, "primary": {"state": _found("CryptoKey", self.keys, name)}}

    def persistent_resource(self, name: str) -> Document:
        """Vertex AI: a persistent resource."""
        return {"name": name, "state": _found("PersistentResource", self.persistent_resources, name)}


def _found(kind: str, states: Mapping[str, str], name: str) -> str:
    if name not in states:
        raise not_found(kind, name)
    return states[name]
