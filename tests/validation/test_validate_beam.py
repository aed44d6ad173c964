"""TFDV's statistics by Apache Beam: the same figures, by whatever runner the configuration names."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options import pipeline_options as beams
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from datasets import write_dataset
from google.cloud import storage
from shop import GOOD_ORDERS, ORDERS, make_project, validate

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.components.data.validate_data.beam_statistics import beam_statistics, new_pipeline
from kfp_lifecycle.components.data.validate_data.schema_review import as_text, propose_schemas
from kfp_lifecycle.config.beam import ANY_RUNNER, OPTIONS, Beam
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.data.checks import failures
from kfp_lifecycle.data.table_statistics import Selection, table_statistics
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.ports import free_ports
from tests.dataflow_service import Dataflow, dataflow

RATED = f"SELECT *, if(order_id % 5 = 0, NULL, 1 + order_id % 3) AS stars FROM ({GOOD_ORDERS})"
DATAFLOW = {
    "project": "shop-project",
    "region": "europe-west4",
    "temp_location": "gs://shop-beam/temp",
    "sdk_container_image": "registry.example/tfdv:1",
}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "tables", orders=RATED)


def selections(folder: Path) -> list[Selection]:
    """All rows, and some, of which a number is taken for text."""
    columns = Manifest.read(folder).tables["orders"].columns
    return [
        Selection("orders", columns),
        Selection("orders", columns | {"stars": "VARCHAR"}, "order_id >= 900"),
    ]


def assert_the_same_as_in_the_step(folder: Path, beam: Beam) -> None:
    chosen = selections(folder)
    with tables_database(folder, ["orders"]) as connection:
        here = [table_statistics(connection, folder, selection, 1000) for selection in chosen]
    assert [each.datasets[0].num_examples for each in here] == [1000, 100]
    assert beam_statistics(folder, chosen, beam) == here


@pytest.mark.slow
def test_beam_gives_the_statistics_that_the_step_gives(orders: Path) -> None:
    assert_the_same_as_in_the_step(orders, Beam())


@pytest.mark.slow
def test_options_reach_the_runner_which_starts_workers_of_its_own(
    orders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"direct_num_workers": 2, "direct_running_mode": "multi_processing"}
    with caplog.at_level("INFO"):
        assert_the_same_as_in_the_step(orders, Beam(options=options))
    started = [record.message for record in caplog.records if "sdk_worker_main" in record.getMessage()]
    assert len(started) >= 2


@pytest.mark.slow
def test_rows_that_no_condition_meets_have_no_statistics(orders: Path) -> None:
    columns = Manifest.read(orders).tables["orders"].columns
    (none,) = beam_statistics(orders, [Selection("orders", columns, "order_id < 0")], Beam())
    assert none.datasets[0].num_examples == 0


def shop_project(folder: Path, **validation: object) -> Path:
    project = make_project(
        folder / "shop", f"duckdb:///{folder}/shop.duckdb", {"orders": {**ORDERS, "arrival_time": "recorded_at"}}
    )
    file = project / "pipeline.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "validation": validation}))
    return project


@pytest.mark.slow
def test_a_table_is_validated_by_beam_in_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    project = shop_project(tmp_path, sample_rows=1000, beam={"runner": "DirectRunner"})
    (project / "expectations").mkdir()
    (project / "expectations" / "rules.yaml").write_text("[]")
    many = GOOD_ORDERS.replace("range(1000)", "range(3000)")
    tables = write_dataset(tmp_path / "tables", orders=many)
    (schema,) = propose_schemas(tables).values()
    (project / "expectations" / "orders.pbtxt").write_text(as_text(schema))

    def checks(query: str) -> list[str]:
        write_dataset(tables, orders=query)
        found = validate(project, tables, tmp_path / "validated", tmp_path / "report.html").checks
        return [check.subject for check in failures(found, "warning")]

    assert checks(many) == []
    assert "at a sample of" not in (tmp_path / "report.html").read_text()
    assert checks(f"SELECT * REPLACE (amount * 3 AS amount) FROM ({many})") == ["orders.amount", "orders.amount"]
    assert list((tmp_path / "temporary").iterdir()) == [], "what Beam and the step left is removed"


@pytest.mark.parametrize(
    ("beam", "words"),
    [
        ({"runner": "SparkRunner"}, "DirectRunner"),
        ({"options": {"direct_num_worker": 2}}, "DirectRunner has no option direct_num_worker. Did you mean direct_nu"),
        ({"options": {"max_num_workers": 2}}, "DirectRunner has no option max_num_workers. It takes direct_num_work"),
        ({"runner": "DataflowRunner", "options": DATAFLOW | {"region": ""}}, "needs region (where its workers are)"),
        ({"runner": "DataflowRunner"}, "needs project (whose quota and bill it is), region"),
        ({"runner": "DataflowRunner", "options": DATAFLOW | {"temp_location": "/tmp"}}, "must be in a bucket"),
        ({"runner": "FlinkRunner", "options": {"flink_master": "flink:8081"}}, "environment_type (how its workers"),
        (
            {
                "runner": "FlinkRunner",
                "options": {"flink_master": "[auto]", "environment_type": "DOCKER", "temp_location": "/mnt/shared"},
            },
            "must be a cluster, HOST:PORT",
        ),
        (
            {
                "runner": "FlinkRunner",
                "options": {
                    "flink_master": "flink:8081",
                    "environment_type": "DOCKER",
                    "temp_location": "s3://shop/temp",
                },
            },
            "or gs://BUCKET/FOLDER, not s3://shop/temp",
        ),
        ({"runner": "PortableRunner"}, "needs job_endpoint (the job server, HOST:PORT)"),
        (
            {"runner": "PortableRunner", "options": {"job_endpoint": "jobs:8099", "environment_type": "DOCKER"}},
            "temp_location (a folder that the step and the workers reach)",
        ),
        ({"options": {"azure_connection_string": "AccountKey=hunter2"}}, "has no option azure_connection_string"),
    ],
)
def test_a_runner_without_what_it_needs_is_refused_when_the_configuration_is_read(
    tmp_path: Path, beam: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(shop_project(tmp_path, beam=beam))
    assert words in str(refused.value)
    assert "validation.beam" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_every_option_is_one_of_beams() -> None:
    parser = beams._BeamArgumentParser(allow_abbrev=False)
    for known in beams.PipelineOptions.__subclasses__():
        known._add_argparse_args(parser)
    flags = {flag.removeprefix("--") for action in parser._actions for flag in action.option_strings}
    assert {name for names in [*OPTIONS.values(), ANY_RUNNER] for name in names} - flags == set()


@dataclass
class Google:
    """Stand-ins for Dataflow and a bucket, which Google's own clients speak to."""

    service: Dataflow
    bucket: str

    def beam(self, **options: Any) -> Beam:
        places = {"temp_location": f"gs://{self.bucket}/temp", "staging_location": f"gs://{self.bucket}/staging"}
        return Beam.model_validate({"runner": "DataflowRunner", "options": {**DATAFLOW, **places, **options}})


