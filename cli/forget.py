"""`lifecycle forget`: what this machine holds of an entity, what of it can go, and a proof that it went."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kfp_lifecycle.cli.console import (
    AsJson,
    Project,
    begin_module,
    finish_module,
    out,
    project_folder,
    write_json,
)
from kfp_lifecycle.local.state import STATE, exclusive

MOST_FILES = 10


def forget(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's key: `17`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only what would be done is told.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit record: a request's number, say.")] = "",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Delete what this machine holds of an entity, tell what stays and why, and write a proof to the audit record.

    Rows of the prediction log, of the online store, and of what monitoring and batch scoring wrote go. Versions of the
    data stay as they are: they are listed. Delete the entity in the source first, or the next run brings it back.

    Example: `lifecycle forget 17`

    Example: `lifecycle forget 17 --yes --reason "request 4711"`
    """
    from kfp_lifecycle.config.loading import load_configuration

    settings = load_configuration(project_folder(project))
    request = {
        "entity": entity,
        "state": str(STATE),
        "project": settings.name,
        "key": settings.entity.key,
        "model": settings.deployment.model,
        "yes": yes,
        "reason": reason,
    }
    with exclusive(lambda holder: out.print(f"waiting for {holder}", markup=False, soft_wrap=True)):
        begun = begin_module("modelling", "kfp_lifecycle.governance.forget")
        told = json.loads(finish_module(begun, json.dumps(request) + "\n"))
    if as_json:
        write_json(told)
    else:
        _tell(told)


def _tell(told: dict[str, Any]) -> None:
    def say(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

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
