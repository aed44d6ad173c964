"""Outcomes that come later: joined by the project's own label query, and a decline noticed before horizons are over."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.predictions import Broken, LeftOut, LogTable, Predictions
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.components.monitoring.join_outcomes.joining import join_outcomes, without_horizon
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.simulation.business import simulate
from kfp_lifecycle.simulation.database import TABLES
from tests.feature_steps import given_to
from tests.prediction_logs import logged, write_log
from tests.projects import read_project

pytestmark = pytest.mark.slow

END = date(2026, 6, 30)
RISEN = datetime(2026, 5, 2, tzinfo=UTC)
"""The first day of the price rise, or of nothing."""
# The simulation keeps the exact probability of leaving within 30 days at the ends of these days.
FORETOLD = [END - timedelta(days=30 * back) for back in range(1, 6)]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same business with the price rise and without, as validated tables; and a log of both.

    Everybody's score is the probability of leaving in the world without: a calibrated model that knows of no rise.
    """
    place = tmp_path_factory.mktemp("worlds")
    for name, inject in (("quiet", []), ("risen", ["price_rise"])):
        simulate(place / f"{name}.duckdb", customers=2_500, days=500, end=END, inject=inject)
    for name in ("quiet", "risen"):
        (place / name / "tables").mkdir(parents=True)
        with duckdb.connect() as connection:
            for world in ("quiet", "risen"):
                connection.execute(f"ATTACH '{place / world}.duckdb' AS {world} (READ_ONLY)")
            for table in TABLES:
                file = place / name / "tables" / f"{table}.parquet"
                connection.execute(f"COPY {name}.{table} TO '{file}' (FORMAT parquet)")
            foretold = connection.execute(
                f"SELECT day, customer_id, known.probability FROM {name}.truth JOIN quiet.truth AS known "
                "USING (customer_id, day) ORDER BY ALL"
            ).fetchall()
        summaries = {table: TableSummary(rows=1, columns={}) for table in TABLES}
        Manifest(as_of=datetime(2026, 6, 30, 23, 59, tzinfo=UTC), tables=summaries).write(place / name / "tables")
        for day in FORETOLD:
            at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(days=1)
            rows = [
                logged({"age": 1.0}, at, entity=str(customer), score=score, request_id=f"r{customer}")
                for foretold_on, customer, score in foretold
                if foretold_on == day
            ]
            write_log(place / name / "log" / "churn", rows, [Feature("age", "numeric")])
    return {name: place / name for name in ("quiet", "risen")}


def look(world: Path, at: datetime, **monitoring: int) -> tuple[Outcomes, pd.DataFrame]:
    """Join the outcomes as of a moment."""
    # The helper says first that a step runs here: then kfp imports no compiler.
    from kfp_lifecycle.components.monitoring.join_outcomes import component

    project = read_project(ROOT)
    settings, locations = given_to(component.join_outcomes, project)
    settings = settings.model_copy(update={"monitoring": settings.monitoring.model_copy(update=monitoring)})
    place = world / f"{at:%Y-%m-%d}"
    place.mkdir(exist_ok=True)
    nothing = dict.fromkeys(LeftOut.model_fields, 0)
    Predictions(
        model="churn", champion="1", version="1", start=at - timedelta(days=7), end=at,
        found=LogTable(predictions=0, rows=0, versions=[], probes=0, left_out=LeftOut(**nothing),
                       broken=Broken(files=0, rows=0, examples=[])),
    ).write(place)  # fmt: skip
    found = join_outcomes(
        settings,
        locations.model_copy(update={"prediction_log": str(world / "log")}),
        place,
        project.feature_repo,
        project.label_query,
        world / "tables",
        place / "outcomes",
    )
    assert Outcomes.read(place / "outcomes") == found
    return found, pd.read_parquet(place / "outcomes" / Outcomes.TABLE)


def test_a_price_rise_is_noticed_within_two_weeks_and_the_same_weeks_without_it_are_quiet(
    worlds: dict[str, Path],
) -> None:
    found, _ = look(worlds["risen"], RISEN + timedelta(days=14))
    [version] = found.versions
    # A business of the size that the chart was made for: some sixteen events a week.
    assert 10 < version.weeks[-3].expected < 25
    assert version.alarm is not None
    assert (version.alarm.direction, version.alarm.since) == ("more", RISEN)
    assert found.sentence.startswith("More events than version 1 foretells")
    assert found.metadata()["summary"] == version.alarm.sentence
    # Its chart holds these weeks, the four before them and the six after.
    quiet, _ = look(worlds["quiet"], RISEN + timedelta(days=56))
    assert quiet.alarms == [], quiet.sentence
    assert quiet.sentence.startswith("What happened is what was foretold")


