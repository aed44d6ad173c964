"""Promotion: the registry's alias `champion` follows what is really in production."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry.versions import set_champion
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole


def promote(locations: Locations, deployment: Path, champion: Path) -> dict[str, Any]:
    """Move the alias to the version that was released.

    Args:
        locations: `tracking_uri` says where the registry is.
        deployment: JSON file that the release wrote when it succeeded.
        champion: The same content, written once the alias has moved.

    Returns:
        Metadata: `model`, `version`, `previous_version`, `summary`.

    Raises:
        ContractViolation: the file is of no finished release, or the registry cannot be reached or has no such version.
    """
    text = deployment.read_text("utf-8")
    released = json.loads(text)
    missing = [key for key in ("model", "version") if not released.get(key)]
    if missing:
        raise ContractViolation(f"The deployment names no {' and no '.join(missing)}: release the model again.")
    model, version = released["model"], str(released["version"])
    before = set_champion(locations.tracking_uri, model, version)
    write_whole(champion, text)
    return {"model": model, "version": version, "previous_version": before or "", "summary": f"version {version}"}
