"""Right to erasure (GDPR, article 17): what this machine, or a cluster, holds of an entity, what of it can go, and a
proof.

`python -m kfp_lifecycle.governance.forget` takes a line of JSON with the fields of `Request`, and prints what `forget`
gives: so the key stands in no list of processes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.prediction_log import hashed_key
from kfp_lifecycle.audit.entry import Entry
from kfp_lifecycle.audit.record import file_of, open_record
from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE
from kfp_lifecycle.governance.log_objects import object_without, objects_with
from kfp_lifecycle.governance.log_rows import LOG_FILES, REWRITING, Rewritten, files_with, grows, without
from kfp_lifecycle.governance.stored_rows import stored_rows
from kfp_lifecycle.registry.anchors import anchor
from kfp_lifecycle.runtime.contract import ContractViolation

# Tables of monitoring and of batch scoring, which nothing refers to by its digest.
OF_THE_LOG, SCORES = ("predictions", "outcomes"), ("scores",)
GROWING_NOW = "a server appends to it: it is closed when its hour is over. Run this again two hours from now"
VERSIONED = (
    "a version of the data, or what was made of one: its name is the digest of its content, by which models are "
    "reproduced and their lineage is proved, so it is not written anew. It stays until somebody deletes the file; "
    "then what was made of it cannot be reproduced"
)


@dataclass(frozen=True)
class Cluster:
    """What is reached of a cluster from here, and what is not."""

    prediction_log: str
    """Of an object store; empty where it is none."""
    audit_record: str
    tracking_uri: str
    unreached: Sequence[str]
    """What else may hold the person, and how it goes there, in sentences."""


@dataclass(frozen=True)
class Request:
    """Whom to forget, and where."""

    entity: str
    state: str
    """The state folder."""
    project: str
    key: str
    """The column that names the entity."""
    model: str
    yes: bool = False
    """Whether to do it; else only what would be done is told."""
    reason: str = ""
    cluster: Cluster | None = None
    """Where to forget instead of on this machine."""

    @classmethod
    def read(cls, line: str) -> Request:
        """A request as the command line hands it over."""
        fields = json.loads(line)
        cluster = fields.pop("cluster", None)
        return cls(**fields, cluster=Cluster(**cluster) if cluster else None)


@dataclass
class Place:
    """A place that holds, or held, the person."""

    name: str
    before: int
    """Rows of the person."""
    after: int
    files: list[Rewritten] = field(default_factory=list)


@dataclass(frozen=True)
class Remains:
    """What still holds the person."""

    file: str
    rows: int
    why: str


@dataclass
class Forgotten:
    """What was found, what went, and what stays."""

    done: bool
    places: list[Place]
    remains: list[Remains]
    unseen: list[str]
    """What could not be looked for, in sentences."""
    salt: str = ""
    """Whoever has it and the key can show whom the proof is about; it is kept nowhere."""
    entry: int | None = None
    """Number of the proof in the audit record."""


def forget(request: Request) -> Forgotten:
    """Look for a person in the prediction log, the online store, and what runs left; remove where that can be done.

    What was done stays done where the process is killed, no file is ever half there, and doing it again goes on. The
    audit record holds counts before and after and the files' digests, and of the key an HMAC alone.

    Raises:
        ContractViolation: a place cannot be read or written.
    """
    state = Path(request.state)
    secret = os.environ.get(LOG_SECRET_VARIABLE, "")
    names = {request.entity} | ({hashed_key(secret.encode(), request.entity)} if secret else set())
    result = Forgotten(request.yes, [], [], [] if secret else [_hashed()])
    if request.yes:
        result.salt = secrets.token_hex(16)
        _record(request, result, "forgetting begun")
    store = state / "online" / f"{request.project}.db"
    runs = state / "runs"
    if request.cluster is not None:
        return _on_cluster(request, request.cluster, result, names)
    try:
        _files(result, "prediction log", state / "predictions", LOG_FILES, "entity", names)
        before = stored_rows(store, request.key, request.entity, remove=request.yes)
        after = stored_rows(store, request.key, request.entity, remove=False)
        result.places.append(Place("online store", before, after))
        for folders, column in ((OF_THE_LOG, "entity"), (SCORES, request.key)):
            patterns = [f"*/artifacts/*/*/{name}/*.parquet" for name in folders]
            _files(result, f"{' and '.join(folders)} of runs", runs, patterns, column, names)
    except OSError as error:
        raise ContractViolation(
            f"{error.filename or state} cannot be written ({error.strerror}). What went is gone; make room, or give "
            "this user leave, and run this again."
        ) from error
    _versions(result, request, state, names)
    if request.yes:
        entry = _record(request, result, "forgotten")
        result.entry = entry.number
        if (state / "mlflow.db").is_file():
            _anchor(f"sqlite:///{state / 'mlflow.db'}", entry, result)
    return result


def _on_cluster(request: Request, cluster: Cluster, result: Forgotten, names: set[str]) -> Forgotten:
    """Look through a cluster's prediction log, in its object store; whatever else there is is told."""
    result.unseen += cluster.unreached
    if log := cluster.prediction_log:
        try:
            before = objects_with(log, "entity", names)
            place = Place("prediction log", sum(before.values()), 0)
            if request.yes:
                place.files += [object_without(log, name, "entity", names) for name in before]
            place.after = sum(objects_with(log, "entity", names).values())
        except OSError as error:
            raise ContractViolation(
                f"{log} cannot be read or written ({str(error).splitlines()[0]:.200}). What went is gone; see that "
                "this account may list, read, create and delete objects there, and run this again."
            ) from error
        result.places.append(place)
    if request.yes:
        entry = _record(request, result, "forgotten")
        result.entry = entry.number
        _anchor(cluster.tracking_uri, entry, result)
    return result


