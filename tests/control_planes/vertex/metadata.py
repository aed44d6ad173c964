"""Vertex ML Metadata, as far as experiments need it: contexts, and which are inside which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.errors import Code
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import GoogleError, invalid, not_found

KIND = "experiments"
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


class Contexts:
    """The service of metadata."""

    def __init__(self, plane: ControlPlane) -> None:
        self._state = plane.state

    def create(self, parent: str, identity: str, body: Mapping[str, Any]) -> Document:
        """A new context."""
        if not ID.fullmatch(identity):
            raise invalid(f"Invalid context_id: {identity}")
        if self._state.get(KIND, identity) is not None:
            raise GoogleError(Code.already_exists, f"Context with name {identity} already exists")
        name = f"{parent}/metadataStores/default/contexts/{identity}"
        self._state.save(KIND, {"id": identity, "context": {**body, "name": name}, "children": []})
        return self.get(identity)

    def get(self, identity: str) -> Document:
        """A context."""
        found: Document = self._find(identity)["context"]
        return found

    def add_children(self, identity: str, body: Mapping[str, Any]) -> Document:
        """Put contexts inside another one."""
        context = self._find(identity)
        context["children"] = sorted({*context["children"], *body.get("childContexts", [])})
        self._state.save(KIND, context)
        return {}

    def children(self, identity: str) -> list[str]:
        """What is inside a context."""
        return list(self._find(identity)["children"])

    def _find(self, identity: str) -> Document:
        found = self._state.get(KIND, identity)
        if found is None:
            raise not_found("Context", identity)
        return found
