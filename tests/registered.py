"""Puts a model folder into a registry as the champion, as register_model and promote_model would."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.registry.champion import ALIAS
from kfp_lifecycle.registry.tracking import connect


def make_champion(folder: Path, tracking_uri: str, model: str) -> str:
    """Register a model folder and let the alias name it.

    Returns:
        The version.
    """
    client = connect(tracking_uri)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    version = client.create_model_version(model, source=folder.as_uri()).version
    client.set_registered_model_alias(model, ALIAS, str(version))
    return str(version)
