"""Lineage (provenance, after W3C PROV): from a prediction back to data and code, and from data on to predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kfp_lifecycle.audit.entry import Entry
from kfp_lifecycle.governance.served import Prediction, Served
from kfp_lifecycle.runtime.contract import ContractViolation

# Characters of a version of the data that are enough to name it.
SHORTEST = 6
# Of a request with many; the log has all.
MOST_ROWS = 20
RELEASES = ("released", "release rolled back", "release paused", "overridden", "traffic returned", "promoted")
DECISIONS = ("retraining approved", "waived", "approval asked", "approved", "rejected")


@dataclass
class Node:
    """A thing with where it comes from, or what came of it."""

    kind: str
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def line(self) -> str:
        """For a person."""
        told = ", ".join(f"{name} {value}" for name, value in self.facts.items() if value not in ("", None, [], {}))
        return f"{self.kind} {self.name}".rstrip() + (f": {told}" if told else "")


@dataclass(frozen=True)
class Run:
    """A run of this machine, as far as lineage needs it."""

    id: str
    pipeline: str
    state: str
    started_at: str
    dataset: str = ""
    """Version of the data that it worked on."""
    rows: int = 0
    remote: str = ""
    mlflow_run: str = ""
    model: str = ""
    version: str = ""
    """What it registered."""
    decision: str = ""
    sentence: str = ""
    """The verdict, in its summary."""


@dataclass(frozen=True)
class Version:
    """A registered version, and the MLflow run that trained it."""

    model: str
    version: str
    mlflow_run: str
    registered_at: str
    aliases: Sequence[str]
    tags: Mapping[str, str]
    run_tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """`churn/3`."""
        return f"{self.model}/{self.version}"

    @property
    def dataset(self) -> str:
        """Version of its data."""
        return self.run_tags.get("data_version") or self.tags.get("data_version", "")

    @property
    def pipeline_run(self) -> str:
        """The run of a pipeline that trained it."""
        return self.run_tags.get("pipeline_run", "")


@dataclass(frozen=True)
class Known:
    """All that can be asked, gathered."""

    runs: Sequence[Run]
    versions: Sequence[Version]
    audit: Sequence[Entry]
    served: Sequence[Served]
    locks: Mapping[str, str]
    """Digest of each environment's lock here."""
    places: Sequence[str]
    """Where all this was looked for, in words."""

    def version_of(self, model: str, version: str) -> Version | None:
        """A version, where MLflow knows it."""
        return next((item for item in self.versions if (item.model, item.version) == (model, version)), None)


def lineage_of(known: Known, reference: str, predictions: Sequence[Prediction]) -> list[Node]:
    """What a reference leads to: a run, a model or one of its versions, a version of the data, or a prediction.

    Args:
        known: What there is.
        reference: As a person gives it.
        predictions: The log's rows of a request with this id.

    Raises:
        ContractViolation: nothing is called so; it says where it was looked for.
    """
    model, _, number = reference.rpartition("/")
    runs = [run for run in known.runs if reference in (run.id, run.mlflow_run) and reference]
    if runs:
        return [_run(known, run) for run in runs]
    trained = [version for version in known.versions if reference in (version.mlflow_run, version.pipeline_run)]
    if trained:
        return [_version(known, version) for version in trained]
    versions = [v for v in known.versions if v.model == reference or (v.model, v.version) == (model, number)]
    if versions:
        return [_version(known, version) for version in versions]
    stored = {run.dataset for run in known.runs} | {version.dataset for version in known.versions}
    datasets = {dataset for dataset in stored if dataset.startswith(reference)}
    if datasets and len(reference) >= SHORTEST:
        return [_dataset(known, dataset) for dataset in sorted(datasets)]
    if predictions:
        return [_request(known, predictions)]
    raise ContractViolation(f"nothing is called {reference!r}: looked for in {'; '.join(known.places)}")


def _request(known: Known, predictions: Sequence[Prediction]) -> Node:
    """A request with its rows, and the version that answered it, once."""
    first = predictions[0]
    node = Node("request", first.request_id, {"rows": len(predictions)})
    for row in predictions[:MOST_ROWS]:
        facts = {"entity": row.entity, "at": row.time.isoformat(), "log": row.file}
        node.children.append(Node("prediction", f"{row.score:.6g}", facts))
    for model, number in sorted({(row.model, row.version) for row in predictions}):
        version = known.version_of(model, number)
        unknown = Node("version", f"{model}/{number}", {"note": "MLflow does not know it"})
        node.children.append(_version(known, version) if version is not None else unknown)
    return node


