"""The benchmark `zero_lost`, small: what clients lose by releases, by kills and by a reckless client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_release import Place, make_model
from served_place import serving_place

from benchmarks.zero_lost.reckless import GRPC, REST, reckless_client
from benchmarks.zero_lost.scenarios import KILLS, RELEASES, Happening, Report, lost_of_log, observed
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.release.local.operations import stop

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]
CLIENTS = 16
KNOWN = {happening.what: happening for happening in [*RELEASES, *KILLS]}
# The rollback last: what was rolled back from takes over for nobody.
HAPPENINGS = {what: KNOWN[what] for what in ("a canary", "the champion killed", "the front killed", "a rollback")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with serving_place(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {version: make_model(folder / f"v{version}", version, 1 + int(version) / 10) for version in "12"}


@pytest.fixture(scope="module")
def reports(place: Place, models: dict[str, Path]) -> dict[str, Report]:
    """One after the other, and the servers ended, so that all of the log is written."""
    place.release(models["1"])
    with reckless_client(place.port, place.port + 1) as done:
        found = {what: observed(happening, place, models, CLIENTS) for what, happening in HAPPENINGS.items()}
    assert set(done) <= {trick.__name__ for trick in [*REST, *GRPC]}
    assert sum(done.values()) > 0
    stop(place.serving)
    return found


@pytest.mark.parametrize("happening", HAPPENINGS.values(), ids=lambda happening: happening.what)
def test_a_change_costs_nobody_an_answer_and_a_kill_at_most_what_was_being_answered(
    reports: dict[str, Report], happening: Happening
) -> None:
    report = reports[happening.what]
    assert len({outcome.kind for outcome in report.outcomes}) == 4
    assert report.requests > CLIENTS
    assert bool(report.killed) is not happening.planned
    assert not report.unexplained, report.unexplained[:3]


def test_only_who_is_killed_loses_what_it_had_not_logged_yet(place: Place, reports: dict[str, Report]) -> None:
    for report in reports.values():
        lost = lost_of_log(place, report.outcomes)
        # An answer that was given in the second before.
        assert not lost or report.killed
