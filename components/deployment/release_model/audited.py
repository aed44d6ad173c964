"""Release in the audit record: whether a version may be released, and what became of it on a cluster.

On this machine the history of the serving folder says each stage, and writes the record itself.
"""

from __future__ import annotations

from collections.abc import Callable

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.audit.entry import Action
from kfp_lifecycle.audit.record import file_of, open_record
from kfp_lifecycle.config.locations import LocalServing, Locations, serving_place
from kfp_lifecycle.serving.release.release import RolledBack, Undecided


def record_location(locations: Locations) -> str:
    """Where the record of what is released there is kept; empty where nobody keeps one."""
    place = serving_place(locations.serving)
    return str(file_of(place.folder)) if isinstance(place, LocalServing) else locations.audit_record


def recorded_release(location: str, model: str, version: str, release: Callable[[], Deployment]) -> Deployment:
    """Release on a cluster, and write before and after what is, and was, done; nothing where nobody keeps a record.

    Raises:
        ContractViolation: the record cannot be written, and nothing was released; or the release failed.
    """
    if not location:
        return release()
    record = open_record(location)
    record.append("release begun", model, version)
    try:
        released = release()
    except BaseException as error:
        action: Action = "release paused" if isinstance(error, Undecided) else "release rolled back"
        steps = error.steps if isinstance(error, RolledBack | Undecided) else []
        evidence = [step.model_dump(mode="json") for step in steps]
        record.append(action, model, version, str(error) or type(error).__name__, {"evidence": evidence})
        raise
    evidence = [step.model_dump(mode="json") for step in released.steps]
    told = {"champion": released.previous_version, "strategy": released.strategy, "evidence": evidence}
    record.append("released", model, version, "no stage showed it to be worse" if evidence else "it served", told)
    return released
