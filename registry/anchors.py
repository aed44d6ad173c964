"""Anchors of the audit record: its head, as tags of the registered model and its version in MLflow.

`python -m kfp_lifecycle.registry.anchors URI` prints all that there are, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from kfp_lifecycle.audit.entry import Entry
from kfp_lifecycle.audit.record import open_record
from kfp_lifecycle.audit.verification import Anchor
from kfp_lifecycle.registry.tracking import connect, mlflow_errors
from kfp_lifecycle.runtime.contract import ContractViolation

TAG = "audit.head"


def anchor(tracking_uri: str, head: Entry) -> None:
    """Let the registry know the record's head, so that whoever cuts the record off has to change the registry, too.

    A version's tag stays when later versions come: so it holds what was known when it was decided on.

    Raises:
        ContractViolation: the registry cannot be reached or knows no such model.
    """
    client, value = connect(tracking_uri), f"{head.number}:{head.hash}"
    with mlflow_errors(tracking_uri):
        known = _parsed("", client.get_registered_model(head.model).tags.get(TAG, ""))
        if known is None or known.number < head.number:
            client.set_registered_model_tag(head.model, TAG, value)
        if head.version:
            client.set_model_version_tag(head.model, head.version, TAG, value)


def record_promotion(tracking_uri: str, location: str, model: str, version: str, before: str | None) -> None:
    """Write that the alias `champion` names a version now; nothing where nobody keeps a record.

    Raises:
        ContractViolation: the record cannot be written, or the registry cannot be reached.
    """
    if location:
        anchor(tracking_uri, open_record(location).append("promoted", model, version, "", {"champion": before}))


def anchors(tracking_uri: str) -> list[Anchor]:
    """Every head that the registry knows.

    Raises:
        ContractViolation: the registry cannot be reached.
    """
    client, found = connect(tracking_uri), []
    with mlflow_errors(tracking_uri):
        for model in client.search_registered_models():
            found.append(_parsed(f"MLflow's model {model.name}", model.tags.get(TAG, "")))
            for version in client.search_model_versions(f"name='{model.name}'"):
                where = f"MLflow's version {version.version} of {model.name}"
                found.append(_parsed(where, version.tags.get(TAG, "")))
    return [item for item in found if item is not None]


def _parsed(where: str, value: str) -> Anchor | None:
    number, _, digest = value.partition(":")
    return Anchor(where, int(number), digest) if number.isdigit() else None


def main(arguments: Sequence[str]) -> None:
    """Print the anchors."""
    try:
        found = anchors(*arguments)
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))
    print(json.dumps([asdict(item) for item in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
