"""Vertex Model Registry: the versions of one model, by aliases that say which is which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud import aiplatform
from google.cloud.aiplatform.models import ModelRegistry, VersionInfo

# The version that serves; `default` is what Vertex AI takes where none is named.
CHAMPION, DEFAULT = "champion", "default"


def model_id(model: str) -> str:
    """The id that a model of a name has in the registry: small letters, digits, `-` and `_`, a letter first, two at the
    least."""
    name = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9_-]", "-", model.lower()))[:63]
    return name if len(name) > 1 else f"model-{name}".rstrip("-")


def alias_of(version: str) -> str:
    """The alias of a version of the project's own registry: `v3`."""
    return f"v{re.sub(r'[^a-z0-9-]', '-', version.lower())}"


def versions_of(model: str) -> list[VersionInfo]:
    """The versions of a model, the oldest first; none where there is no such model."""
    try:
        found = ModelRegistry(model_id(model)).list_versions()
    except NotFound:
        return []
    return sorted(found, key=lambda item: int(item.version_id))


def upload_version(
    model: str, version: str, container: Mapping[str, Any], *, labels: Mapping[str, str], encryption_key: str
) -> aiplatform.Model:
    """A version of a model, under the one model there is of its name. One that was uploaded before is the same one.

    Args:
        model: The model's name.
        version: Its version in the project's own registry.
        container: How Vertex AI runs its server, as `aiplatform.Model.upload` takes it.
        labels: Of the model and the version.
        encryption_key: What it is encrypted with; empty for Google's own key.
    """
    there, alias = versions_of(model), alias_of(version)
    registry = ModelRegistry(model_id(model)) if there else None
    for item in there:
        if alias in (item.version_aliases or ()) and registry is not None:
            known = registry.get_model(item.version_id)
            if _is_same(known, container):
                return known
            # The same model in another server is another version, which takes the alias over.
            registry.remove_version_aliases([alias], item.version_id)
    uploaded: aiplatform.Model = aiplatform.Model.upload(
        display_name=model,
        # The first one makes the model.
        **({"parent_model": model_id(model)} if there else {"model_id": model_id(model)}),
        is_default_version=not there,
        version_aliases=[alias],
        version_description=f"{model} version {version}",
        labels={**labels, "lifecycle_model": model_id(model)},
        encryption_spec_key_name=encryption_key or None,
        **container,
    )
    return uploaded


def newest_variable(model: str, name: str) -> str:
    """What the newest version's servers are told by a variable; empty where there is no version, or they are not."""
    there = versions_of(model)
    if not there:
        return ""
    container = ModelRegistry(model_id(model)).get_model(there[-1].version_id).container_spec
    return next((item.value for item in container.env if item.name == name), "") if container else ""


def crown(model: str, version_id: str) -> None:
    """Give a version the aliases of the one that serves; whichever had them loses them."""
    ModelRegistry(model_id(model)).add_version_aliases([CHAMPION, DEFAULT], version_id)


def remove_old(model: str, keep: int, released: Iterable[str]) -> list[str]:
    """Remove all but the newest versions of a model.

    Args:
        model: The model's name.
        keep: How many stay.
        released: Ids of versions that are deployed; they count, and stay in any case.

    Returns:
        Ids of those that were removed.
    """
    there = versions_of(model)
    spared = {*released, *(item.version_id for item in there if {CHAMPION, DEFAULT} & set(item.version_aliases or ()))}
    surplus = max(0, len(there) - keep)
    old = [item.version_id for item in there if item.version_id not in spared][:surplus]
    for version_id in old:
        ModelRegistry(model_id(model)).delete_version(version_id)
    return old


def _is_same(known: aiplatform.Model, container: Mapping[str, Any]) -> bool:
    image = known.container_spec.image_uri if known.container_spec else ""
    return (known.uri, image) == (container["artifact_uri"], container["serving_container_image_uri"])
