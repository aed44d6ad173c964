"""Outcomes that come later: joined by the project's own label query, and a decline noticed before horizons are over."""

from __future__ import annotations

import random
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.predictions import Broken, LeftOut, LogTable, Predictions
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.components.monitoring.join_outcomes.joining import join_outcomes
from kfp_lifecycle.config.business import BusinessMetric
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.monitoring.business import Business
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.hold_out import HoldOut
from kfp_lifecycle.simulation.business import simulate
from kfp_lifecycle.simulation.database import TABLES
from tests.feature_steps import given_to
from tests.prediction_logs import logged, write_log
from tests.projects import read_project

pytestmark = pytest.mark.slow

END = date(2026, 6, 30)
RISEN = datetime(2026, 5, 2, tzinfo=UTC)
"""The first day of the price rise, or of nothing."""
# Looks after and before the outcomes of May are known.
LATE, EARLY = RISEN + timedelta(days=40), RISEN + timedelta(days=14)
OWN_METRICS = {
    "offers_taken": BusinessMetric(
        value="EXISTS (SELECT 1 FROM purchases WHERE customer_id::VARCHAR = entity AND purchased_at > time "
        "AND purchased_at <= horizon_end)::INT",
        where="decision",
        unit="share",
    ),
    "lost_in_the_north": BusinessMetric(value="outcome * saved", where="customers.region = 'north'", unit="money"),
}
BUSINESS_ROW = pa.schema(
    {
        "score": pa.float64(), "decision": pa.bool_(), "outcome": pa.float64(), "version": pa.string(),
        "entity": pa.string(), "time": pa.timestamp("us", "UTC"), "horizon_end": pa.timestamp("us", "UTC"),
        "hold_out": pa.bool_(), "treated": pa.bool_(),
    }
)  # fmt: skip
WORLDS = ("quiet", "risen", "campaign")
HELD_OUT = HoldOut(0.2, "churn")
# By the project's costs, an action pays from this probability on: 6 / (0.3 * 240).
ACTED_FROM = 1 / 12
SAVED = 0.6
# The simulation keeps the exact probability of leaving within 30 days at the ends of these days.
FORETOLD = [END - timedelta(days=30 * back) for back in range(1, 6)]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same business, as it was, with a price rise, and with a campaign, as validated tables; and a log of each.

    Everybody's score is the probability of leaving in the world without: a calibrated model that knows of no rise.
    """
    place = tmp_path_factory.mktemp("worlds")
    for name, inject in (("quiet", []), ("risen", ["price_rise"])):
        simulate(place / f"{name}.duckdb", customers=2_500, days=500, end=END, inject=inject)
    save_the_treated(place / "quiet.duckdb", place / "campaign.duckdb")
    for name in WORLDS:
        (place / name / "tables").mkdir(parents=True)
        with duckdb.connect() as connection:
            for world in WORLDS:
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
                logged(
                    {"age": 1.0},
                    at,
                    entity=str(customer),
                    score=score,
                    decision=score >= ACTED_FROM,
                    hold_out=HELD_OUT.holds(customer) if name == "campaign" else None,
                    request_id=f"r{customer}",
                )
                for foretold_on, customer, score in foretold
                if foretold_on == day
            ]
            write_log(place / name / "log" / "churn", rows, [Feature("age", "numeric")])
    return {name: place / name for name in WORLDS}


def save_the_treated(quiet: Path, campaign: Path) -> None:
    """The quiet business with a campaign: whoever is foretold to leave, and is not held out, is made an offer, and six
    of ten who would have left within the 30 days stay."""
    shutil.copyfile(quiet, campaign)
    with duckdb.connect(str(campaign)) as connection:
        leaving = connection.execute(
            "SELECT customer_id FROM truth JOIN cancellations USING (customer_id) WHERE probability >= ? "
            "AND day IN (SELECT unnest(?)) AND cancelled_at > day AND cancelled_at <= day + INTERVAL 31 DAY "
            "ORDER BY ALL",
            [ACTED_FROM, FORETOLD],
        ).fetchall()
        offered = [customer for (customer,) in leaving if not HELD_OUT.holds(customer)]
        saved = [customer for customer in offered if random.Random(customer).random() < SAVED]
        connection.execute("DELETE FROM cancellations WHERE customer_id IN (SELECT unnest(?))", [saved])


def measuring(settings: Configuration, metrics: dict[str, BusinessMetric]) -> Configuration:
    """The settings with business metrics of their own."""
    return settings.model_copy(update={"monitoring": settings.monitoring.model_copy(update={"business": metrics})})


@cache
def look(world: Path, at: datetime) -> tuple[Outcomes, pd.DataFrame]:
    """Join the outcomes as of a moment."""
    # The helper says first that a step runs here: then kfp imports no compiler.
    from kfp_lifecycle.components.monitoring.join_outcomes import component

    project = read_project(ROOT)
    settings, locations = given_to(component.join_outcomes, project)
    settings = measuring(settings, OWN_METRICS)
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
    # Who left is in no view any more, and counts in the group that they were of.
    assert all(measured.events > 0 for measured in groups)
    assert found.told == "by the event"
    assert found.timing_events > 100
    text = page_of(found)
    assert '<h2 id="version-1-title">Version 1</h2>' in text
    assert "gender: female" in text


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
    given = read_project(ROOT)
    label = given.settings.label.model_copy(update={"horizon_days": None})
    settings = given.settings.model_copy(update={"label": label})
    at = RISEN + timedelta(days=14)
    look(worlds["quiet"], at)
    # A project whose features are the columns of a table has no definitions of its own.
    nowhere = [tmp_path / name for name in ("definitions", "label.sql", "tables")]
    window = worlds["quiet"] / f"{at:%Y-%m-%d}"
    found = join_outcomes(settings, given.locations, window, *nowhere, tmp_path / "outcomes")
    assert found.sentence == "Nothing that was predicted can be followed yet."
    assert "label.horizon_days is not set" in found.notes[0]
    assert pd.read_parquet(tmp_path / "outcomes" / Outcomes.TABLE).empty


def test_a_working_campaign_does_not_look_like_a_failing_model_where_a_share_is_held_out(
    worlds: dict[str, Path],
) -> None:
    found, table = look(worlds["campaign"], LATE)
    [version] = found.versions
    assert version.held_out == table["hold_out"].sum() > 300
    assert found.alarms == [], found.sentence
    assert version.judged_on == "hold-out"
    everyone = version.performance[0].metrics
    assert everyone["roc_auc"].low < 0.83 < everyone["roc_auc"].high
    assert everyone["observed_over_expected"].low < 1 < everyone["observed_over_expected"].high
    # Without the column the same log reads as a model that foretells too much and ranks worse.
    blind, _ = look(without_hold_out(worlds["campaign"]), LATE)
    [deceived] = blind.versions
    assert deceived.judged_on == "all"
    assert deceived.performance[0].metrics["observed_over_expected"].high < 0.95
    assert deceived.performance[0].metrics["roc_auc"].value < everyone["roc_auc"].value - 0.03
    assert deceived.effect is None
    assert "what acting on its predictions changes cannot be known" in " ".join(blind.notes)
    assert "It cannot be known: nobody is held out" in page_of(blind)


def test_what_acting_changed_is_told_with_its_interval(worlds: dict[str, Path]) -> None:
    found, table = look(worlds["campaign"], LATE)
    [version] = found.versions
    effect = version.effect
    assert effect is not None
    acted = table[table["complete"] & table["decision"] & ~table["hold_out"].astype(bool)]
    assert (effect.treated, effect.bands) == (len(acted), 5)
    # Six of ten of those that were foretold.
    truly = SAVED * acted["score"].mean()
    assert effect.prevented.low < truly < effect.prevented.high
    assert effect.prevented.low > 0
    assert effect.value_per_1000.value == pytest.approx(1000 * (240 * effect.prevented.value - 6))
    assert f"beside {effect.held_out:,} of the hold-out" in page_of(found)


def test_business_metrics_tell_rates_by_decision_and_money(worlds: dict[str, Path]) -> None:
    found, table = look(worlds["quiet"], LATE)
    metrics = {item.name: item for item in found.versions[0].business}
    known = table[table["complete"] & table["known"]]
    acted, others = known[known["decision"]], known[~known["decision"]]
    assert metrics["acted_upon"].value.value == pytest.approx(table["decision"].mean())
    assert metrics["acted_upon"].total == table["decision"].sum()
    assert metrics["events_where_acted"].value.value == pytest.approx(acted["label"].mean())
    assert metrics["events_where_not"].value.value == pytest.approx(others["label"].mean())
    worth, value = 0.3 * 240 * acted["label"].sum() - 6 * len(acted), metrics["value"]
    assert (value.unit, value.per, value.total) == ("money", 1000, pytest.approx(worth))
    assert value.value.value == pytest.approx(1000 * worth / len(known))
    assert value.value.low < value.value.value < value.value.high
    # Each week of predictions whose outcomes are known.
    assert [week.rows for week in value.weeks] == known.groupby("day").size().tolist()
    assert sum(week.rows * week.value for week in value.weeks) == pytest.approx(1000 * worth)
    text = page_of(found)
    assert text.count('<polyline class="line"') >= 4
    assert "Value of acting by the costs, for 1,000 predictions" in text


def test_a_project_s_own_metrics_may_read_its_tables(worlds: dict[str, Path]) -> None:
    found, table = look(worlds["quiet"], LATE)
    own = {item.name: item for item in found.versions[0].business}
    with duckdb.connect() as connection:
        for name in ("purchases", "customers"):
            connection.execute(f"CREATE VIEW {name} AS FROM '{worlds['quiet'] / 'tables' / name}.parquet'")
        connection.register("seen", table)
        [(lost,)] = connection.execute(
            "SELECT 240 * avg(label) FROM seen JOIN customers ON entity = customer_id::VARCHAR "
            "WHERE complete AND region = 'north'"
        ).fetchall()
        bought = connection.execute(
            "SELECT count(DISTINCT (entity, time)) FROM seen JOIN purchases ON entity = customer_id::VARCHAR "
            "WHERE decision AND purchased_at > time::TIMESTAMP AND purchased_at <= horizon_end::TIMESTAMP "
            "AND greatest(purchased_at, recorded_at) <= TIMESTAMP '2026-06-11'"
        ).fetchone()
    assert own["lost_in_the_north"].value.value == pytest.approx(lost)
    assert (own["offers_taken"].total, own["offers_taken"].value.rows) == (*bought, table["decision"].sum())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "customers.region_of_birth",
            r"monitoring\.business\.wrong cannot be computed: .*region_of_birth.*horizon_end",
        ),
        ("score / 0.0", "is infinite for 1 predictions: divide by nullif"),
        ("if(customers.region = 'north', 1, 0)", "finds several rows of a table for one entity"),
    ],
)
def test_an_expression_that_fails_names_itself_and_the_columns_there_are(value: str, told: str) -> None:
    settings = measuring(read_project(ROOT).settings, {"wrong": BusinessMetric(value=value)})
    now = datetime(2026, 6, 1, tzinfo=UTC)
    row = {"score": 0.5, "decision": True, "outcome": 1.0, "version": "1", "entity": "7", "time": now,
           "horizon_end": now, "hold_out": None, "treated": None}  # fmt: skip
    rows = pa.Table.from_pylist([row], BUSINESS_ROW)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE customers AS SELECT 7 AS customer_id, 'north' AS region FROM range(2)")
        connection.execute("CREATE TABLE cancellations (customer_id BIGINT)")
        if "region =" not in value:
            connection.execute("DELETE FROM customers")
        with pytest.raises(ContractViolation, match=told):
            Business(connection, settings, rows)


def test_performance_is_estimated_before_outcomes_and_its_error_measured_afterwards(worlds: dict[str, Path]) -> None:
    found, table = look(worlds["quiet"], EARLY)
    estimate = found.versions[0].estimate
    assert estimate is not None
    open_ones = table[~table["complete"] & table["known"]]
    assert estimate.rows == len(open_ones)
    assert set(estimate.metrics) == {"roc_auc", "log_loss", "precision", "recall"}
    # What those rows turned out to be, once their horizon had passed.
    later, settled = look(worlds["quiet"], LATE)
    became = settled[settled["day"].isin(set(open_ones["day"]))]
    assert became["complete"].all()
    label, acted, score = became["label"], became["decision"], became["score"]
    measured = {
        "roc_auc": roc_auc_score(label, score),
        "log_loss": log_loss(label, score),
        "precision": label[acted].mean(),
        "recall": label[acted].sum() / label.sum(),
    }
    for name, value in measured.items():
        metric = estimate.metrics[name]
        assert metric.low < value < metric.high, f"{name} was {value}, estimated {metric}"
    errors = later.versions[0].estimate.errors if later.versions[0].estimate else estimate.errors
    assert abs(errors["roc_auc"]) < 0.05
    assert "It assumes that scores are calibrated" in page_of(found)
    # A price rise that scores know nothing of is not foreseen, and the error says so once outcomes are there.
    risen, _ = look(worlds["risen"], LATE)
    wrong = risen.versions[0].estimate
    assert wrong is not None
    assert wrong.errors["log_loss"] > 0.01


def without_hold_out(world: Path) -> Path:
    """The same world, whose servers knew of no hold-out."""
    blind = world.with_name(f"{world.name}-blind")
    (blind / "log" / "churn").mkdir(parents=True, exist_ok=True)
    if not (blind / "tables").exists():
        (blind / "tables").symlink_to(world / "tables")
    for file in (world / "log" / "churn").rglob("*.parquet"):
        copy = blind / file.relative_to(world)
        copy.parent.mkdir(exist_ok=True)
        pq.write_table(pq.read_table(file).drop_columns(["hold_out"]), copy)
    return blind


def page_of(found: Outcomes) -> str:
    """The page as it is written."""
    from kfp_lifecycle.components.monitoring.join_outcomes import page

    with tempfile.TemporaryDirectory() as folder:
        page.write(found, Path(folder) / "page.html")
        return (Path(folder) / "page.html").read_text("utf-8")
