"""From the prediction log to a decision, with a real registry, DuckDB and Evidently."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.components.monitoring.collect_predictions.collection import collect_predictions
from kfp_lifecycle.components.monitoring.decide_remedy import judging
from kfp_lifecycle.components.monitoring.detect_drift.detection import ENTITY, detect_drift, independent
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.monitoring.history import read_history
from kfp_lifecycle.monitoring.log_window import FIELDS
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.control_planes.cloud_storage import cloud_storage
from tests.control_planes.object_store import object_store
from tests.modelling.new_registry import new_registry
from tests.modelling.remedies import AS_COMPUTED, UNTIL, world
from tests.prediction_logs import logged
from tests.prediction_logs import write_log as write_predictions
from tests.registered import make_champion
from tests.tiny_model import SITES, make

READS = ("deployment.model", "monitoring", "training.seed")
pytestmark = pytest.mark.slow

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Project:
    """What the steps of monitoring are given, and an empty place beside the log."""

    place: Path
    settings: Configuration
    locations: Locations


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("registry")
    make(place / "model")
    reference = pd.DataFrame(served(2000, seed=7))
    reference.to_parquet(place / "model" / "baseline" / "reference.parquet", index=False)
    uri = new_registry(place / "mlflow.db")
    assert make_champion(place / "model", uri, "devices") == "1"
    return uri


@pytest.fixture
def project(registry: str, tmp_path: Path) -> Project:
    return make_project(tmp_path, registry)


def make_project(place: Path, registry: str) -> Project:
    locations = Locations(
        tracking_uri=registry,
        dataset_remote="-",
        online_store="-",
        prediction_log=str(place / "log"),
        serving="local:-",
    )
    settings = given_settings({"deployment": {"model": "devices"}}, READS, "monitoring")
    return Project(place, settings, locations)


def served(rows: int, seed: int = 0, warmer: float = 0.0) -> list[dict[str, Any]]:
    """Feature values and the score that the tiny model gives for them."""
    random = np.random.default_rng(seed)
    temperature = random.uniform(0, 60, rows) + warmer
    site = random.choice(["north", "south"], rows)
    logit = 0.04 * temperature + np.array([SITES[name] for name in site])
    return pd.DataFrame({"temperature": temperature, "site": site, "score": 1 / (1 + np.exp(-logit))}).to_dict(
        "records"
    )


INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]


def line(features: dict[str, Any], time: datetime = NOW - timedelta(hours=1), **changes: Any) -> dict[str, Any]:
    values = dict(features)
    score = values.pop("score", 0.5)
    return logged(values, time, **{"score": score, **changes})


def write_log(project: Project, lines: list[dict[str, Any]], name: str = "1-host-1-77") -> Path:
    return write_predictions(project.place / "log" / "devices", lines, INPUTS, name)


def collect(project: Project) -> tuple[dict[str, Any], pd.DataFrame]:
    destination = project.place / "predictions"
    found = collect_predictions(project.settings, project.locations, destination, now=NOW)
    return found, pd.read_parquet(destination / "predictions.parquet")


def detect(project: Project) -> dict[str, Any]:
    place = project.place
    drift = detect_drift(project.settings, project.locations, place / "predictions", place / "drift")
    found = json.loads((place / "drift" / "drift.json").read_text("utf-8"))
    assert Drift.read(place / "drift") == drift
    return {**drift.metadata(), **found}


def test_what_cannot_be_read_is_counted_and_named_and_the_rest_is_read(project: Project) -> None:
    good = {"temperature": 20.5, "site": "größer ✓\u2028"}
    file = write_log(
        project,
        [
            line(good),
            line({**good, "temperature": 1e300}),
            line({**good, "temperature": float("inf")}),
            line(good, score=1.5),
            line(good, score=float("nan")),
            line(good, version=None),
            line({"temperature": None, "site": None}),
            line({"temperature": float("nan"), "site": ""}),
        ],
    )
    of_another_type = pq.read_table(file).drop_columns("features").slice(0, 2)
    values = pa.array([{"temperature": "12", "site": "north"}, {"temperature": None, "site": "north"}])
    pq.write_table(of_another_type.append_column("features", values), file.with_name("11-other.parquet"))
    file.with_name("11-broken.parquet").write_bytes(file.read_bytes()[:-9])
    file.with_name("11-random.arrows").write_bytes(b"what is this")
    pq.write_table(pa.table({"x": [1]}), file.with_name("11-foreign.parquet"))
    file.with_name("11-unfinished.unfinished").write_bytes(b"")
    found, table = collect(project)
    assert found["rows"] == 4
    assert (found["broken"]["rows"], found["broken"]["files"]) == (6, 3)
    assert "3 files and 6 predictions cannot be read." in found["notes"]
    reasons = {Path(item["file"]).name: item["reason"] for item in found["broken"]["examples"]}
    assert reasons["11-foreign.parquet"].startswith("it is no file of a log (no time, request_id")
    assert reasons["11-broken.parquet"].startswith("it is no file of a log")
    assert reasons["11-random.arrows"].startswith("it is no file of a log")
    features = pd.DataFrame(table["features"].tolist())
    assert sorted(features["site"].fillna("?")) == ["", "?", "größer ✓\u2028", "north"]
    assert features["temperature"].isna().sum() == 3
    assert features["temperature"].dtype == "float64"


def test_a_file_that_still_grows_is_read_up_to_its_last_whole_batch(project: Project) -> None:
    finished = write_log(project, [line(row) for row in served(30)])
    batches = pq.read_table(finished).to_batches(max_chunksize=10)
    messages = [batches[0].schema.serialize(), *(batch.serialize() for batch in batches)]
    growing = finished.with_name("11-killed.arrows")
    growing.write_bytes(b"".join(messages)[:-100])
    finished.unlink()
    found, table = collect(project)
    assert found["rows"] == len(table) == 20
    assert found["broken"]["examples"] == [{"file": str(growing), "rows": 0, "reason": "it ends within a batch"}]
    growing.write_bytes(b"".join(messages))
    assert collect(project)[0]["rows"] == 30


def test_a_file_is_counted_once_while_it_turns_from_growing_to_finished(project: Project) -> None:
    finished = write_log(project, [line(row) for row in served(10)])
    [batch] = pq.read_table(finished).to_batches()
    finished.with_suffix(".arrows").write_bytes(b"".join([batch.schema.serialize(), batch.serialize()]))
    assert collect(project)[0]["rows"] == 10


def test_versions_with_other_features_and_logs_without_them_are_read_together(project: Project) -> None:
    file = write_log(project, [line({"temperature": 3.0, "site": "north"})])
    table = pq.read_table(file).drop_columns("features")
    pq.write_table(table, file.with_name("11-nothing.parquet"))
    other = table.append_column("features", pa.array([{"altitude": 5.0}]))
    pq.write_table(other, file.with_name("11-other.parquet"))
    found, read = collect(project)
    assert found["predictions"] == 3
    assert found["broken"]["rows"] == 0
    # What was logged without features or an entity is not told apart from others: each counts.
    assert found["rows"] == 3
    assert sorted(row["temperature"] is None for row in read["features"]) == [False, True, True]


def test_only_answers_of_the_window_count_and_a_clock_that_is_ahead_is_told(project: Project) -> None:
    row = served(1)[0]
    lines = [
        line(row),
        line(row, shadow=True),
        line(row, time=NOW - timedelta(days=8)),
        line(row, time=NOW + timedelta(days=2)),
        line(row, time=NOW - timedelta(days=6, hours=23), version="2", entity="5"),
        line(row, time=NOW - timedelta(hours=2)),
    ]
    write_log(project, lines)
    write_log(project, [line(row, time=NOW + timedelta(days=400))])
    (project.place / "log" / "devices" / "not-a-day").mkdir()
    found, table = collect(project)
    assert found["versions"] == {"1": 1, "2": 1}
    assert {name: count for name, count in found["left_out"].items() if count} == {
        "shadow": 1,
        "outside": 1,
        "future": 2,
        "identical": 1,
    }
    assert found["broken"]["rows"] == 0
    assert table["time"].is_monotonic_increasing


def test_no_prediction_at_all_is_said_plainly_and_decides_nothing(project: Project) -> None:
    found, table = collect(project)
    assert found["summary"] == "no predictions in 7 days"
    assert list(table.columns) == list(FIELDS)
    drift = detect(project)
    assert drift["decision"] == "undecided"
    assert "0 predictions are too few" in drift["sentence"]
    assert drift["mean_score"] is None


def test_a_window_without_drift_keeps_the_model(project: Project) -> None:
    write_log(project, [line(row) for row in served(300, seed=1)])
    collect(project)
    drift = detect(project)
    assert drift["decision"] == "keep"
    assert drift["drifted"] == []
    assert drift["verdict"] == "keep"
    assert drift["pictures"] == []
    assert drift["caller"] is None


def test_what_one_caller_plants_is_left_out_and_told_and_the_others_are_judged(project: Project) -> None:
    write_log(project, [line(row, caller="3f2a9c01b7de") for row in served(300, seed=1)])
    planted = [line({**row, "temperature": 1e6 + number}, caller="attacker") for number, row in enumerate(served(90))]
    write_log(project, planted, "1-host-1-78")
    collect(project)
    drift = detect(project)
    assert (drift["verdict"], drift["drifted"], drift["pictures"]) == ("keep", [], [])
    assert (drift["caller"]["caller"], drift["caller"]["rows"]) == ("attacker", 90)
    assert drift["predictions"]["compared"] == 300
    assert drift["summary"] == f"{drift['sentence']} {drift['caller']['sentence']}"


def test_a_caller_who_sends_ninety_nine_of_a_hundred_requests_counts_by_whom_it_asks_about(project: Project) -> None:
    """Whatever it plants: 60 entities that it asks about all day are a sixth of those compared."""
    usual = [line(row, entity=f"c{number}", caller="web") for number, row in enumerate(served(300, seed=1))]
    planted = {"temperature": 9e29, "site": "nowhere", "score": 0.999}
    often = [
        line(planted, time=NOW - timedelta(hours=1, seconds=second), entity=f"p{second % 60}", caller="0badcafe0000")
        for second in range(29_700)
    ]
    write_log(project, [*usual, *often])
    found, table = collect(project)
    assert (found["predictions"], len(table), found["left_out"]["repeated"]) == (30_000, 360, 29_640)
    drift = detect(project)
    assert (drift["decision"], drift["caller"]["rows"], drift["predictions"]["compared"]) == ("keep", 60, 300)
    assert (
        "0badcafe0000, who asked for 60 of the 360 predictions compared (16.7%), is left out"
        in (drift["caller"]["sentence"])
    )


def test_a_warmer_world_asks_for_retraining_and_is_drawn_before_and_after(project: Project) -> None:
    write_log(project, [line(row) for row in served(300, seed=1, warmer=30)])
    collect(project)
    drift = detect(project)
    assert (drift["verdict"], drift["decision"]) == ("world moved", "retrain")
    assert drift["drifted"] == ["temperature"]
    assert drift["sentence"].startswith("The world moved: temperature (median")
    assert drift["summary"] == drift["sentence"]
    pictures = {picture["column"]: picture for picture in drift["pictures"]}
    assert list(pictures) == ["temperature", "score"]
    # Where the baseline has values, and where the window has, in percent of each.
    assert sum(bar["before"] for bar in pictures["temperature"]["bars"]) == pytest.approx(100)
    assert sum(bar["after"] for bar in pictures["temperature"]["bars"]) == pytest.approx(100)
    assert pictures["temperature"]["bars"][0]["after"] == 0
    [temperature] = [column for column in drift["columns"] if column["column"] == "temperature"]
    # 30 degrees at 0.04 each are 1.2 of the score's logit.
    assert temperature["moved_score"] == pytest.approx(0.27, abs=0.03)
    assert temperature["since"] == drift["start"]


def test_a_change_within_the_window_is_dated(project: Project) -> None:
    begins = NOW - timedelta(days=7)
    rows = [*served(300, seed=1), *served(300, seed=2, warmer=40)]
    write_log(project, [line(row, begins + timedelta(minutes=15 * count)) for count, row in enumerate(rows)])
    collect(project)
    drift = detect(project)
    [temperature] = [column for column in drift["columns"] if column["column"] == "temperature"]
    since = datetime.fromisoformat(temperature["since"])
    assert abs(since - (begins + timedelta(minutes=15 * 300))) < timedelta(hours=4)
    assert f"since {since:%Y-%m-%d %H:%M} UTC" in drift["sentence"]


def test_an_outage_of_a_feature_is_broken_data_and_no_reason_to_learn_from_it(project: Project) -> None:
    write_log(project, [line({**row, "temperature": None}, entity=f"{n}") for n, row in enumerate(served(300, seed=1))])
    collect(project)
    drift = detect(project)
    assert (drift["verdict"], drift["decision"]) == ("broken data", "repair")
    assert drift["drifted"] == ["temperature"]
    assert drift["sentence"].startswith("Broken data: temperature is missing: 0.0% → 100.0%")
    assert "Repair the source of temperature" in drift["sentence"]
    assert {bar["label"] for bar in drift["pictures"][0]["bars"]} == {"missing", "there"}


def test_what_was_logged_tells_what_a_retraining_would_be_worth_and_the_window_is_kept(project: Project) -> None:
    """From the log to a remedy, its page and its line of history."""

    def those_in_the_heat(table: pd.DataFrame, week: datetime) -> Any:
        return np.where((week >= UNTIL - timedelta(weeks=6)) & (table["x"] > 1), 8.0, 1.0)

    outcomes, table, x = world(those_in_the_heat, acts_from=6 / 72, rows=4_000)
    (project.place / "outcomes").mkdir()
    outcomes.model_copy(update={"model": "devices"}).write(project.place / "outcomes")
    table.to_parquet(project.place / "outcomes" / Outcomes.TABLE)
    for day, rows in table.assign(x=x["x"]).groupby("day"):
        lines = [
            line(
                {"temperature": 30 + 10 * row.x, "site": ["north", "south"][row.Index % 2]},
                row.time,
                entity=row.entity,
                score=row.score,
            )
            for row in rows.itertuples()
        ]
        write_log(project, lines, name=f"1-host-1-{day:%j}")
    found = collect_predictions(
        project.settings, project.locations, project.place / "predictions", as_of=f"{UNTIL:%Y-%m-%d}", now=UNTIL
    )
    assert found["rows"] > 100
    detect(project)
    AS_COMPUTED.write(project.place / "skew.json")
    settings = given_settings(
        {
            "name": "devices",
            "label": {"name": "churned", "title": "churns within 30 days", "horizon_days": 30},
            "training": {"costs": {"saved": 240, "action": 6, "success_rate": 0.3}},
        },
        (
            "name",
            "label",
            "monitoring.outcome_ratio",
            "monitoring.ranking_run_length",
            "training.costs",
            "training.seed",
            "training.threshold",
        ),
        "decide_remedy",
    )
    place = project.place
    for _ in range(2):
        remedy = judging.decide_remedy(
            settings,
            project.locations,
            predictions=place / "predictions",
            drift=place / "drift",
            skew=place / "skew.json",
            outcomes=place / "outcomes",
            remedy=place / "remedy",
            report=place / "page.html",
            runs=["monitoring-1"],
        )
    assert Remedy.read(place / "remedy") == remedy
    assert "retrain" in {gain.remedy for gain in remedy.gains}
    assert html.escape(remedy.sentence) in (place / "page.html").read_text("utf-8")
    [kept] = read_history(project.locations.tracking_uri, "devices", "devices")
    assert (kept.sentence, kept.version, kept.end, kept.runs) == (remedy.sentence, "1", UNTIL, ["monitoring-1"])
    assert kept.predictions == found["predictions"]


def test_asking_often_about_one_entity_is_no_evidence(project: Project) -> None:
    write_log(project, [line(row, entity="7") for row in served(300, seed=1, warmer=30)])
    collect(project)
    drift = detect(project)
    assert drift["decision"] == "undecided"
    assert drift["predictions"] == {"window": 300, "champion": 1, "compared": 1}


def test_the_newest_prediction_of_an_entity_counts() -> None:
    frame = pd.DataFrame({ENTITY: ["a", None, "a", None, "b"], "score": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert independent(frame, seed=0)["score"].tolist() == [0.2, 0.3, 0.4, 0.5]


def test_a_log_in_an_object_store_is_read_as_one_in_a_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(project, [line(row) for row in served(20)])
    (project.place / "log" / "devices" / "2020-01-01").mkdir()
    (project.place / "log" / "devices" / "2020-01-01" / "10-1.parquet").write_bytes(b"of another window")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody")
    with object_store(project.place) as s3, cloud_storage(project.place) as gs:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs)
        for scheme in ("gs", "minio"):
            stored = project.locations.model_copy(update={"prediction_log": f"{scheme}://log"})
            found = collect_predictions(project.settings, stored, project.place / scheme, now=NOW)
            assert (found["rows"], found["broken"]["rows"], found["broken"]["examples"]) == (20, 0, [])
    # No store answers there any more.
    with pytest.raises(ContractViolation, match="The prediction log minio://log of devices cannot be read"):
        collect_predictions(project.settings, stored, project.place / "none", now=NOW)


def test_a_window_before_a_release_is_judged_by_the_model_that_served_in_it(project: Project, tmp_path: Path) -> None:
    registry = new_registry(tmp_path / "of-two.db")
    for number in ("1", "2"):
        make(tmp_path / number)
        pd.DataFrame(served(2000, seed=int(number), warmer=30 * int(number))).to_parquet(
            tmp_path / number / "baseline" / "reference.parquet", index=False
        )
        assert make_champion(tmp_path / number, registry, "devices") == number
    project = make_project(project.place, registry)
    write_log(project, [line(row, entity=f"{n}") for n, row in enumerate(served(300, seed=9, warmer=30))])
    found, _ = collect(project)
    assert (found["champion"], found["version"]) == ("2", "1")
    drift = detect(project)
    assert (drift["version"], drift["decision"]) == ("1", "keep")


def test_predictions_of_another_version_are_not_compared(project: Project) -> None:
    write_log(project, [line(row, version="2") for row in served(300, seed=1, warmer=30)])
    collect(project)
    assert detect(project)["predictions"] == {"window": 300, "champion": 0, "compared": 0}


def test_without_a_champion_the_run_stops_and_says_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path, f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(ContractViolation, match=r"No version of devices is in production yet.*lifecycle run training"):
        collect_predictions(project.settings, project.locations, tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


def test_a_baseline_that_is_gone_or_of_other_features_stops_the_step_by_its_name(tmp_path: Path) -> None:
    uri = new_registry(tmp_path / "mlflow.db")
    make(tmp_path / "model")
    make_champion(tmp_path / "model", uri, "devices")
    project = make_project(tmp_path, uri)
    write_log(project, [line(row) for row in served(300)])
    collect(project)
    baseline = tmp_path / "model" / "baseline" / "reference.parquet"
    known = pd.read_parquet(baseline)
    of_others = known.rename(columns={"site": "town", "score": "probability"})
    for reference, problem in ((of_others, "has no column score, site"), (known.head(0), "has no rows")):
        reference.to_parquet(baseline)
        with pytest.raises(ContractViolation, match=f"reference.parquet of devices version 1 {problem}.*Train and"):
            detect(project)
    baseline.write_bytes(baseline.read_bytes()[:-9])
    with pytest.raises(ContractViolation, match=r"reference.parquet of devices version 1 cannot be read.*Train and"):
        detect(project)
    baseline.unlink()
    with pytest.raises(ContractViolation, match=r"reference.parquet"):
        detect(project)
    assert not (tmp_path / "drift").exists()


def test_a_window_must_end_at_a_time(project: Project) -> None:
    with pytest.raises(ContractViolation, match="as_of is 'tomorrow', which is no time"):
        collect_predictions(project.settings, project.locations, project.place / "predictions", as_of="tomorrow")


def test_an_earlier_window_can_be_looked_at_again(project: Project) -> None:
    row = served(1)[0]
    write_log(project, [line(row, time=NOW - timedelta(days=30)), line(row)])
    found = collect_predictions(
        project.settings, project.locations, project.place / "old", as_of="2026-04-21T00:00:00", now=NOW
    )
    assert (found["rows"], found["left_out"]["outside"], found["left_out"]["future"]) == (1, 1, 0)
