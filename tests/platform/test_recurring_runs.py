"""A recurring run reads what has come to its source since: occurrences of one pipeline over a source that grows.

On this machine by the command line. For the clusters the pipeline is the one that is compiled for them, the same each
time, as a schedule's is, and given nothing; kfp's local runner takes the backend's place. It keeps to the pipeline's
caching options, and its keys hold a task's image, command, inputs and variables, as theirs do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import duckdb
import pytest
from conftest import Checkout
from test_kfp_runner import Observed

from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.local.kfp_runner import Session, run_pipeline
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.state_folder import state_folder

pytestmark = pytest.mark.slow

REGISTRY = "registry.example/ml"
UPLOADS = "gs://churn-pipelines/root"

PIPELINE = """
name: library
title: Idle readers
entity: {name: reader, key: reader_id}
source:
  url: duckdb:///SOURCE
  tables: {loans: {key: [loan_id], event_time: lent_at}}
label: {name: idle, title: borrows nothing for 10 days, horizon_days: 10}
features: {service: reading}
gate: {rules: [{metric: performance.roc_auc, min: 0.5}]}
deployment: {model: library}
"""

FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Int64

reader = Entity(name="reader", join_keys=["reader_id"], value_type=ValueType.INT64)
loans_so_far = FeatureView(
    name="loans_so_far",
    entities=[reader],
    schema=[Field(name="reader_id", dtype=Int64), Field(name="loans", dtype=Int64)],
    source=FileSource(path="loans_so_far.parquet", timestamp_field="event_timestamp"),
)
reading = FeatureService(name="reading", features=[loans_so_far])
"""

LABEL = "SELECT reader_id, max(lent_at) <= $snapshot AS idle FROM loans WHERE lent_at <= $horizon GROUP BY reader_id"

SCHEMA = """
feature { name: "loan_id" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "reader_id" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "lent_at" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } time_domain {} }
"""

FILES = {
    "expectations/loans.pbtxt": SCHEMA,
    "expectations/rules.yaml": "[]",
    "feature_repo/features.py": FEATURES,
    "feature_repo/loans_so_far.sql": "SELECT reader_id, count(*) AS loans FROM loans GROUP BY reader_id",
    "feature_repo/label.sql": LABEL,
}


@dataclass
class Occurrence:
    """What one run of the pipeline did."""

    cached: set[str]
    """Steps whose outputs were an earlier run's."""
    ran: set[str]
    summary: str
    """What the online store holds, as the run says."""


class Recurring(Protocol):
    """A pipeline that runs again and again, each time with the same inputs."""

    def occur(self) -> Occurrence: ...


@dataclass
class Source:
    """A library's database, which readers come to."""

    file: Path

    def grow(self, readers: int) -> None:
        """Each new reader borrows a book."""
        with duckdb.connect(str(self.file)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS loans (loan_id BIGINT, reader_id BIGINT, lent_at TIMESTAMP)")
            [(before,)] = connection.execute("SELECT count(*) FROM loans").fetchall()
            connection.execute(
                "INSERT INTO loans SELECT number, number, TIMESTAMP '2025-01-01' + number * INTERVAL 1 HOUR "
                f"FROM range({before + 1}, {before + readers + 1}) AS new(number)"
            )


@dataclass
class OnThisMachine:
    """`lifecycle run`, again and again."""

    checkout: Checkout
    project: Path

    def occur(self) -> Occurrence:
        done = self.checkout.lifecycle("run", "materialization", "--json", "--project", str(self.project))
        record = Path(json.loads(done.stdout)["report"]).parent / "events.jsonl"
        events = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
        ended = {event["step"]: event for event in events if event.get("state") in ("done", "cached")}
        return Occurrence(
            cached={step for step, event in ended.items() if event["state"] == "cached"},
            ran={step for step, event in ended.items() if event["state"] == "done"},
            summary=ended["materialize-features"]["artifacts"]["store"]["metadata"]["summary"],
        )


@dataclass
class OnACluster:
    """One compiled pipeline under kfp's local runner, with what a cluster would bring: images, objects, a volume."""

    target: TargetName
    project: Path
    folder: Path
    compiled: Path = field(init=False)

    def __post_init__(self) -> None:
        self.compiled = self.folder / "materialization.yaml"
        store = self.folder / "volume"
        locations = {
            "tracking_uri": f"sqlite:///{store}/mlflow.db",
            "dataset_remote": f"{store}/datasets",
            "online_store": f"{store}/online.db",
            "prediction_log": f"{store}/predictions",
            "serving": "vertex:a-project/europe-west4",
            "upload_root": UPLOADS,
        }
        store.mkdir(parents=True)
        written = "".join(f", {key}: {value}" for key, value in locations.items())
        override = f"targets.{self.target}={{{written.removeprefix(', ')}}}"
        pipeline = compile_pipeline(
            "materialization",
            self.target,
            self.project,
            self.compiled,
            overrides=[override],
            image_registry=REGISTRY,
        )
        for upload in pipeline.uploads:
            upload.write(self.folder / "objects", UPLOADS)
        text = self.compiled.read_text("utf-8").replace(UPLOADS, str(self.folder / "objects"))
        image = re.compile(rf"{re.escape(REGISTRY)}/kfp-lifecycle-(\w+):\S+")
        self.compiled.write_text(image.sub(lambda found: f"python-{found[1]}:{lock_digest(found[1])}", text), "utf-8")

    def occur(self) -> Occurrence:
        observed = Observed()
        for name in ("logs", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        number = len(list(self.folder.glob("artifacts-*")))
        run_pipeline(
            self.compiled,
            {},
            # The library is in the images.
            session=Session(
                observed,
                self.folder / "logs",
                self.folder / "scratch",
                state_folder() / "code",
                {"PYTHONPATH": str(ROOT / "src")},
            ),
            artifacts=self.folder / f"artifacts-{number}",
            cache_root=self.folder / "cache",
            kfp_log=self.folder / "logs" / "kfp.log",
        )
        assert [told for told in observed.told if told[1].startswith("failed")] == []
        return Occurrence(
            cached={step for step, told in observed.told if told == "cached"},
            ran={step for step, told in observed.told if told == "done"},
            summary=observed.outputs["materialize-features"].artifacts["store"][1]["summary"],
        )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    source = Source(tmp_path / "library.duckdb")
    source.grow(40)
    return source


@pytest.fixture
def project(tmp_path: Path, source: Source) -> Path:
    folder = tmp_path / "library"
    for name, text in {**FILES, "pipeline.yaml": PIPELINE.replace("SOURCE", str(source.file))}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(params=["local", "kubeflow", "vertex"])
def recurring(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recurring:
    if request.param == "local":
        return OnThisMachine(request.getfixturevalue("checkout"), project)
    # Steps are processes of this machine here, whose folders stay.
    monkeypatch.setattr("kfp_lifecycle.compilation.pipeline.refuse_lost", lambda target: None)
    return OnACluster(request.param, project, tmp_path / "cluster")


def test_the_second_occurrence_reads_what_has_come_and_the_third_takes_over_what_has_not_changed(
    recurring: Recurring, source: Source
) -> None:
    data = {"ingest-data", "version-dataset", "validate-data"}
    first = recurring.occur()
    assert (first.cached, first.summary) == (set(), "40 entities, 1 views")

    source.grow(20)
    second = recurring.occur()
    assert second.summary == "60 entities, 1 views", "what was there before, and what has come"
    assert data <= second.ran

    third = recurring.occur()
    assert third.summary == "60 entities, 1 views"
    assert data <= third.cached
    assert {"fingerprint-source", "materialize-features"} <= third.ran
