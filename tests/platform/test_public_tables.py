"""Public tables of other shapes than the two of `test_own_table.py`, which `init` joins: each is trained, served and
watched, and nobody writes a line. What is served and reported is held there; what `init` writes, in `test_init.py`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import lifecycle

from benchmarks.own_tables.__main__ import first_command
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import port_pair

# A whole run each, however busy the machine is.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUICK = ["--set", "tuning.engine=none", "--set", "evaluation.bootstrap_replicates=50"]
# Keys that each table has: flat without a time, events, an event below 1%, 300 columns.
KEYS = {"affairs": [1, 2, 3], "purchases": [4, 18, 21], "visits": [1, 2, 3], "digits": [1, 2, 3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    command = [str(interpreter("modelling")), "-m", "benchmarks.own_tables.public_tables", str(folder)]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def project(folder: Path, table: str) -> Iterator[Path]:
    done(folder, *first_command(table))
    yield folder / table
    done(folder / table, "down")


def done(folder: Path, *arguments: str) -> str:
    ended = lifecycle(folder, *arguments)
    assert ended.returncode == 0, f"{arguments}\n{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}"
    return ended.stdout


@pytest.mark.parametrize("table", KEYS)
def test_a_table_is_trained_served_and_watched(table: str, project: Path) -> None:
    settings = [*QUICK, "--set", f"deployment.http_port={port_pair()}"]
    run: dict[str, Any] = json.loads(done(project, "run", "training", "--json", *settings))
    assert run["state"] == "done", run
    name = load_configuration(project).entity.key
    data = KEYS[table]
    asked = {"inputs": [{"name": name, "datatype": "INT64", "shape": [len(data)], "data": data}]}
    answer = httpx.post(f"{run['endpoint']['url']}/v2/models/{run['endpoint']['model']}/infer", json=asked, timeout=120)
    outputs = {output["name"]: output["data"] for output in answer.raise_for_status().json()["outputs"]}
    assert all(0 < score < 1 for score in outputs["score"])
    watched = json.loads(done(project, "run", "monitoring", "--json", *settings))
    assert watched["state"] == "done"
    listed = json.loads(done(project, "artifacts", watched["id"], "--json"))
    assert next(item for item in listed if item["name"] == "predictions")["metadata"]["rows"] == len(data)
