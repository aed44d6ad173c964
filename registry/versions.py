"""Versions of models in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kfp_lifecycle.registry.champion import ALIAS as CHAMPION
from kfp_lifecycle.registry.tracking import MODEL_PATH, connect, mlflow_errors

CANDIDATE = "candidate"


def create_version(tracking_uri: str, model: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Register the model of a run; a second call for the same run gives the same version.

    Args:
        tracking_uri: MLflow tracking server and registry.
        model: Name in the registry; made when there is none.
        run_id: The run that trained it.
        tags: Of the version.

    Raises:
        ContractViolation: the registry cannot be reached or does not know the run.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.search_model_versions(f"name='{model}' and run_id='{run_id}'")
        if known:
            version = str(known[0].version)
            for name, value in tags.items():
                client.set_model_version_tag(model, version, name, value)
            return version
        source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL_PATH}"
        return str(client.create_model_version(model, source, run_id, tags=dict(tags)).version)


def feature_versions(tracking_uri: str, model: str) -> set[str]:
    """The versions of feature definitions that any registered version of a model was trained with.

    Raises:
        ContractViolation: the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        versions = client.search_model_versions(f"name='{model}'")
        return {version.tags["feature_version"] for version in versions if "feature_version" in version.tags}


def store_files(tracking_uri: str, run_id: str, place: Path) -> None:
    """Put a model folder, or one file of it, where the run's versions point to.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        store = client.log_artifacts if place.is_dir() else client.log_artifact
        store(run_id, str(place), MODEL_PATH)


def set_alias(tracking_uri: str, model: str, version: str, alias: str) -> str | None:
    """Let an alias name a version.

    Returns:
        The version it named before; None where there was none.

    Raises:
        ContractViolation: the registry cannot be reached or has no such version.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        before = client.get_registered_model(model).aliases.get(alias)
        client.set_registered_model_alias(model, alias, version)
    return str(before) if before else None


def set_champion(tracking_uri: str, model: str, version: str) -> str | None:
    """Record that a version is in production.

    Returns:
        The version that was before; None where there was none.

    Raises:
        ContractViolation: the registry cannot be reached or has no such version.
    """
    return set_alias(tracking_uri, model, version, CHAMPION)
