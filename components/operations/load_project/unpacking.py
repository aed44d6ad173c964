"""From the archive of the first step to the project artifact."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.problems import describe_error
from kfp_lifecycle.config.stores import save_stores
from kfp_lifecycle.runtime.closure import PROJECT_FOLDER
from kfp_lifecycle.runtime.contract import ContractViolation


def unpack_project(archive: Path, project: Path, stores: Mapping[str, str]) -> dict[str, str]:
    """Copy the embedded project and the stores into the project artifact.

    Returns:
        `project` (the name) and `digest` (SHA-256 of paths and contents, first 12 hexadecimal digits).

    Raises:
        ContractViolation: no project was embedded, or its configuration or a store's location cannot be used.
    """
    source = archive / PROJECT_FOLDER
    if not source.is_dir():
        raise ContractViolation(
            "This pipeline was compiled without a project. Compile it with `python compile.py --project DIR`."
        )
    try:
        configuration = load_configuration(source)
    except ConfigurationError as error:
        raise ContractViolation(str(error)) from error
    try:
        locations = Locations.model_validate(dict(stores))
    except ValidationError as error:
        raise ContractViolation(
            "the pipeline's parameters cannot be used: "
            + "; ".join(describe_error(detail) for detail in error.errors())
        ) from error
    shutil.copytree(source, project, dirs_exist_ok=True)
    save_stores(locations, project)
    return {"project": configuration.name, "digest": folder_digest(project)}


def folder_digest(folder: Path) -> str:
    """Digest of all files' paths and contents below a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for part in (file.relative_to(folder).as_posix().encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]
