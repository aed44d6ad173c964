"""Promotion: the registry's alias `champion` follows what is really in production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.promotion import Promotion
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry.versions import set_champion


def promote(locations: Locations, deployment: Path, verdict_file: Path, destination: Path) -> dict[str, Any]:
    """Move the alias to the version that was released, if the champion is still the one that it was judged against.

    Args:
        locations: `tracking_uri` says where the registry is.
        deployment: What the release wrote when it succeeded.
        verdict_file: What was decided of the released model.
        destination: JSON file to write once the alias has moved.

    Returns:
        Metadata: `model`, `version`, `previous_version`, `summary`.

    Raises:
        ContractViolation: another version became the champion meanwhile, the file is of no finished release, or the
            registry cannot be reached or has no such version.
    """
    released = Deployment.read(deployment)
    expected = Verdict.read(verdict_file).champion_version
    before = set_champion(locations.tracking_uri, released.model, released.version, expected)
    promotion = Promotion(model=released.model, version=released.version, previous_version=before)
    promotion.write(destination)
    return promotion.metadata()
