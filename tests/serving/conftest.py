"""A small model and its real server, for all tests of this folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.client import Client

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, as it is registered."""
    if not interpreter("modelling").exists():
        pytest.skip("the environment modelling, which writes the model, is not built")
    folder = tmp_path_factory.mktemp("model") / "devices"
    subprocess.run(
        [str(interpreter("modelling")), str(ROOT / "tests" / "tiny_model.py"), str(folder)],
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    return folder


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialServer]:
    """Its server, without an online store."""
    with TrialServer(model, "devices", "1", tmp_path_factory.mktemp("log")) as running:
        yield running


@pytest.fixture
def client(server: TrialServer) -> Iterator[Client]:
    """A connection to it."""
    with server.client() as connection:
        yield connection
