"""Argo Workflow of a run: its tree of nodes, named and shaped as Kubeflow's compiler and Argo's controller make it.

Kubeflow Pipelines gives every template a retry strategy (`OnError`), so each node is there twice: the retry, and its
attempt with `(0)` behind the name. A task `ingest` of the pipeline is a pod `ingest-driver`, then a DAG `ingest` whose
one task is `executor`, whose attempt is the pod with the step's log. A node's ID is the workflow's name and the FNV-1a
hash of the node's full name; a pod's name has the template's name between the two.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.outputs import write_whole


class Phase(StrEnum):
    """How a node stands, in Argo's words."""

    pending = "Pending"
    running = "Running"
    succeeded = "Succeeded"
    skipped = "Skipped"
    failed = "Failed"
    error = "Error"
    omitted = "Omitted"


FINAL = {Phase.succeeded, Phase.skipped, Phase.failed, Phase.error, Phase.omitted}
# Templates that Kubeflow's compiler writes into every workflow.
DAG_DRIVER, CONTAINER_DRIVER, IMPORTER = "system-dag-driver", "system-container-driver", "system-importer"
EXECUTOR, IMPLEMENTATION = "system-container-executor", "system-container-impl"


@dataclass
class Node:
    """One node of a workflow's status."""

    name: str
    display_name: str
    template: str
    phase: Phase
    started_at: float
    finished_at: float = 0.0
    children: list[str] = field(default_factory=list)
    """IDs of the nodes that follow it, or are the first inside it."""


def fnv_1a(text: str) -> int:
    """The 32-bit FNV-1a hash, by which Argo tells nodes apart."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def node_id(workflow: str, node: str) -> str:
    """The ID of a node by its full name."""
    return workflow if node == workflow else f"{workflow}-{fnv_1a(node)}"


def pod_name(workflow: str, node: str, template: str) -> str:
    """The name of a node's pod."""
    return workflow if node == workflow else f"{workflow}-{template}-{fnv_1a(node)}"


