"""Control plane: its settings, who may do what, and how answers write moments."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.control_planes.kubeflow.clock import Clock
from tests.control_planes.kubeflow.errors import ApiError, Code, invalid
from tests.control_planes.kubeflow.state import Document, State


@dataclass(frozen=True)
class User:
    """Who may come in by a token."""

    name: str
    namespaces: frozenset[str]
    """Where the user may do anything."""


@dataclass(frozen=True)
class Settings:
    """How this Kubeflow is set up."""

    users: Mapping[str, User] = field(default_factory=dict)
    """By bearer token. With any, it is in multi-user mode."""
    system_namespace: str = "kubeflow"
    """Where workflows run in single-user mode."""
    pipeline_root: str = "minio://mlpipeline/v2/artifacts"
    """What artifacts are kept below where a run says nothing else."""
    max_parameter_bytes: int = 10_000
    max_workflow_bytes: int = 1_048_576
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Values by key, by secret: those that a pipeline gives its steps as variables."""

    @property
    def multi_user(self) -> bool:
        """Whether each resource belongs to a namespace, and each request to a user."""
        return bool(self.users)


@dataclass
class ControlPlane:
    """What all parts of the control plane share."""

    folder: Path
    objects: Path
    """Folder that stands for the object store."""
    state: State
    clock: Clock
    settings: Settings
    identity: threading.local = field(default_factory=threading.local)

    def seconds(self) -> int:
        """The present moment, as the database keeps moments."""
        return int(self.clock.now())

    @contextlib.contextmanager
    def request_of(self, user: User | None) -> Iterator[None]:
        """Requests inside are this user's; None for one whose token nobody knows, or who has none."""
        self.identity.user = user
        try:
            yield
        finally:
            self.identity.user = None

    def kept_namespace(self, namespace: str) -> str:
        """The namespace that a resource is kept in: none in single-user mode, whatever a request says."""
        return namespace if self.settings.multi_user else ""

    def authorize(self, verb: str, resource: str, namespace: str, name: str = "") -> None:
        """See that the user of the request may do something to a resource.

        Raises:
            ApiError: the user is unknown, may not, or names no namespace.
        """
        if not self.settings.multi_user:
            return
        if not namespace:
            subject = {"experiments": "An experiment", "runs": "A run"}.get(resource, f"A {resource.removesuffix('s')}")
            raise invalid(f"{subject} cannot have an empty namespace in multi-user mode")
        user: User | None = getattr(self.identity, "user", None)
        if user is None:
            raise ApiError(
                Code.unauthenticated,
                "Failed to check authorization. User identity is empty in the request header",
                cause="Request header error: there is no user identity header.",
            )
        if namespace not in user.namespaces:
            attributes = {
                "namespace": namespace,
                "verb": verb,
                "group": "pipelines.kubeflow.org",
                "version": "v1beta1",
                "resource": resource,
                **({"name": name} if name else {}),
            }
            raise ApiError(
                Code.permission_denied,
                f"User '{user.name}' is not authorized with reason:  (request: {json.dumps(attributes)})",
                cause="Unauthorized access",
            )


def new_id() -> str:
    """An ID that nothing has yet."""
    return str(uuid.uuid4())


def timestamp(seconds: float) -> str:
    """A moment as answers write it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> int:
    """A moment as requests write it."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (TypeError, ValueError) as error:
        raise invalid(f'proto: invalid google.protobuf.Timestamp value "{text}"') from error


def without_empty(answer: Document) -> Document:
    """An answer as protocol buffers are written in JSON: what is empty is left out."""
    return {name: value for name, value in answer.items() if value not in (None, "", {}, [], 0, False)}


def refuse_unknown(body: Mapping[str, Any], known: set[str]) -> None:
    """Refuse a request that has fields the API does not know."""
    if unknown := sorted(set(body) - known):
        raise invalid(f'proto: (line 1:2): unknown field "{unknown[0]}"')
