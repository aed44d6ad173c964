"""Records where a team keeps them: MLflow on a real PostgreSQL with a model's files in a real S3 interface."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.deployment.register_model.registration import register
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import write_project, write_training_set
from tests.modelling.trained import train_model
from tests.modelling.verdicts import verdict
from tests.projects import keep_records_at, read_project
from tests.servers import PASSWORD, Server, object_store, postgresql, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    yield from running(postgresql())


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A bucket of an S3 interface that MLflow is told of by its own variables."""
    with pytest.MonkeyPatch.context() as patch:
        for url in running(object_store("s3")):
            patch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            store = boto3.resource("s3", endpoint_url=url).Bucket("models")
            store.create()
            yield store


def address(server: Server, password: str = PASSWORD) -> str:
    return f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{server.port}/postgres"


def project_at(tmp_path: Path, tracking_uri: str) -> tuple[Path, Path, Path]:
    """A project that keeps its records there, a training set and parameters."""
    project = write_project(tmp_path / "project", tmp_path / "state")
    keep_records_at(project, tracking_uri)
    Parameters(parameters={"max_iter": 5}).write(tmp_path / "parameters")
    return project, write_training_set(tmp_path / "set", rows=300), tmp_path / "parameters"


def test_a_model_is_recorded_in_postgresql_its_files_in_s3_and_a_version_made(
    postgres: Server, bucket: Any, tmp_path: Path
) -> None:
    uri = address(postgres)
    project, training_set, parameters = project_at(tmp_path, uri)
    with pytest.raises(ContractViolation, match=r"knows no place for a model's files.*--artifact-location s3://"):
        train_model(project, training_set, parameters, tmp_path / "model")
    assert not (tmp_path / "model").exists()

    client = connect(uri)
    client.create_experiment("leaving", artifact_location="s3://models/leaving")
    metadata = train_model(project, training_set, parameters, tmp_path / "model")
    assert client.get_run(metadata["run_id"]).info.status == "FINISHED"
    kept = {item.key.rpartition("/model/")[2]: item for item in bucket.objects.all()}
    assert kept["model.onnx"].get()["Body"].read() == (tmp_path / "model" / "model.onnx").read_bytes()
    assert not [key for key in kept if key.endswith(".joblib")]

    approval = verdict(run_id=metadata["run_id"]).write(tmp_path / "verdict.json")
    given = read_project(project)
    register(given.settings, given.locations, tmp_path / "model", approval, tmp_path / "registered")
    version = ModelFolder(tmp_path / "registered").description.version
    assert str(client.get_model_version_by_alias("leaving", "candidate").version) == version


def test_a_wrong_password_is_refused_without_showing_it(postgres: Server, tmp_path: Path) -> None:
    wrong, started = "wr0ng-s3cret", time.monotonic()
    with pytest.raises(ContractViolation, match=r"MLflow tracking server postgresql.*failed") as refused:
        connect(address(postgres, wrong)).search_experiments()
    assert wrong not in str(refused.value)
    assert time.monotonic() - started < 20
