"""A trial's pod: it reads the training set from an object store and says its result as Katib reads it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.tuning import trial
from kfp_lifecycle.tuning.cross_validation import folds_of, score_folds
from kfp_lifecycle.tuning.trial_settings import METRIC, PARAMETERS_VARIABLE, SETTINGS_VARIABLE, TrialSettings
from tests.katib_rules import WITHOUT_TIME, collect, observe
from tests.modelling.business import write_training_set

pytestmark = pytest.mark.slow

TRAINING = Training(parameters={"max_iter": 8})
SPACE = {
    "early_stopping": {"type": "categorical", "choices": [True, False]},
    "n_iter_no_change": {"type": "int", "low": 2, "high": 9, "when": {"early_stopping": True}},
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.3},
}
ASSIGNED = {"early_stopping": "False", "n_iter_no_change": "3.0", "learning_rate": "0.05"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("data") / "set", rows=300)


def told(training_set: str, object_store: str = "http://nowhere:1", **changed: Any) -> TrialSettings:
    values = {"training": TRAINING, "space": SPACE, "folds": 2, "horizon_days": 28, **changed}
    return TrialSettings(training_set=training_set, object_store=object_store, **values)


class ObjectStore:
    """As much of an S3 server as a reader asks for: HEAD and GET of objects, with ranges."""

    def __init__(self, folder: Path) -> None:
        self.credentials: set[str] = set()
        self.read: set[str] = set()
        store = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                store.credentials.add(self.headers["Authorization"].split("Credential=")[1].split("/")[0])
                bucket, _, key = self.path.lstrip("/").partition("/")
                file = folder / key.removeprefix("run/training_set/")
                if bucket != "mlpipeline" or not file.is_file():
                    self.send_error(404)
                    return
                store.read.add(file.name)
                content = file.read_bytes()
                start, end = 0, len(content) - 1
                if wanted := self.headers.get("Range"):
                    low, _, high = wanted.removeprefix("bytes=").partition("-")
                    start, end = int(low), min(int(high or end), end)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(end - start + 1))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content[start : end + 1])

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def object_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    store = ObjectStore(folder)
    yield store
    store.server.shutdown()


def test_what_it_prints_is_the_mean_after_each_fold_as_katibs_collector_reads_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SETTINGS_VARIABLE, told(str(folder)).model_dump_json())
    monkeypatch.setenv(PARAMETERS_VARIABLE, json.dumps(ASSIGNED))
    trial.main()
    reports = collect(capsys.readouterr().out.splitlines(), METRIC)
    folds = folds_of(TrainingSet(folder), TRAINING, 2, timedelta(days=28))
    scores = list(score_folds(folds, TRAINING, {"early_stopping": False, "learning_rate": 0.05}))
    assert [value for _, value in reports] == pytest.approx([scores[0], np.mean(scores)], abs=1e-9)
    assert WITHOUT_TIME not in [time for time, _ in reports]
    assert float(observe(reports)["latest"]) == pytest.approx(np.mean(scores), abs=1e-9)


def test_it_reads_two_files_from_the_clusters_object_store_with_its_credentials(
    object_store: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    trial.fetch(told("minio://mlpipeline/run/training_set", object_store.address), tmp_path)
    assert (tmp_path / "train.parquet").read_bytes() == (folder / "train.parquet").read_bytes()
    assert object_store.read == {"training_set.json", "train.parquet"}
    assert object_store.credentials == {"the-key"}


@pytest.mark.parametrize("uri", ["minio://mlpipeline/elsewhere", "/no/such/folder", "hdfs2://what/is/this"])
def test_a_training_set_that_cannot_be_read_is_named_without_the_secret(
    object_store: ObjectStore, tmp_path: Path, uri: str
) -> None:
    with pytest.raises(ContractViolation, match=f"cannot read the training set at {uri}") as refusal:
        trial.fetch(told(uri, object_store.address), tmp_path)
    assert "tuning.katib.object_store" in str(refusal.value)
    assert "the-secret" not in str(refusal.value)


def test_parameters_that_the_estimator_refuses_are_the_pods_last_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"max_bins": {"type": "int", "low": 1000, "high": 2000}}
    monkeypatch.setenv(SETTINGS_VARIABLE, told(str(folder), space=space).model_dump_json())
    monkeypatch.setenv(PARAMETERS_VARIABLE, json.dumps({"max_bins": "1500"}))
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "termination-log"))
    with pytest.raises(SystemExit):
        trial.main()
    assert "max_bins" in (tmp_path / "termination-log").read_text("utf-8")


@pytest.mark.parametrize(
    ("stopping", "folds", "pauses"), [(True, 2, [trial.SECONDS_TO_STOP]), (True, 1, []), (False, 2, [])]
)
def test_a_trial_that_may_be_stopped_waits_for_it_after_the_first_of_several_folds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopping: bool, folds: int, pauses: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(trial.time, "sleep", slept.append)
    trial.run_trial(told(str(folder), stopping=stopping, folds=folds), ASSIGNED)
    assert slept == pauses
