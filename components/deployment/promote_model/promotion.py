"""Promotion: the registry's alias `champion` follows what is really in production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.promotion import Promotion
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry.anchors import record_promotion
from kfp_lifecycle.registry.versions import set_champion


def promote(locations: Locations, deployment: Path, verdict_file: Path | None, destination: Path) -> dict[str, Any]:
    """Move the alias to the version that has the traffic, if the champion is still the one that it took over from.

    Args:
        locations: `tracking_uri` says where the registry is.
        deployment: What the release, or the rollback, wrote when it succeeded.
        verdict_file: What was decided of the released model; of a rollback nothing was.
        destination: JSON file to write once the alias has moved.

    Returns:
        Metadata: `model`, `version`, `previous_version`, `summary`.

    Raises:
        ContractViolation: another version became the champion meanwhile, the file is of no finished release, or the
            registry cannot be reached or has no such version.
    """
    released = Deployment.read(deployment)
    expected = Verdict.read(verdict_file).champion_version if verdict_file is not None else released.previous_version
    before = set_champion(locations.tracking_uri, released.model, released.version, expected)
    record_promotion(locations.tracking_uri, locations.audit_record, released.model, released.version, before)
    promotion = Promotion(model=released.model, version=released.version, previous_version=before)
    promotion.write(destination)
    return promotion.metadata()