def _version(known: Known, version: Version) -> Node:
    """A version with all that it comes from, and what came of it."""
    tags, told = version.run_tags, version.tags
    run = next((run for run in known.runs if run.id == version.pipeline_run), None)
    about = [entry for entry in known.audit if (entry.model, entry.version) == (version.model, version.version)]
    facts = {"registered": version.registered_at, "alias": ", ".join(version.aliases)}
    origin = Node("run", version.pipeline_run or "not known", _run_facts(run) if run else {})
    origin.facts["MLflow run"] = version.mlflow_run
    data = Node("data", version.dataset or "not known", {"kept in": tags.get("dataset_remote", "")})
    if run and run.dataset == version.dataset:
        data.facts["rows"] = f"{run.rows:,}" if run.rows else ""
    data.facts["training set"] = tags.get("training_set", "")
    features = Node("features", tags.get("feature_version") or told.get("feature_version", "not known"))
    commit, changed = tags.get("mlflow.source.git.commit", ""), tags.get("uncommitted_changes", "")
    code = Node("code", tags.get("code_digest", "not known")[:64], {"commit": commit, "uncommitted": changed})
    environment = Node(
        "environment", tags.get("environment", "not known"), {"packages": tags.get("packages_digest", "")}
    )
    environment.facts |= {f"lock of {name}, here and now": digest for name, digest in known.locks.items()}
    verdict = Node("verdict", told.get("decision", "none"), {"in words": told.get("verdict", "")})
    done = [entry for entry in (*_asked(known, version), *about) if entry.action in (*DECISIONS, *RELEASES)]
    acts = [_entry(entry) for entry in sorted(done, key=lambda entry: entry.number)]
    children = [origin, data, features, code, environment, verdict, *acts, *_served(known, [version])]
    return Node("version", version.name, facts, children)


def _asked(known: Known, version: Version) -> list[Entry]:
    """Who let the training be started that made a version, where monitoring asked for it."""
    asked_by = version.run_tags.get("asked_by")
    return [entry for entry in known.audit if asked_by and entry.details.get("asked_by") == asked_by]


def _run(known: Known, run: Run) -> Node:
    """A run with the data it read, and the versions it made."""
    node = Node("run", run.id, _run_facts(run))
    if run.dataset:
        node.children.append(Node("data", run.dataset, {"rows": f"{run.rows:,}", "kept in": run.remote}))
    if run.decision:
        node.children.append(Node("verdict", run.decision, {"in words": run.sentence}))
    made = [
        v
        for v in known.versions
        if v.pipeline_run == run.id or (run.version and v == known.version_of(run.model, run.version))
    ]
    node.children += [_version(known, version) for version in made]
    return node


def _dataset(known: Known, dataset: str) -> Node:
    """A version of the data, and on: runs, versions, releases, predictions."""
    runs = [run for run in known.runs if run.dataset == dataset]
    versions = [version for version in known.versions if version.dataset == dataset]
    node = Node("data", dataset, {"rows": f"{runs[0].rows:,}", "kept in": runs[0].remote} if runs else {})
    for run in runs:
        child = Node("run", run.id, _run_facts(run))
        child.children = [_onward(known, version) for version in versions if version.pipeline_run == run.id]
        node.children.append(child)
    elsewhere = {run.id for run in runs}
    node.children += [_onward(known, version) for version in versions if version.pipeline_run not in elsewhere]
    return node


def _onward(known: Known, version: Version) -> Node:
    about = [entry for entry in known.audit if (entry.model, entry.version) == (version.model, version.version)]
    released = [_entry(entry) for entry in about if entry.action in RELEASES]
    facts = {"registered": version.registered_at, "alias": ", ".join(version.aliases)}
    return Node("version", version.name, facts, [*released, *_served(known, [version])])


def _run_facts(run: Run) -> dict[str, Any]:
    return {"pipeline": run.pipeline, "state": run.state, "started": run.started_at}


def _entry(entry: Entry) -> Node:
    facts = {"by": entry.by, "at": entry.at, "why": entry.reason, "entry of the audit record": entry.number}
    return Node(entry.action, "", facts)


def _served(known: Known, versions: Iterable[Version]) -> list[Node]:
    names = {(version.model, version.version) for version in versions}
    return [
        Node("predictions", f"{item.predictions:,}", {"first": item.first.isoformat(), "last": item.last.isoformat()})
        for item in known.served
        if (item.model, item.version) in names
    ]
