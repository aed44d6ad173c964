"""Human approval (four-eyes principle): how a version stands, by the audit record alone."""

from __future__ import annotations

from kfp_lifecycle.audit.entry import Entry
from kfp_lifecycle.audit.record import entries_of, open_record
from kfp_lifecycle.runtime.contract import ContractViolation

DECISIONS = ("approval asked", "approved", "rejected")


def decision_on(location: str, model: str, version: str) -> Entry | None:
    """The newest word on whether a version may be released; None where nobody ever asked.

    Raises:
        ContractViolation: the record cannot be read.
    """
    if not location:
        return None
    about = [
        entry
        for entry in entries_of(open_record(location))
        if (entry.model, entry.version) == (model, version) and entry.action in DECISIONS
    ]
    return about[-1] if about else None


def refuse_unapproved(location: str, model: str, version: str) -> None:
    """See that a version that waits for a person's approval has it. What `pipeline.yaml` says by now changes nothing.

    Raises:
        ContractViolation: it waits still, or was rejected.
    """
    decision = decision_on(location, model, version)
    if decision is None or decision.action == "approved":
        return
    ask = f"`lifecycle approve {version} --model {model} --reason …`"
    if decision.action == "rejected":
        why = f": {decision.reason}" if decision.reason else ""
        raise ContractViolation(
            f"Version {version} of {model} was rejected by {decision.by} on {decision.at}{why}. Release another one, "
            f"or have it approved after all: {ask}"
        )
    raise ContractViolation(
        f"Version {version} of {model} waits for approval since {decision.at}. A person gives it by {ask}"
    )
