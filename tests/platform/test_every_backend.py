"""What every backend promises: this machine's, Kubeflow's and Vertex AI's, the clusters' against their stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import allow, ended, small, submission

from kfp_lifecycle.backends.backend import Backend, ClusterBackend, NotThere, RunStatus
from kfp_lifecycle.backends.backfill import Backfilled, Occurrence, Result, backfill, moments_of, occurrences
from kfp_lifecycle.backends.local import LocalBackend
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.compilation.parameters import parameters_of
from kfp_lifecycle.compilation.pipeline import CompiledPipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.local import run_records, runs, state
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState, State
from tests.control_planes.kubeflow import KubeflowStandIn
from tests.control_planes.stand_in import StandIn
from tests.control_planes.vertex import VertexStandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
STAND_INS: dict[str, type[StandIn]] = {"kubeflow": KubeflowStandIn, "vertex": VertexStandIn}


@dataclass(frozen=True)
class Place:
    """A target, and how the small pipeline is run on it."""

    backend: Backend
    start: Callable[..., str]
    """Starts a run of a name, with how many rows it counts, and gives its id."""
    pass_time: Callable[[], None]
    """Lets the next run begin a second later."""

    def run(self, name: str, rows: int = 3) -> RunStatus:
        """A run at its end."""
        return ended(self.backend, self.start(name, rows))


def on_a_cluster(backend: ClusterBackend, server: StandIn, compiled: Path, reference: Path) -> Place:
    def start(name: str, rows: int = 3) -> str:
        return backend.submit(submission(compiled, reference, name, rows=rows))

    # Kubeflow knows no fractions of a second.
    return Place(backend, start, lambda: server.clock.advance(seconds=1))


def here(folder: Path, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for module in (runs, state):
        monkeypatch.setattr(module, "STATE", folder)
    for module in (run_records, state):
        monkeypatch.setattr(module, "RUNS", folder / "runs")

    def compile_small(name: str, target: str, project: Path, output: Path, **how: Any) -> CompiledPipeline:
        output.write_bytes(compiled.read_bytes())
        configuration = load_configuration(project, ["name=shop"])
        return CompiledPipeline(configuration, parameters=parameters_of(small.pipeline_spec))

    monkeypatch.setattr(runs, "compile_pipeline", compile_small)
    monkeypatch.setattr(runs, "declared_parameters", lambda *_: parameters_of(small.pipeline_spec))

    def start(name: str, rows: int = 3) -> str:
        return runs.execute("small", ROOT, parameters=[f"reference={reference}", f"rows={rows}"], name=name).id

    return Place(LocalBackend(), start, lambda: None)


@pytest.fixture(params=["local", "kubeflow", "vertex"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    target: TargetName = request.param
    if target == "local":
        yield here(tmp_path / "state", compiled, reference, monkeypatch)
        return
    with STAND_INS[target](tmp_path / target) as server:
        settings = load_configuration(ROOT, ["name=shop", f"targets.{target}.endpoint={server.url}"])
        yield on_a_cluster(backend_of(settings, target), server, compiled, reference)


def test_a_run_is_shown_with_its_steps_and_their_key_figures(place: Place) -> None:
    run = place.run("small-1")
    assert run.summary.state is RunState.done
    assert {name: step.state for name, step in run.progress.steps.items()} == {
        "count": State.done,
        "check": State.done,
        "register": State.skipped,
        "tell": State.done,
    }
    assert run.progress.steps["count"].summary == "3 rows"
    assert (run.summary.name, run.summary.pipeline, run.summary.project) == ("small-1", "small", "shop")


def test_what_the_cache_has_is_shown_to_be_from_there(place: Place) -> None:
    place.run("small-1")
    steps = place.run("small-2").progress.steps
    assert (steps["count"].state, steps["check"].state) == (State.cached, State.done)


def test_a_failed_run_says_which_step_and_why(place: Place) -> None:
    run = place.run("small-1", rows=11)
    assert (run.summary.state, run.failed_step) == (RunState.failed, "check")
    assert "Load fewer." in run.reason


def test_runs_are_listed_newest_first_and_found_by_their_names(place: Place) -> None:
    made = []
    for name in ("small-at-1", "small-at-2", "a-small-at-3"):
        made.append(place.start(name))
        place.pass_time()
    assert [run.id for run in place.backend.runs(2)] == made[:0:-1]
    assert {run.pipeline for run in place.backend.runs(10)} == {"small"}
    assert {run.name for run in place.backend.runs_named("small-at-")} == {"small-at-1", "small-at-2"}


def test_a_step_without_a_log_is_said_to_have_none(place: Place) -> None:
    run = place.run("small-1").summary.id
    with pytest.raises(NotThere, match="no step nothing; it has"):
        place.backend.log(run, "nothing")
    with pytest.raises(NotThere, match="has no log: it is skipped"):
        place.backend.log(run, "register")


def test_a_run_that_is_not_there_is_said_to_be_not_there(place: Place) -> None:
    for ask in (place.backend.status, place.backend.cancel, place.backend.resume, place.backend.artifacts):
        with pytest.raises(NotThere):
            ask("8a3c1a0e-0000-0000-0000-000000000000")


class TestBackfill:
    MOMENTS = moments_of(timedelta(hours=6), datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 12, tzinfo=UTC))

    def fill(self, place: Place, **how: bool) -> tuple[list[Backfilled], list[str]]:
        """What became of the window, and the names of the runs that were started."""
        started: list[str] = []

        def start(occurrence: Occurrence) -> RunStatus:
            # One at a time: none is at work when the next begins.
            assert all(run.state is not RunState.running for run in place.backend.runs(10))
            started.append(occurrence.name)
            return place.run(occurrence.name)

        planned = occurrences(place.backend, "shop", "small", self.MOMENTS)
        return list(backfill(planned, start, lambda run: ended(place.backend, run.id), **how)), started

    def test_a_window_runs_once_and_the_oldest_first(self, place: Place) -> None:
        names = ["small-at-20261101-000000", "small-at-20261101-060000", "small-at-20261101-120000"]
        filled, started = self.fill(place)
        assert ([item.result for item in filled], started) == ([Result.done] * 3, names)
        filled, started = self.fill(place)
        assert ([item.result for item in filled], started) == ([Result.left] * 3, [])
        _, started = self.fill(place, again=True)
        assert started == [f"{name}-2" for name in names]

    def test_it_stops_at_a_failure_unless_it_is_to_keep_going(self, place: Place, reference: Path) -> None:
        allow(reference, "1")
        filled, _ = self.fill(place)
        assert [item.result for item in filled] == [Result.failed]
        assert "Load fewer." in filled[0].reason
        filled, _ = self.fill(place, keep_going=True)
        assert [item.result for item in filled] == [Result.failed] * 3
        allow(reference, "10")
        filled, started = self.fill(place)
        assert [item.result for item in filled] == [Result.done] * 3
        assert started[0] == "small-at-20261101-000000-3"
