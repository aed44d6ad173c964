"""MLflow tracking client: the server is reached quickly or named in the message, and nothing phones home."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from mlflow.entities import Dataset, Run
    from mlflow.tracking import MlflowClient

# A server that is up answers within seconds; MLflow's own patience is minutes.
CONNECT_SECONDS = 5
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Or a new database tells of each of its tables.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
DATABASES = ("postgresql", "mysql", "mssql")
MODEL_PATH = "model"


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the tracking server and its registry.

    Args:
        tracking_uri: `sqlite:///FILE`, `postgresql://…`, `http(s)://…`, or what a managed server's plugin takes.

    Raises:
        ContractViolation: nothing answers there.
    """
    refuse_unreachable(tracking_uri)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    if _scheme(tracking_uri) == "sqlite":
        Path(urlsplit(tracking_uri).path.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
    with mlflow_errors(tracking_uri):
        return MlflowClient(tracking_uri, registry_uri=tracking_uri)


def refuse_unreachable(tracking_uri: str) -> None:
    """See whether a server is there, without MLflow and before hours of work are done for it.

    Raises:
        ContractViolation: nothing answers there, or the database refuses.
    """
    address = urlsplit(tracking_uri)
    scheme = _scheme(tracking_uri)
    if address.hostname and scheme in PORTS:
        port = address.port or PORTS[scheme]
        try:
            socket.create_connection((address.hostname, port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise ContractViolation(
                f"The MLflow tracking server at {address.hostname}:{port} cannot be reached ({error}). "
                "Start it, or correct tracking_uri in the target's stores; then resume the run."
            ) from error
    if scheme in DATABASES:
        # MLflow tries a database that refuses for two minutes before it says why.
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError

        try:
            engine = create_engine(tracking_uri)
            engine.connect().close()
            engine.dispose()
        except SQLAlchemyError as error:
            raise _failure(tracking_uri, error) from error


def _scheme(uri: str) -> str:
    """`postgresql` for `postgresql+psycopg2://…`."""
    return urlsplit(uri).scheme.partition("+")[0]


@contextlib.contextmanager
def mlflow_errors(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow and its database raise into a message that names the server.

    Raises:
        ContractViolation: MLflow refused, or was lost on the way.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise _failure(tracking_uri, error) from error


def _failure(tracking_uri: str, error: Exception) -> ContractViolation:
    return ContractViolation(
        f"The MLflow tracking server {without_password(tracking_uri)} failed: {str(error).splitlines()[0]:.300}. "
        "See that it runs, that its disk is not full and that its version is this environment's; then resume the run."
    )


def without_password(uri: str) -> str:
    """A URI as it may be shown."""
    address = urlsplit(uri)
    if not address.password:
        return uri
    return uri.replace(f":{address.password}@", ":***@", 1)


def experiment_id(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """The project's experiment, made when there is none.

    A file of SQLite knows no place for files, so that they go beside it; a server decides itself.

    Raises:
        ContractViolation: nobody has said where a database server's files go.
    """
    from mlflow.exceptions import MlflowException

    def existing() -> str | None:
        experiment = client.get_experiment_by_name(name)
        return str(experiment.experiment_id) if experiment else None

    found = existing()
    if found:
        return found
    place = None
    if tracking_uri.startswith("sqlite:///"):
        place = (Path(tracking_uri.removeprefix("sqlite:///")).resolve().parent / "mlflow" / name).as_uri()
    elif _scheme(tracking_uri) in DATABASES:
        # MLflow would write below the step's working folder, which nobody else sees.
        raise ContractViolation(
            f"{without_password(tracking_uri)} is a database, which knows no place for a model's files. Name an MLflow "
            f"server in tracking_uri, or say once where they go: mlflow experiments create --experiment-name {name} "
            "--artifact-location s3://BUCKET/PATH"
        )
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException:
        # Another run may have made it since.
        found = existing()
        if not found:
            raise
        return found


@contextlib.contextmanager
def tracked_run(
    client: MlflowClient, tracking_uri: str, experiment: str, tags: Mapping[str, str], dataset: Dataset | None = None
) -> Iterator[Run]:
    """An MLflow run that ends FINISHED, or FAILED when the block raises."""
    with mlflow_errors(tracking_uri):
        run = client.create_run(experiment_id(client, tracking_uri, experiment), tags=dict(tags))
        if dataset:
            from mlflow.entities import DatasetInput, InputTag

            context = [InputTag("mlflow.data.context", "training")]
            client.log_inputs(run.info.run_id, datasets=[DatasetInput(dataset, context)])
    try:
        yield run
    except BaseException:
        with contextlib.suppress(ContractViolation), mlflow_errors(tracking_uri):
            client.set_terminated(run.info.run_id, "FAILED")
        raise
    with mlflow_errors(tracking_uri):
        client.set_terminated(run.info.run_id, "FINISHED")
