"""The real server of a small model, in its own environment, for clients in theirs."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import LOOPBACK, free_ports

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Served:
    """Where the model is served."""

    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.http_port}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Version 1 of the model devices."""
    if not interpreter("modelling").exists() or not interpreter("serving").exists():
        pytest.skip("the environments modelling and serving are not built")
    model, log = tmp_path_factory.mktemp("model") / "devices", tmp_path_factory.mktemp("log")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [str(interpreter("modelling")), str(ROOT / "tests" / "tiny_model.py"), str(model)],
        check=True,
        env={**variables, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    served = Served(*free_ports(2))
    told = {
        "model_dir": model,
        "model_name": "devices",
        "version": "1",
        "prediction_log": log,
        "host": LOOPBACK,
        "http_port": served.http_port,
        "grpc_port": served.grpc_port,
    }
    command = [str(interpreter("serving")), "-m", "kfp_lifecycle.serving.server.server"]
    process = subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in told.items())], cwd=model / "code", env=variables
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{served.url}/v2/health/ready", timeout=60).close()
            break
        except OSError:
            time.sleep(0.05)
    yield served
    process.terminate()
    assert process.wait(200) == 0
