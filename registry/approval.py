"""Human approval of a registered version, in the audit record and as tags of the version.

`python -m kfp_lifecycle.registry.approval URI RECORD approved|rejected MODEL VERSION REASON`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.audit.approval import decision_on
from kfp_lifecycle.audit.entry import Entry
from kfp_lifecycle.audit.record import entries_of, open_record
from kfp_lifecycle.registry.anchors import anchor
from kfp_lifecycle.registry.tracking import connect, mlflow_errors, without_password
from kfp_lifecycle.runtime.contract import ContractViolation


def record_candidate(
    tracking_uri: str, location: str, model: str, version: str, verdict: Verdict, *, asked: bool
) -> bool:
    """Write what the gate waived for a registered version and, where a person has to approve it, that this was asked.

    A step that is done again adds nothing.

    Args:
        tracking_uri: MLflow, which is told the record's head.
        location: The record; empty where nobody keeps one.
        model: The version's model.
        version: What was registered.
        verdict: What the gate decided.
        asked: Whether a person has to approve it.

    Returns:
        Whether it waits for a person.

    Raises:
        ContractViolation: a person has to approve it, and there is no record to keep the answer.
    """
    if not location:
        if asked:
            raise ContractViolation(
                f"gate.approval is required, but nobody would know who approved version {version} of {model}: name a "
                "folder of an object store in the target's audit_record."
            )
        return False
    record = open_record(location)
    written = {
        (entry.action, entry.reason) for entry in entries_of(record) if (entry.model, entry.version) == (model, version)
    }
    head = None
    for sentence in waived(verdict):
        if ("waived", sentence) not in written:
            head = record.append("waived", model, version, sentence)
    decision = decision_on(location, model, version)
    if asked and decision is None:
        head = decision = record.append("approval asked", model, version, verdict.sentences[0])
    if head is not None:
        anchor(tracking_uri, head)
    return decision is not None and decision.action == "approval asked"


def waived(verdict: Verdict) -> list[str]:
    """What of the gate did not have to be met, in the verdict's words."""
    rules = [rule.sentence for rule in verdict.rules if rule.waived]
    champion = verdict.champion
    return [*rules, champion.sentence] if champion is not None and champion.passed and not champion.compared else rules


def decide(
    tracking_uri: str, location: str, decision: Literal["approved", "rejected"], model: str, version: str, reason: str
) -> Entry:
    """Write a person's decision on a version.

    Raises:
        ContractViolation: the registry does not know it, the gate did not approve it, or the record cannot be written.
    """
    from mlflow.exceptions import MlflowException

    client, registry = connect(tracking_uri), without_password(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            tags = client.get_model_version(model, version).tags
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ContractViolation(f"The registry {registry} knows no version {version} of {model}.") from error
    if tags.get("decision") != "approved":
        raise ContractViolation(
            f"Version {version} of {model} was not approved by the gate ({tags.get('decision', 'no verdict')}): a "
            "person decides after it, and not in its place."
        )
    entry = open_record(location).append(decision, model, version, reason)
    anchor(tracking_uri, entry)
    with mlflow_errors(tracking_uri):
        client.set_model_version_tag(model, version, "approval", f"{decision} by {entry.by} at {entry.at}")
    return entry


def main(arguments: Sequence[str]) -> None:
    """Decide, and print who did."""
    tracking_uri, location, decision, model, version, reason = arguments
    if decision not in ("approved", "rejected"):
        sys.exit(f"{decision!r} is no decision: approved or rejected")
    try:
        entry = decide(tracking_uri, location, decision, model, version, reason)  # type: ignore[arg-type]
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))
    print(f"{entry.action} by {entry.by}, entry {entry.number} of {location}")


if __name__ == "__main__":
    main(sys.argv[1:])
