"""Champion: the model in production, as the registry's alias names it. The one place that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.registry.tracking import connect, mlflow_errors, without_password
from kfp_lifecycle.runtime.contract import ContractViolation

ALIAS = "champion"


@dataclass(frozen=True)
class Champion:
    """The registered version that the alias `champion` names, or named."""

    tracking_uri: str
    model: str
    version: str
    source: str
    """Where MLflow keeps the version's files."""

    def fetch(self, destination: Path, path: str = "") -> Path:
        """Bring the model folder, or one file or folder of it, to this machine.

        Args:
            destination: Folder to write to.
            path: What to bring, relative to the model folder; all of it by default.

        Returns:
            Where it is now.

        Raises:
            ContractViolation: it cannot be brought here.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        destination.mkdir(parents=True, exist_ok=True)
        with mlflow_errors(self.tracking_uri):
            try:
                fetched = download_artifacts(
                    artifact_uri=f"{self.source.rstrip('/')}/{path}".rstrip("/"),
                    dst_path=str(destination),
                    tracking_uri=self.tracking_uri,
                )
            except MlflowException as error:
                reason = " ".join(str(error).split())
                raise ContractViolation(
                    f"{path or 'The folder'} of {self.model} version {self.version}, which is in production, cannot be "
                    f"brought from {without_password(self.source)} ({reason:.300}). See that this store can be reached "
                    "and still holds it."
                ) from error
        return Path(fetched)

    def description(self, destination: Path) -> Model:
        """The version's description alone, which is brought to `destination`.

        Raises:
            ContractViolation: it cannot be brought here, or is damaged.
        """
        file = self.fetch(destination, Model.FILE)
        try:
            return Model.read(file)
        except ContractViolation as violation:
            reason = str(violation).replace(str(file), Model.FILE)
            raise ContractViolation(
                f"{self.model} version {self.version}, which is in production, has damaged files in "
                f"{without_password(self.source)}: {reason}"
            ) from violation


def find_champion(tracking_uri: str, model: str) -> Champion | None:
    """The model in production; None where nothing was promoted yet.

    Args:
        tracking_uri: MLflow tracking server.
        model: The model's name in the registry.

    Raises:
        ContractViolation: the registry cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            found = client.get_model_version_by_alias(model, ALIAS)
        except MlflowException as error:
            # The first where there is no such model, the second where no version of it has the alias.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        source = client.get_model_version_download_uri(model, found.version)
    return Champion(tracking_uri, model, str(found.version), source)


def registered_version(tracking_uri: str, model: str, version: str) -> Champion | None:
    """A version by its number, as one that is, or was, in production; None where the registry does not know it.

    Raises:
        ContractViolation: the registry cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            client.get_model_version(model, version)
            source = client.get_model_version_download_uri(model, version)
        except MlflowException as error:
            # The first where there is no such version, the second where it is no number.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
    return Champion(tracking_uri, model, version, source)


def require_champion(tracking_uri: str, model: str) -> Champion:
    """The model in production.

    Raises:
        ContractViolation: as `find_champion`; or nothing was promoted yet.
    """
    champion = find_champion(tracking_uri, model)
    if champion is None:
        raise ContractViolation(
            f"No version of {model} is in production yet: the registry {without_password(tracking_uri)} has no alias "
            f"`{ALIAS}` for it. Run the training pipeline until it promotes a model: lifecycle run training"
        )
    return champion
