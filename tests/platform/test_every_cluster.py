"""What every cluster's backend promises, held against the stand-in of each control plane."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_pipeline import allow, ended, submission, wait_until_running

from kfp_lifecycle.backends import schedules
from kfp_lifecycle.backends.backend import (
    BackendError,
    ClusterBackend,
    PlannedSchedule,
    RunStatus,
    Unreachable,
)
from kfp_lifecycle.backends.backfill import Backfilled, Occurrence, Result, backfill, occurrences
from kfp_lifecycle.backends.schedules import Change
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState
from tests.control_planes.kubeflow import Fault, KubeflowStandIn
from tests.control_planes.stand_in import StandIn
from tests.control_planes.vertex import VertexStandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@dataclass(frozen=True)
class Cluster:
    """A control plane, and the backend of a project that speaks to it."""

    target: TargetName
    server: StandIn
    backend: ClusterBackend
    runs: str
    """Where its API has runs."""
    pipelines: str
    """Where it is asked before a run is made."""
    settings: tuple[str, ...]

    def backend_of(self, project: str) -> ClusterBackend:
        return backend_of(load_configuration(ROOT, [*self.settings, f"name={project}"]), self.target)


@pytest.fixture(params=["kubeflow", "vertex"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    target: TargetName = request.param
    kind: type[StandIn] = {"kubeflow": KubeflowStandIn, "vertex": VertexStandIn}[target]
    with kind(tmp_path / target) as server:
        settings = ("name=shop", f"targets.{target}.endpoint={server.url}")
        backend = backend_of(load_configuration(ROOT, settings), target)
        runs = {"kubeflow": "/runs$", "vertex": "/pipelineJobs$"}[target]
        yield Cluster(target, server, backend, runs, {"kubeflow": "/pipelines", "vertex": runs}[target], settings)


@pytest.fixture
def backend(cluster: Cluster) -> ClusterBackend:
    return cluster.backend


class TestSubmit:
    def test_a_failed_run_says_which_step_and_why_in_the_steps_own_words(
        self, backend: ClusterBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11)))
        assert (run.summary.state, run.failed_step) == (RunState.failed, "check")
        assert run.reason == "The table users has 11 rows.\nLoad fewer."

    def test_a_connection_cut_after_the_run_was_made_makes_no_second_one(
        self, cluster: Cluster, compiled: Path, reference: Path
    ) -> None:
        cluster.server.order(Fault(method="POST", path=cluster.runs, cut=True))
        run = cluster.backend.submit(submission(compiled, reference))
        assert [each.id for each in cluster.backend.runs(10)] == [run]

    def test_two_that_send_the_same_at_the_same_moment_get_one_run(
        self, cluster: Cluster, compiled: Path, reference: Path
    ) -> None:
        wanted = replace(submission(compiled, reference, "small-of-data-1"), once=True)
        backends = [cluster.backend_of("shop") for _ in range(3)]
        # Each has looked for the run before any of them makes it.
        cluster.server.order(Fault(method="POST", path=cluster.runs, delay=1.0, times=3))
        with ThreadPoolExecutor() as pool:
            runs = set(pool.map(lambda backend: backend.submit(wanted), backends))
        assert [each.id for each in cluster.backend.runs(10)] == list(runs)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_server_that_does_not_answer_for_a_moment_is_asked_again(
        self, cluster: Cluster, compiled: Path, reference: Path, status: int
    ) -> None:
        cluster.server.order(Fault(path=cluster.pipelines, status=status, times=2))
        run = cluster.backend.submit(submission(compiled, reference))
        cluster.server.order(Fault(method="GET", path=cluster.runs, status=status))
        assert [each.id for each in cluster.backend.runs(10)] == [run]

    def test_a_parameter_that_the_pipeline_does_not_have_is_refused_in_the_servers_words(
        self, backend: ClusterBackend, compiled: Path, reference: Path
    ) -> None:
        with pytest.raises(BackendError, match="unknown"):
            backend.submit(submission(compiled, reference, unknown="x"))


class TestRuns:
    def test_runs_of_another_project_are_not_among_those_of_this(
        self, cluster: Cluster, compiled: Path, reference: Path
    ) -> None:
        made = []
        for number in range(3):
            made.append(cluster.backend.submit(submission(compiled, reference, f"small-{number}")))
            # Kubeflow knows no fractions of a second.
            cluster.server.clock.advance(seconds=1)
        assert [run.id for run in cluster.backend.runs(2)] == made[:0:-1]
        assert cluster.backend_of("another").runs(10) == []

    def test_a_cancelled_run_was_stopped_and_did_not_fail(
        self, backend: ClusterBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference))
        wait_until_running(backend, run, "check")
        backend.cancel(run)
        status = ended(backend, run)
        assert (status.summary.state, status.reason) == (RunState.interrupted, "it was cancelled")
        backend.cancel(run)

    def test_watching_survives_a_server_that_is_away(self, cluster: Cluster, compiled: Path, reference: Path) -> None:
        allow(reference, "wait")
        run = cluster.backend.submit(submission(compiled, reference))
        away = threading.Thread(target=cluster.server.restart, kwargs={"away": 1.0})
        away.start()
        said: list[str] = []
        threading.Timer(1.5, allow, (reference, "10")).start()
        status = watch(cluster.backend, run, lambda now: None, said.append, pause=0.1)
        away.join()
        assert status.summary.state is RunState.done

    def test_a_server_that_takes_a_connection_and_says_nothing_is_not_waited_for_for_ever(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert cluster.backend.runs(1) == []
        monkeypatch.setattr("kfp_lifecycle.runtime.asking.PATIENCE", 0.2)
        patience = {"kubeflow": (1, 0.5), "vertex": 0.5}[cluster.target]
        monkeypatch.setattr(f"kfp_lifecycle.backends.{cluster.target}.api.TIMEOUT", patience)
        cluster.server.order(Fault(path=cluster.runs, delay=3, times=10))
        with pytest.raises(Unreachable, match=r"does not answer.*: .*[Tt]imed out"):
            cluster.backend.runs(1)

    def test_an_address_where_nobody_answers(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kfp_lifecycle.runtime.asking.PATIENCE", 0.2)
        nowhere = load_configuration(ROOT, [f"targets.{cluster.target}.endpoint=http://127.0.0.1:9"])
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer"):
            backend_of(nowhere, cluster.target).runs(1)


class TestSchedules:
    def planned(self, compiled: Path, reference: Path, digest: str = "0123456789abcdef") -> PlannedSchedule:
        schedule = Schedule(cron="0 * * * *", parameters={"reference": str(reference)})
        return PlannedSchedule("shop-small", "small", schedule, compiled, digest)

    def changes(self, backend: ClusterBackend, planned: list[PlannedSchedule]) -> list[Change]:
        return [item.change for item in schedules.apply(backend, planned)]

    def test_applying_again_changes_nothing(self, backend: ClusterBackend, compiled: Path, reference: Path) -> None:
        wanted = [self.planned(compiled, reference)]
        assert self.changes(backend, wanted) == [Change.created]
        (made,) = backend.schedules()
        assert (made.name, made.enabled) == ("shop-small", True)
        assert self.changes(backend, wanted) == [Change.left]
        assert backend.schedules() == [made]

    def test_one_that_differs_is_changed_or_replaced_and_one_that_is_not_wanted_removed(
        self, backend: ClusterBackend, compiled: Path, reference: Path
    ) -> None:
        schedules.apply(backend, [self.planned(compiled, reference)])
        changed = [self.planned(compiled, reference, "fedcba9876543210")]
        assert self.changes(backend, changed) == [Change.changed if backend.target == "vertex" else Change.replaced]
        assert [item.digest for item in backend.schedules()] == ["fedcba9876543210"]
        assert self.changes(backend, []) == [Change.removed]
        assert backend.schedules() == []

    def test_what_a_person_paused_stays_paused(self, backend: ClusterBackend, compiled: Path, reference: Path) -> None:
        schedules.apply(backend, [self.planned(compiled, reference)])
        (made,) = backend.schedules()
        backend.pause_schedule(made.id)
        (left,) = schedules.apply(backend, [self.planned(compiled, reference)])
        assert (left.change, left.paused) == (Change.left, True)
        backend.resume_schedule(made.id)
        assert [item.enabled for item in backend.schedules()] == [True]
        backend.pause_schedule(made.id)
        schedules.apply(backend, [self.planned(compiled, reference, "fedcba9876543210")])
        assert [item.enabled for item in backend.schedules()] == [False]

    def test_a_run_of_a_schedule_that_was_changed_goes_on(
        self, cluster: Cluster, compiled: Path, reference: Path
    ) -> None:
        backend = cluster.backend
        allow(reference, "wait")
        schedules.apply(backend, [self.planned(compiled, reference)])
        cluster.server.clock.advance(hours=1)
        (run,) = backend.runs(10)
        assert (run.pipeline, run.schedule) == ("small", backend.schedules()[0].id)
        changed = [self.planned(compiled, reference, "fedcba9876543210")]
        same = backend.target == "vertex"
        assert self.changes(backend, changed) == ([Change.changed] if same else [Change.replaced, Change.retired])
        allow(reference, "10")
        assert ended(backend, run.id).summary.state is RunState.done
        assert self.changes(backend, changed) == ([Change.left] if same else [Change.left, Change.removed])
        assert len(backend.schedules()) == 1


def test_a_run_that_an_interrupted_backfill_left_is_waited_for(
    cluster: Cluster, compiled: Path, reference: Path
) -> None:
    backend, moment = cluster.backend, datetime(2026, 11, 1, tzinfo=UTC)
    allow(reference, "wait")
    run = backend.submit(submission(compiled, reference, "small-at-20261101-000000"))
    threading.Timer(1.0, allow, (reference, "10")).start()

    def start(occurrence: Occurrence) -> RunStatus:
        raise AssertionError(f"{occurrence.name} was started beside the one that is at work")

    planned = occurrences(backend, "shop", "small", [moment])
    filled = list(backfill(planned, start, lambda run: ended(backend, run.id)))
    assert filled == [Backfilled(moment, Result.done, run)]
