"""Runs and schedules on a Kubeflow, by the backend that `lifecycle … --target kubeflow` uses."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import kfp
import pytest
from kfp import compiler, components
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from small_pipeline import allow, ended, judged, submission

from kfp_lifecycle.backends import schedules
from kfp_lifecycle.backends.backend import BackendError, NotThere, PlannedSchedule
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.kubeflow.credentials import TOKEN_VARIABLE
from kfp_lifecycle.backends.kubeflow.workflow_nodes import progress_of
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState, State
from tests.control_planes.kubeflow import Fault, KubeflowStandIn, Settings, User

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
SEEN = Path(__file__).parent / "kubeflow" / "materialization_cached.json"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeflowStandIn]:
    with KubeflowStandIn(tmp_path / "kubeflow") as running:
        yield running


def target_at(url: str, **keys: str) -> KubeflowBackend:
    overrides = [f"targets.kubeflow.{key}={value}" for key, value in {"endpoint": url, **keys}.items()]
    target = load_configuration(ROOT, overrides).targets.kubeflow
    assert target is not None
    return KubeflowBackend(target, "shop")


@pytest.fixture
def backend(server: KubeflowStandIn) -> KubeflowBackend:
    return target_at(server.url)


class TestSubmit:
    def test_a_run_has_a_link_into_the_dashboard(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference)))
        assert run.summary.link.endswith(f"/#/runs/details/{run.summary.id}")

    def test_who_claims_a_run_and_makes_none_is_not_waited_for_for_ever(
        self, backend: KubeflowBackend, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kfp_lifecycle.backends.kubeflow.backend.CLAIM_PATIENCE", 0.5)
        wanted = replace(submission(compiled, reference, "small-of-data-1"), once=True)
        interrupted = backend._named.claim("shop-small", wanted.name, compiled, "interrupted")
        run = backend.submit(wanted)
        assert [each.id for each in backend.runs(10)] == [run]
        # Nor can it make one any more, should it come to itself.
        with pytest.raises(BackendError, match=r"PipelineVersion .* not found"):
            backend._create(wanted, backend._named.experiment(), interrupted.pipeline_id, interrupted.version_id)

    def test_pipeline_and_version_are_made_once(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        for name in ("small-1", "small-2"):
            backend.submit(submission(compiled, reference, name))
        uploads = [line for line in server.requests if "upload" in line]
        assert len([line for line in uploads if "upload_version" not in line]) == 1
        assert len([line for line in uploads if "upload_version" in line]) == 1

    @pytest.mark.parametrize("path", ["/pipelines/upload$", "/pipelines/upload_version$"])
    def test_a_connection_cut_after_a_name_was_taken_finds_what_has_it(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path, path: str
    ) -> None:
        server.order(Fault(method="POST", path=path, cut=True))
        run = backend.submit(submission(compiled, reference))
        assert ended(backend, run).summary.pipeline == "small"


class TestRuns:
    def test_a_log_is_read_while_its_step_runs_and_afterwards(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference))).summary.id
        assert "Done: 3 rows" in list(backend.log(run, "count"))

    def test_a_failed_step_whose_log_is_gone_is_said_to_be_that(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = backend.submit(submission(compiled, reference, rows=11))
        server.order(Fault(method="GET", path="/log", status=500, times=1000))
        assert ended(backend, run).reason == "its log is gone with its pod"

    def test_a_failed_run_goes_on_from_the_step_that_failed(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11))).summary.id
        allow(reference, "20")
        assert backend.resume(run) == run
        time.sleep(0.5)
        assert ended(backend, run).summary.state is RunState.done
        with pytest.raises(BackendError, match="nothing to resume"):
            backend.resume(run)

    def test_a_run_that_is_deleted_while_it_is_watched_is_told_to_be_gone(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        """On Vertex AI none can be deleted before it has ended."""
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference))
        threading.Timer(1.0, backend.api.ask, ("delete it", lambda client: client.delete_run(run))).start()
        with pytest.raises(NotThere, match="does not have it"):
            ended(backend, run)

    def test_a_run_whose_pipeline_was_deleted_is_listed_still(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference))).summary.id

        def delete(client: kfp.Client) -> None:
            pipeline = client.get_pipeline_id("shop-small")
            for version in client.list_pipeline_versions(pipeline).pipeline_versions:
                client.delete_pipeline_version(pipeline, version.pipeline_version_id)
            client.delete_pipeline(pipeline)

        backend.api.ask("delete the pipeline", delete)
        (listed,) = target_at(backend._target.endpoint).runs(10)
        assert (listed.id, listed.pipeline, listed.state) == (run, "", RunState.done)

    def test_a_rejected_candidate_is_listed_as_that(
        self, backend: KubeflowBackend, tmp_path: Path, reference: Path
    ) -> None:
        """Kubeflow calls both succeeded: which step was not come to tells them apart."""
        file = tmp_path / "judged.yaml"
        compiler.Compiler().compile(judged, str(file))
        for name, rows in (("small-1", 3), ("small-2", 5)):
            ended(backend, backend.submit(submission(file, reference, name, rows=rows)))
        listed = {run.name: run.state for run in backend.runs(10)}
        assert listed == {"small-1": RunState.rejected, "small-2": RunState.done}


class TestWhoAsks:
    @pytest.fixture
    def teams(self, tmp_path: Path) -> Iterator[KubeflowStandIn]:
        users = {"good": User("ada@example.com", frozenset({"team"}))}
        with KubeflowStandIn(tmp_path / "kubeflow", settings=Settings(users=users)) as running:
            yield running

    def test_a_token_that_is_not_known_is_told_with_what_to_do(
        self, teams: KubeflowStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "stale")
        with pytest.raises(BackendError, match=rf"\(401\): log in, .*{TOKEN_VARIABLE}"):
            target_at(teams.url, namespace="team").runs(1)

    def test_a_namespace_of_others_is_told_with_the_role_to_ask_for(
        self, teams: KubeflowStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "good")
        with pytest.raises(BackendError, match=r"may not .* in namespace others \(403\)"):
            target_at(teams.url, namespace="others").runs(1)

    def test_a_token_that_was_renewed_is_read_again(
        self, teams: KubeflowStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "good")
        backend = target_at(teams.url, namespace="team")
        assert backend.runs(1) == []
        teams.order(Fault(method="GET", path="/runs", status=401))
        assert backend.runs(1) == []

    def test_a_namespace_s_own_pipeline_is_found_again(
        self, teams: KubeflowStandIn, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "good")
        backend = target_at(teams.url, namespace="team")
        for name in ("small-1", "small-2"):
            backend.submit(submission(compiled, reference, name))
        assert {run.pipeline for run in backend.runs(10)} == {"small"}
        assert len([line for line in teams.requests if line.startswith("POST") and line.endswith("/upload")]) == 1

    def test_a_server_that_is_slow_is_waited_for(self, server: KubeflowStandIn, backend: KubeflowBackend) -> None:
        server.order(Fault(path="/runs$", delay=0.3))
        assert backend.runs(1) == []

    def test_no_address_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        target = load_configuration(ROOT).targets.kubeflow
        assert target is not None
        with pytest.raises(BackendError, match=r"set targets\.kubeflow\.endpoint"):
            KubeflowBackend(target, "shop").runs(1)


class TestSchedules:
    def test_seconds_come_first(self, backend: KubeflowBackend, compiled: Path, reference: Path) -> None:
        hourly = Schedule(cron="0 * * * *", parameters={"reference": str(reference)})
        schedules.apply(backend, [PlannedSchedule("shop-small", "small", hourly, compiled, "0123456789abcdef")])
        assert [made.cron for made in backend.schedules()] == ["0 0 * * * *"]

    def test_another_zone_is_refused_with_what_to_write(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        berlin = Schedule(cron="0 6 * * *", zone="Europe/Berlin")
        with pytest.raises(BackendError, match=r"schedules\.small\.zone is Europe/Berlin"):
            schedules.apply(backend, [PlannedSchedule("shop-small", "small", berlin, compiled, "0123456789abcdef")])


@pytest.fixture(scope="module")
def materialization(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    file = tmp_path_factory.mktemp("compiled") / "materialization.yaml"
    compile_pipeline("materialization", "kubeflow", ROOT, file)
    return components.load_component_from_file(str(file)).pipeline_spec


def nodes_seen() -> list[SimpleNamespace]:
    """What Kubeflow Pipelines 2.17.0 told of a run of `materialization` that took three steps from its cache."""
    return [
        SimpleNamespace(
            display_name=node.get("display_name"),
            state=node.get("state"),
            start_time=datetime.fromisoformat(node["start_time"]).astimezone(UTC),
            end_time=datetime.fromisoformat(node["end_time"]).astimezone(UTC),
            child_tasks=[SimpleNamespace(**child) for child in node.get("child_tasks", [])],
        )
        for node in json.loads(SEEN.read_text("utf-8"))["task_details"]
    ]


def test_a_step_whose_node_s_clock_was_set_back_took_no_time_rather_than_less(materialization: PipelineSpec) -> None:
    nodes = nodes_seen()
    (node,) = (node for node in nodes if node.display_name == "materialize-features")
    node.end_time = node.start_time - timedelta(hours=1)
    assert progress_of(nodes, materialization, ended=True).steps["materialize-features"].seconds == 0


def test_steps_are_found_in_what_a_real_kubeflow_told_of_a_run(materialization: PipelineSpec) -> None:
    steps = progress_of(nodes_seen(), materialization, ended=True).steps
    assert {name: step.state for name, step in steps.items()} == {
        "fingerprint-source": State.done,
        "ingest-data": State.cached,
        "version-dataset": State.cached,
        "validate-data": State.cached,
        "materialize-features": State.done,
        "write-report": State.done,
        "notify": State.done,
    }
    assert steps["materialize-features"].log.startswith("materialization-wrvj4-system-container-impl-")