def test_what_the_table_says_is_what_became_of_each(worlds: dict[str, Path]) -> None:
    found, table = look(worlds["quiet"], RISEN + timedelta(days=40))
    [version] = found.versions
    complete = table[table["complete"]]
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW gone AS FROM '{worlds['quiet'] / 'tables' / 'cancellations.parquet'}'")
        connection.register("complete", complete)
        [(left,)] = connection.execute(
            "SELECT count(*) FROM complete JOIN gone ON entity = customer_id::VARCHAR "
            "WHERE cancelled_at > day AND cancelled_at <= day + INTERVAL 30 DAY"
        ).fetchall()
    assert version.complete == len(complete)
    assert complete["label"].sum() == left == version.performance[0].events
    # What is settled early is a label, too; what is open has none.
    open_ones = table[~table["complete"]]
    assert set(open_ones["label"].dropna()) == {1.0}
    assert open_ones["label"].isna().sum() > 100
    assert table["event_by"].max().to_pydatetime() <= found.until


def test_performance_has_intervals_for_all_and_for_groups_that_are_large_enough(worlds: dict[str, Path]) -> None:
    found, _ = look(worlds["quiet"], RISEN + timedelta(days=40))
    [version] = found.versions
    everyone, *groups = version.performance
    auc, calibration = everyone.metrics["roc_auc"], everyone.metrics["observed_over_expected"]
    assert auc.low < 0.83 < auc.high
    assert calibration.low < 1 < calibration.high
    assert {"gender: female", "gender: male"} <= {measured.group for measured in groups}
    assert all(measured.rows >= 100 for measured in groups)
    assert found.told == "by the event"
    assert found.timing_events > 100
    text = page_of(found)
    assert "## Version 1" in text
    assert "| gender: female |" in text


def test_predictions_that_cannot_be_followed_are_counted_and_told(worlds: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tables").symlink_to(worlds["quiet"] / "tables")
    at = RISEN + timedelta(hours=9)
    inputs = [Feature("age", "numeric")]
    with duckdb.connect() as connection:
        present = connection.execute(
            f"SELECT customer_id::VARCHAR FROM '{tmp_path}/tables/truth.parquet' "
            "WHERE day = DATE '2026-05-01' ORDER BY ALL LIMIT 40"
        ).fetchall()
    known = [logged({"age": 1.0}, at, entity=name, score=0.05) for (name,) in present]
    again = [{**row, "time": at + timedelta(days=3), "version": "2"} for row in known]
    strangers = [logged({"age": 1.0}, at, entity=name) for name in ("a stranger", "9999999", "-1")]
    file = write_log(tmp_path / "log" / "churn", [*known, *reversed(known), *strangers], inputs)
    write_log(tmp_path / "log" / "churn", [*again, logged({"age": 1.0}, at)], inputs)
    file.with_name("09-broken.parquet").write_bytes(file.read_bytes()[:-9])
    found, table = look(tmp_path, RISEN + timedelta(days=10))
    assert [(item.version, item.spells, item.unknown) for item in found.versions] == [("1", 43, 3), ("2", 40, 0)]
    assert (found.predictions, found.without_entity, len(table)) == (124, 1, 83)
    said = " ".join(found.notes)
    assert "1 of 124 predictions name no entity" in said
    assert "3 of 43 entities that version 1 predicted are none" in said
    assert "09-broken.parquet: it is no file of a log" in said


def test_a_label_that_is_not_of_a_later_moment_is_not_followed(worlds: dict[str, Path], tmp_path: Path) -> None:
    settings = read_project(ROOT).settings
    label = settings.label.model_copy(update={"horizon_days": None})
    at = RISEN + timedelta(days=14)
    look(worlds["quiet"], at)
    window = Predictions.read(worlds["quiet"] / f"{at:%Y-%m-%d}")
    found = without_horizon(settings.model_copy(update={"label": label}), window, tmp_path / "outcomes")
    assert found.sentence == "Nothing that was predicted can be followed yet."
    assert "label.horizon_days is not set" in found.notes[0]
    assert pd.read_parquet(tmp_path / "outcomes" / Outcomes.TABLE).empty


def page_of(found: Outcomes) -> str:
    """The page as it is written."""
    from kfp_lifecycle.components.monitoring.join_outcomes import page

    with tempfile.TemporaryDirectory() as folder:
        page.write(found, Path(folder) / "page.md")
        return (Path(folder) / "page.md").read_text("utf-8")
