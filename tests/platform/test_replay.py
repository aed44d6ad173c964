"""What people asked before, read back out of the prediction log as requests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.client import v2_request
from kfp_lifecycle.serving.release.replay import MOST_REQUESTS, Replayed, replayed_requests
from tests.control_planes.object_store import object_store

ROOT = Path(__file__).resolve().parents[2]
INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]
# A finished segment of yesterday, one that grows, whose writer was killed within a batch, and one that is broken.
LOG = """
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.serving.server.log_batch import log_schema
from tests.prediction_logs import logged, write_log

folder = Path(sys.argv[1])
inputs = [Feature("temperature", "numeric"), Feature("site", "categorical")]
yesterday, today = datetime(2026, 11, 27, 9, tzinfo=UTC), datetime(2026, 11, 28, 9, tzinfo=UTC)
write_log(
    folder,
    [
        *(logged({"temperature": float(number), "site": "south"}, yesterday) for number in range(300)),
        logged({"temperature": -1.0, "site": "south"}, yesterday, shadow=True),
    ],
    inputs,
)
schema = log_schema(["temperature"], ["site"])
rows = [
    [logged({"temperature": 30.0, "site": "north"}, today, entity="7")],
    [logged({"temperature": None, "site": "north"}, today)] * 2,
    [logged({"temperature": 1e9, "site": "north"}, today)],
]
messages = [schema.serialize(), *(pa.RecordBatch.from_pylist(batch, schema).serialize() for batch in rows)]
growing = folder / "2026-11-28"
growing.mkdir()
(growing / "10-1-host-1-77.arrows").write_bytes(b"".join(bytes(message) for message in messages)[:-40])
(growing / "11-1-host-1-78.arrows").write_bytes(b"no stream at all")
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not interpreter("serving").exists():
        pytest.skip("the environment serving is not built")
    folder = tmp_path_factory.mktemp("log")
    command = [str(interpreter("serving")), "-c", LOG, str(folder / "devices")]
    subprocess.run(command, check=True, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    return folder


def by_key(entity: str) -> dict[str, Any]:
    return {"inputs": [{"name": "device_id", "datatype": "BYTES", "shape": [1], "data": [entity]}]}


def with_features(temperature: float | None, site: str) -> dict[str, Any]:
    return v2_request(INPUTS, [{"temperature": temperature, "site": site}])


def test_each_request_is_asked_again_as_it_was_the_newest_first(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = replayed_requests(str(log), "devices", INPUTS, "device_id")
    newest = [item.request for item in found[:2]]
    assert sorted(newest, key=str) == sorted([by_key("7"), with_features(None, "north")], key=str)
    assert found[0].inputs == {"temperature", "site"}
    # What was asked twice is asked once, and what nobody acted on is not asked.
    assert len({str(item.request) for item in found}) == len(found) == MOST_REQUESTS
    assert with_features(-1.0, "south") not in [item.request for item in found]
    assert "11-1-host-1-78.arrows is not replayed" in capfd.readouterr().err


def test_where_the_log_does_not_name_entities_plainly_features_stand_in_if_the_candidate_has_the_same(
    log: Path,
) -> None:
    features = Replayed(with_features(30.0, "north"), frozenset({"temperature", "site"}))
    assert features in replayed_requests(str(log), "devices", INPUTS)
    more = [*INPUTS, Feature("pressure", "numeric")]
    assert features not in replayed_requests(str(log), "devices", more)


def test_a_log_in_an_object_store_is_replayed_by_its_finished_files(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(log, tmp_path / "logs" / "predictions")
    with object_store(tmp_path) as url:
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        found = replayed_requests("s3://logs/predictions", "devices", INPUTS, "device_id")
        assert len(found) == MOST_REQUESTS
        assert all(item.request["inputs"][1]["data"] == ["south"] for item in found)
        assert replayed_requests("s3://logs/nowhere", "devices", INPUTS) == []
    assert replayed_requests("s3://logs/predictions", "devices", INPUTS) == []
    assert "s3://logs/predictions/devices is not replayed" in capfd.readouterr().err


def test_without_a_log_nothing_is_replayed(tmp_path: Path) -> None:
    assert replayed_requests(str(tmp_path / "nowhere"), "devices", INPUTS, "device_id") == []