def _anchor(tracking_uri: str, entry: Entry, result: Forgotten) -> None:
    try:
        anchor(tracking_uri, entry)
    except ContractViolation as violation:
        result.unseen.append(f"MLflow does not know of the proof: {violation}")


def _files(result: Forgotten, name: str, folder: Path, patterns: Sequence[str], column: str, names: set[str]) -> None:
    """Rewrite the files of a folder that name the person."""
    if result.done:
        for leftover in folder.rglob(f"*{REWRITING}"):
            leftover.unlink()
    place = Place(name, 0, 0)
    for file, rows in files_with(folder, patterns, column, names).items():
        place.before += rows
        if grows(file):
            place.after += rows
            result.remains.append(Remains(str(file), rows, GROWING_NOW))
        elif result.done:
            place.files.append(without(file, folder, column, names))
        else:
            place.after += rows
    result.places.append(place)


def _versions(result: Forgotten, request: Request, state: Path, names: set[str]) -> None:
    """List the tables of runs and dataset versions that hold the person."""
    rewritten = {*OF_THE_LOG, *SCORES}
    for folder, patterns in (
        (state / "runs", ["*/artifacts/**/*.parquet"]),
        (state / "datasets" / request.project, ["**/files/md5/??/*"]),
    ):
        for file, rows in files_with(folder, patterns, request.key, names).items():
            if file.parent.name not in rewritten:
                result.remains.append(Remains(str(file), rows, VERSIONED))


def _hashed() -> str:
    return (
        f"{LOG_SECRET_VARIABLE} is not set: rows of a prediction log with hashed keys cannot be told. Set it to the "
        "servers' secret, if they hash"
    )


def _record(request: Request, result: Forgotten, action: Any) -> Entry:
    subject = hmac.new(bytes.fromhex(result.salt), request.entity.encode(), hashlib.sha256).hexdigest()
    remains: dict[str, dict[str, int]] = {}
    for item in result.remains:
        counted = remains.setdefault(item.why, {"files": 0, "rows": 0})
        counted["files"] += 1
        counted["rows"] += item.rows
    told = {"subject": subject, "places": [asdict(place) for place in result.places], "remains": remains}
    here = str(file_of(Path(request.state) / "serving"))
    record = open_record(request.cluster.audit_record if request.cluster else here)
    return record.append(action, request.model, "", request.reason, told)


def main() -> None:
    """Forget, or tell what would be."""
    try:
        print(json.dumps(asdict(forget(Request.read(sys.stdin.readline())))))
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))


if __name__ == "__main__":
    main()