@pytest.fixture(scope="module")
def google(gs: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """For all tests, since Beam asks for credentials once."""
    with dataflow() as service, pytest.MonkeyPatch.context() as monkeypatch:
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {"type": "service_account", "client_email": "beam@shop-project", "private_key": key.decode()}
        credentials = tmp_path_factory.mktemp("google") / "account.json"
        credentials.write_text(json.dumps(account | {"token_uri": f"{service.url}token"}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs)
        storage.Client(project="shop-project").create_bucket("shop-beam")
        yield Google(service, "shop-beam")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_num_workers": "many"}, "max_num_workers: invalid int value: 'many'"),
        ({"num_workers": 5, "max_num_workers": 2}, "num_workers (5) cannot exceed max_num_workers (2)"),
        ({"project": "My Project"}, "Invalid Project ID (My Project)"),
    ],
)
def test_what_beam_itself_refuses_is_told_before_anything_is_computed(
    google: Google, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ContractViolation) as violation:
        new_pipeline(google.beam(**options))
    assert words in str(violation.value)
    assert "Correct it there" in str(violation.value)


@pytest.mark.slow
def test_dataflow_gets_a_job_with_the_options_and_gives_the_same_statistics(orders: Path, google: Google) -> None:
    options = {"max_num_workers": 20, "network": "shop-net", "labels": ["team=shop"]}
    assert_the_same_as_in_the_step(orders, google.beam(dataflow_endpoint=google.service.url, **options))
    left = storage.Client(project="shop-project").list_blobs(google.bucket, prefix="temp/statistics-")
    assert [blob.name for blob in left] == [], "what the step and the workers shared is removed"
    job = google.service.jobs[-1]
    (pool,) = job["environment"]["workerPools"]
    assert pool["network"] == "shop-net"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == ["registry.example/tfdv:1"]
    assert job["labels"]["team"] == "shop"
    assert google.service.options["region"] == "europe-west4"


@pytest.mark.slow
def test_a_job_that_fails_stops_the_run_with_its_reason(
    orders: Path, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google.service, "refusal", "Quota exceeded: CPUS in europe-west4")
    with pytest.raises(ContractViolation) as found:
        beam_statistics(orders, selections(orders)[:1], google.beam(dataflow_endpoint=google.service.url))
    assert "could not be computed by DataflowRunner" in str(found.value)
    assert "Quota exceeded: CPUS in europe-west4" in str(found.value)
    assert "leave it out to compute them in the step" in str(found.value)


@contextlib.contextmanager
def beam_process(module: str, *arguments: str) -> Iterator[None]:
    """A server of Beam's in a process of its own that finds libraries, and nothing of this repository."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # A pool starts its workers as `python`.
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    command = [sys.executable, "-m", f"apache_beam.runners.{module}", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", env=variables) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.slow
def test_a_job_server_and_its_workers_need_nothing_of_ours(orders: Path) -> None:
    """By the protocols that Flink's and Spark's job servers speak, and their workers beside a pod."""
    jobs, pool = free_ports(2)
    shared = orders.parent / "shared"
    options = {
        "environment_type": "EXTERNAL",
        "environment_config": f"localhost:{pool}",
        "temp_location": str(shared),
    }
    with (
        beam_process("portability.local_job_service_main", "-p", str(jobs)),
        beam_process("worker.worker_pool_main", "--service_port", str(pool)),
    ):
        assert_the_same_as_in_the_step(orders, on_job_server(jobs, **options))
    assert list(shared.iterdir()) == [], "what the step and the workers shared is removed"


@pytest.mark.slow
def test_a_job_server_that_is_not_there_stops_the_run(orders: Path) -> None:
    with pytest.raises(ContractViolation) as found:
        beam_statistics(orders, selections(orders)[:1], on_job_server(*free_ports(1), job_server_timeout=1))
    assert "could not be computed by PortableRunner" in str(found.value)


def on_job_server(port: int, **options: Any) -> Beam:
    options = {"job_endpoint": f"localhost:{port}", "environment_type": "LOOPBACK", **options}
    return Beam.model_validate({"runner": "PortableRunner", "options": options})
