"""`lifecycle forget`: what this machine holds of an entity, what of it can go, and a proof that it went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from kfp_lifecycle.cli.audit import TargetOption, record_of
from kfp_lifecycle.cli.console import (
    AsJson,
    Project,
    out,
    project_folder,
    refuse,
    write_json,
)
from kfp_lifecycle.local.environment_module import begin_module, finish_module
from kfp_lifecycle.local.state import STATE, exclusive

if TYPE_CHECKING:
    from kfp_lifecycle.config.configuration import Configuration
    from kfp_lifecycle.config.targets import TargetName

MOST_FILES = 10


def forget(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's key: `17`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only what would be done is told.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit record: a request's number, say.")] = "",
    target: TargetOption = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Delete what this machine, or a cluster, holds of an entity, tell what stays and why, and write a proof to the
    audit record.

    Rows of the prediction log, of the online store, and of what monitoring and batch scoring wrote go. Versions of the
    data stay as they are: they are listed. Of a cluster the prediction log in its object store is looked through, and
    what is not reached from here is told, with what removes it there. Delete the entity in the source first, or the
    next run brings it back.

    Example: `lifecycle forget 17`

    Example: `lifecycle forget 17 --yes --reason "request 4711"`

    Example: `lifecycle forget 17 --yes --target kubeflow`
    """
    from kfp_lifecycle.config.loading import load_configuration

    if not entity.strip():
        refuse("name the entity by its key: `lifecycle forget 17`")
    settings = load_configuration(project_folder(project))
    cluster = None
    if target not in (None, "local"):
        record, tracking_uri = record_of(target, project)
        cluster = {"audit_record": record, "tracking_uri": tracking_uri, **reach_of(settings, target, entity)}
    request = {
        "entity": entity,
        "state": str(STATE),
        "project": settings.name,
        "key": settings.entity.key,
        "model": settings.deployment.model,
        "yes": yes,
        "reason": reason,
        "cluster": cluster,
    }
    with exclusive(lambda holder: out.say(f"waiting for {holder}")):
        begun = begin_module("modelling", "kfp_lifecycle.governance.forget")
        told = json.loads(finish_module(begun, json.dumps(request) + "\n"))
    if as_json:
        write_json(told)
    else:
        _tell(told)


def reach_of(settings: Configuration, target: str, entity: str) -> dict[str, Any]:
    """Where a cluster's prediction log is, and, in sentences, what else may hold an entity and how it goes there."""
    from kfp_lifecycle.compilation.pipeline import cluster_target
    from kfp_lifecycle.connections.object_store import is_object_store

    place = cluster_target(settings, cast("TargetName", target))
    key, log = settings.entity.key, place.prediction_log
    unreached = []
    if not is_object_store(log):
        unreached.append(
            f"the prediction log {log} is a folder of the cluster's: run `lifecycle forget` where it is mounted, with "
            "LIFECYCLE_STATE naming a folder whose `predictions` it is"
        )
    unreached.append(
        f"the online store {place.online_store}: delete {key} {entity} in the source, and the next "
        "materialization takes the entity out of what it fills"
    )
    unreached.append(
        f"what runs left below {place.upload_root or 'the pipeline root'}, and versions of the data in "
        f"{place.dataset_remote}: a version's name is the digest of its content, so it stays until somebody deletes it"
    )
    request_log = getattr(getattr(place, "servers", None), "request_log", "") or ""
    if request_log:
        table, said = request_log.removeprefix("bq://"), entity.replace("\\", "\\\\").replace("'", "\\'")
        unreached.append(
            f"Vertex AI's own log of requests in BigQuery, in which a row is a whole request, of others too: DELETE "
            f"FROM `{table}` WHERE EXISTS (SELECT 1 FROM UNNEST(request_payload) AS row WHERE JSON_VALUE(row, "
            f"'$.{key}') = '{said}')"
        )
    return {"prediction_log": log if is_object_store(log) else "", "unreached": unreached}


def _tell(told: dict[str, Any]) -> None:
    say = out.say
    for place in told["places"]:
        became = f", {place['after']} now" if told["done"] else " would go" if place["before"] else ""
        say(f"{place['name']}: {place['before']} rows{became}")
    reasons: dict[str, list[dict[str, Any]]] = {}
    for item in told["remains"]:
        reasons.setdefault(item["why"], []).append(item)
    for why, items in reasons.items():
        say(f"stays: {sum(item['rows'] for item in items)} rows in {len(items)} files. {why[0].upper()}{why[1:]}:")
        for item in items[:MOST_FILES]:
            say(f"    {item['file']}: {item['rows']} rows")
        if len(items) > MOST_FILES:
            say(f"    and {len(items) - MOST_FILES} more: --json lists them")
    for sentence in told["unseen"]:
        say(sentence)
    if told["done"]:
        say(
            f"entry {told['entry']} of the audit record is the proof; it names nobody. Who is to show later whom it is "
            f"about keeps this salt, which stands nowhere else: {told['salt']}"
        )
    else:
        say("nothing was changed: --yes does it")