class Workflow:
    """The status of a workflow, kept in a file that is whole at any moment."""

    def __init__(self, name: str, file: Path, clock_offset: float = 0.0) -> None:
        self.name = name
        self.phase = Phase.running
        self.message = ""
        self.finished_at = 0.0
        self.cache_records: list[dict[str, Any]] = []
        """What the cache keeps of steps: Kubeflow's API server lists them among a run's tasks."""
        self._file, self._offset = file, clock_offset
        self._nodes: dict[str, Node] = {}
        self._lock = threading.RLock()

    @classmethod
    def read(cls, file: Path) -> Workflow:
        """A workflow as it was written."""
        written = json.loads(file.read_text("utf-8"))
        workflow = cls(written["name"], file, written["offset"])
        workflow.phase, workflow.message = Phase(written["phase"]), written["message"]
        workflow.finished_at, workflow.cache_records = written["finished_at"], written["cache_records"]
        for node in written["nodes"]:
            workflow._nodes[node["name"]] = Node(**{**node, "phase": Phase(node["phase"])})
        return workflow

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Its nodes by their full names."""
        return self._nodes

    def now(self) -> float:
        """The moment that nodes are told."""
        return time.time() + self._offset

    def id_of(self, node: str) -> str:
        """The ID of one of its nodes."""
        return node_id(self.name, node)

    def pod_of(self, node: str) -> str:
        """The name that the pod of one of its nodes has."""
        return pod_name(self.name, node, self._nodes[node].template)

    def begin(
        self, name: str, template: str, boundary: str, after: Sequence[str] = (), *, phase: Phase, hook_of: str = ""
    ) -> Node:
        """Add a node.

        Args:
            name: Its full name.
            template: The template that it runs.
            boundary: Full name of the DAG that it belongs to; empty for the workflow's own.
            after: Full names of the nodes that it waited for; none makes it one of the DAG's first.
            phase: How it stands.
            hook_of: Full name of the node whose exit hook it is; empty for none.
        """
        with self._lock:
            if name in self._nodes:
                # Kept from before the workflow was retried.
                return self._nodes[name]
            shown = name.removeprefix(boundary).removeprefix(".") if boundary else name
            self._nodes[name] = node = Node(name, shown, template, phase, self.now())
            if phase in FINAL:
                node.finished_at = node.started_at
            parents = [self._nodes[hook_of]] if hook_of else self._parents(boundary, after)
            for parent in parents:
                identity = self.id_of(name)
                if identity not in parent.children:
                    parent.children.append(identity)
            self._write()
            return node

    def begin_retried(
        self,
        name: str,
        template: str,
        boundary: str,
        after: Sequence[str] = (),
        *,
        phase: Phase = Phase.running,
        hook_of: str = "",
    ) -> str:
        """Add a node with its first attempt.

        Args:
            name: Its full name.
            template: The template that it runs.
            boundary: Full name of the DAG that it belongs to.
            after: Full names of the nodes that it waited for.
            phase: How the attempt stands: a pod is pending at first.
            hook_of: Full name of the node whose exit hook it is.

        Returns:
            Full name of the attempt.
        """
        with self._lock:
            self.begin(name, template, boundary, after, phase=Phase.running, hook_of=hook_of)
            return self.attempt(name, 0, boundary, phase)

    def attempt(self, name: str, number: int, boundary: str, phase: Phase) -> str:
        """Add an attempt of a node; its full name."""
        with self._lock:
            node = self._nodes[name]
            attempt = f"{name}({number})"
            if attempt in self._nodes:
                return attempt
            shown = attempt.removeprefix(boundary).removeprefix(".") if boundary else attempt
            self._nodes[attempt] = Node(attempt, shown, node.template, phase, self.now())
            node.children.append(self.id_of(attempt))
            self._write()
            return attempt

    def mark(self, name: str, phase: Phase) -> None:
        """Say how a node stands now."""
        with self._lock:
            node = self._nodes[name]
            node.phase = phase
            if phase in FINAL:
                node.finished_at = self.now()
            self._write()

    def end_retried(self, name: str, phase: Phase) -> None:
        """End a node and its last attempt."""
        with self._lock:
            last = max((other for other in self._nodes if self._is_attempt(other, name)), key=self._number)
            self.mark(last, phase)
            self.mark(name, phase)

    def end(self, phase: Phase, message: str = "") -> None:
        """End the workflow."""
        with self._lock:
            self.phase, self.message, self.finished_at = phase, message, self.now()
            self._write()

    def record_cache(self, record: Mapping[str, Any]) -> None:
        """Keep what the cache was told of a step."""
        with self._lock:
            self.cache_records.append(dict(record))
            self._write()

    def write(self) -> None:
        """Write it as it is."""
        with self._lock:
            self._write()

    def drop(self, names: set[str]) -> None:
        """Forget nodes, as a retry of the workflow does with what failed."""
        with self._lock:
            gone = {self.id_of(name) for name in names}
            self._nodes = {name: node for name, node in self._nodes.items() if name not in names}
            for node in self._nodes.values():
                node.children = [child for child in node.children if child not in gone]

    def _parents(self, boundary: str, after: Sequence[str]) -> list[Node]:
        if after:
            return [self._nodes[name] for before in after for name in self._outbound(before)]
        return [self._nodes[boundary]] if boundary else []

    def _outbound(self, name: str) -> list[str]:
        """What ends a node: its last attempt, and of a DAG the ends of those of its tasks that nothing waits for."""
        attempts = [other for other in self._nodes if self._is_attempt(other, name)]
        if attempts:
            return self._outbound(max(attempts, key=self._number))
        inside = {self.id_of(other): other for other in self._nodes if other.startswith(f"{name}.")}
        ends = [other for other in inside.values() if not inside.keys() & set(self._nodes[other].children)]
        return ends or [name]

    @staticmethod
    def _is_attempt(name: str, of: str) -> bool:
        rest = name.removeprefix(of)
        return name.startswith(of) and rest.startswith("(") and rest.endswith(")") and rest[1:-1].isdigit()

    @staticmethod
    def _number(attempt: str) -> int:
        return int(attempt[attempt.rindex("(") + 1 : -1])

    def _write(self) -> None:
        written = {
            "name": self.name,
            "offset": self._offset,
            "phase": self.phase,
            "message": self.message,
            "finished_at": self.finished_at,
            "cache_records": self.cache_records,
            "nodes": [asdict(node) for node in self._nodes.values()],
        }
        write_whole(self._file, json.dumps(written))
