"""Runs and schedules on a Kubeflow, by the backend that `lifecycle … --target kubeflow` uses."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp import components
from small_pipeline import allow, ended, submission

from kfp_lifecycle.backends import schedules
from kfp_lifecycle.backends.backend import BackendError, NotThere, PlannedSchedule, Unreachable
from kfp_lifecycle.backends.kubeflow.api import TOKEN_VARIABLE
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.kubeflow.workflow_nodes import progress_of
from kfp_lifecycle.backends.schedules import Change
from kfp_lifecycle.backends.watching import watch
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
    def test_a_run_is_shown_with_its_steps_and_their_key_figures(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference)))
        steps = run.progress.steps
        assert run.summary.state is RunState.done
        assert {name: step.state for name, step in steps.items()} == {
            "count": State.done,
            "check": State.done,
            "register": State.skipped,
            "tell": State.done,
        }
        assert steps["count"].summary == "3 rows"
        assert run.summary.link.endswith(f"/#/runs/details/{run.summary.id}")

    def test_what_the_cache_has_is_shown_to_be_from_there(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        ended(backend, backend.submit(submission(compiled, reference)))
        again = ended(backend, backend.submit(submission(compiled, reference, "small-2")))
        assert again.progress.steps["count"].state is State.cached
        assert again.progress.steps["check"].state is State.done

    def test_a_failed_run_says_which_step_and_why_in_the_steps_own_words(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11)))
        assert (run.summary.state, run.failed_step) == (RunState.failed, "check")
        assert run.reason == "The table users has 11 rows.\nLoad fewer."

    def test_a_connection_cut_after_the_run_was_made_makes_no_second_one(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        server.order(Fault(method="POST", path="/runs$", cut=True))
        run = backend.submit(submission(compiled, reference))
        assert [each.id for each in backend.runs(10)] == [run]

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_server_that_does_not_answer_for_a_moment_is_asked_again(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path, status: int
    ) -> None:
        server.order(Fault(method="GET", path="/pipelines", status=status, times=2))
        server.order(Fault(method="POST", path="/runs$", status=status))
        run = backend.submit(submission(compiled, reference))
        assert [each.id for each in backend.runs(10)] == [run]

    def test_pipeline_and_version_are_made_once(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        for name in ("small-1", "small-2"):
            backend.submit(submission(compiled, reference, name))
        uploads = [line for line in server.requests if "upload" in line]
        assert len([line for line in uploads if "upload_version" not in line]) == 1
        assert len([line for line in uploads if "upload_version" in line]) == 1

    def test_a_parameter_that_the_pipeline_does_not_have_is_refused_in_the_servers_words(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        with pytest.raises(BackendError, match="unknown"):
            backend.submit(submission(compiled, reference, unknown="x"))


class TestRuns:
    def test_runs_are_listed_newest_first(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        made = []
        for number in range(3):
            made.append(backend.submit(submission(compiled, reference, f"small-{number}")))
            # Kubeflow knows no fractions of a second.
            server.clock.advance(seconds=1)
        assert [run.id for run in backend.runs(2)] == made[:0:-1]

    def test_a_log_is_read_while_its_step_runs_and_afterwards(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference))).summary.id
        assert "Done: 3 rows" in list(backend.log(run, "count"))
        with pytest.raises(NotThere, match="no step nothing; it has"):
            backend.log(run, "nothing")
        with pytest.raises(NotThere, match="has no log: it is skipped"):
            backend.log(run, "register")

    def test_a_failed_step_whose_log_is_gone_is_said_to_be_that(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        run = backend.submit(submission(compiled, reference, rows=11))
        server.order(Fault(method="GET", path="/log", status=500, times=1000))
        assert ended(backend, run).reason == "its log is gone with its pod"

    def test_a_cancelled_run_was_stopped_and_did_not_fail(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference))
        while backend.status(run).progress.steps["check"].state is not State.running:
            time.sleep(0.1)
        backend.cancel(run)
        assert ended(backend, run).summary.state is RunState.interrupted
        backend.cancel(run)

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

    def test_a_run_that_is_not_there_is_said_to_be_not_there(self, backend: KubeflowBackend) -> None:
        for ask in (backend.status, backend.cancel, backend.resume):
            with pytest.raises(NotThere, match="does not have it"):
                ask("8a3c1a0e-0000-0000-0000-000000000000")

    def test_watching_survives_a_server_that_is_away(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference))
        said: list[str] = []
        away = threading.Thread(target=server.restart, kwargs={"away": 1.0})
        away.start()
        away.join()
        allow(reference, "10")
        status = watch(backend, run, lambda now: None, said.append, pause=0.1)
        assert status.summary.state is RunState.done


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

    def test_an_address_where_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kfp_lifecycle.backends.asking.PATIENCE", 0.2)
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer"):
            target_at("http://127.0.0.1:9").runs(1)

    def test_no_address_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        target = load_configuration(ROOT).targets.kubeflow
        assert target is not None
        with pytest.raises(BackendError, match=r"set targets\.kubeflow\.endpoint"):
            KubeflowBackend(target, "shop").runs(1)


class TestSchedules:
    def planned(self, compiled: Path, reference: Path, digest: str = "0123456789abcdef") -> PlannedSchedule:
        schedule = Schedule(cron="0 * * * *", parameters={"reference": str(reference)})
        return PlannedSchedule("shop-small", "small", schedule, compiled, digest)

    def changes(self, backend: KubeflowBackend, planned: list[PlannedSchedule]) -> list[Change]:
        return [item.change for item in schedules.apply(backend, planned)]

    def test_applying_again_changes_nothing(self, backend: KubeflowBackend, compiled: Path, reference: Path) -> None:
        wanted = [self.planned(compiled, reference)]
        assert self.changes(backend, wanted) == [Change.created]
        (made,) = backend.schedules()
        assert (made.name, made.cron, made.enabled) == ("shop-small", "0 0 * * * *", True)
        assert self.changes(backend, wanted) == [Change.left]
        assert backend.schedules() == [made]

    def test_one_that_differs_is_replaced_and_one_that_is_not_wanted_removed(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        schedules.apply(backend, [self.planned(compiled, reference)])
        assert self.changes(backend, [self.planned(compiled, reference, "fedcba9876543210")]) == [Change.replaced]
        assert [item.digest for item in backend.schedules()] == ["fedcba9876543210"]
        assert self.changes(backend, []) == [Change.removed]
        assert backend.schedules() == []

    def test_what_a_person_paused_stays_paused(self, backend: KubeflowBackend, compiled: Path, reference: Path) -> None:
        schedules.apply(backend, [self.planned(compiled, reference)])
        backend.pause_schedule(backend.schedules()[0].id)
        (left,) = schedules.apply(backend, [self.planned(compiled, reference)])
        assert (left.change, left.paused) == (Change.left, True)
        schedules.apply(backend, [self.planned(compiled, reference, "fedcba9876543210")])
        assert [item.enabled for item in backend.schedules()] == [False]

    def test_a_run_of_a_replaced_schedule_goes_on(
        self, server: KubeflowStandIn, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        schedules.apply(backend, [self.planned(compiled, reference)])
        server.clock.advance(hours=1)
        (run,) = backend.runs(10)
        assert run.schedule == backend.schedules()[0].id
        changed = [self.planned(compiled, reference, "fedcba9876543210")]
        assert self.changes(backend, changed) == [Change.replaced, Change.retired]
        allow(reference, "10")
        assert ended(backend, run.id).summary.state is RunState.done
        assert self.changes(backend, changed) == [Change.left, Change.removed]
        assert len(backend.schedules()) == 1

    def test_another_zone_is_refused_with_what_to_write(
        self, backend: KubeflowBackend, compiled: Path, reference: Path
    ) -> None:
        berlin = Schedule(cron="0 6 * * *", zone="Europe/Berlin")
        with pytest.raises(BackendError, match=r"schedules\.small\.zone is Europe/Berlin"):
            schedules.apply(backend, [PlannedSchedule("shop-small", "small", berlin, compiled, "0123456789abcdef")])


def test_steps_are_found_in_what_a_real_kubeflow_told_of_a_run(tmp_path: Path) -> None:
    """Kubeflow Pipelines 2.17.0 told this of a run of `materialization` that took three steps from its cache."""
    told = json.loads(SEEN.read_text("utf-8"))
    nodes = [
        SimpleNamespace(
            display_name=node.get("display_name"),
            state=node.get("state"),
            start_time=datetime.fromisoformat(node["start_time"]).astimezone(UTC),
            end_time=datetime.fromisoformat(node["end_time"]).astimezone(UTC),
            child_tasks=[SimpleNamespace(**child) for child in node.get("child_tasks", [])],
        )
        for node in told["task_details"]
    ]
    file = tmp_path / "materialization.yaml"
    compile_pipeline("materialization", "kubeflow", ROOT, file)
    specification = components.load_component_from_file(str(file)).pipeline_spec
    steps = progress_of(nodes, specification, ended=True).steps
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
