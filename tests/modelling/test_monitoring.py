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
import pytest

from kfp_lifecycle.artifacts.drift import Drift
from kfp_lifecycle.components.monitoring.collect_predictions.collection import collect_predictions
from kfp_lifecycle.components.monitoring.detect_drift.detection import detect_drift, independent
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.runtime.contract import ContractViolation
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
    uri = f"sqlite:///{place / 'mlflow.db'}"
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


def line(features: dict[str, Any], time: datetime = NOW - timedelta(hours=1), **changes: Any) -> str:
    values = dict(features)
    record = {
        "time": time.isoformat(),
        "request_id": "r",
        "model": "devices",
        "version": "1",
        "entity": None,
        "score": values.pop("score", 0.5),
        "features": values,
        "decision": True,
        "latency_ms": 1.5,
        "shadow": False,
    }
    return json.dumps({**record, **changes}, ensure_ascii=False)


def write_log(project: Project, lines: list[str | bytes], day: str = "2026-05-20") -> Path:
    file = project.place / "log" / "devices" / day / "1-77.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\n".join(item if isinstance(item, bytes) else item.encode() for item in lines) + b"\n")
    return file


def collect(project: Project) -> tuple[dict[str, Any], pd.DataFrame]:
    destination = project.place / "predictions"
    found = collect_predictions(project.settings, project.locations, destination, now=NOW)
    return found, pd.read_parquet(destination / "predictions.parquet")


def detect(project: Project) -> tuple[dict[str, Any], str]:
    place = project.place
    drift = detect_drift(
        project.settings, project.locations, place / "predictions", place / "drift", place / "drift.html"
    )
    found = json.loads((place / "drift" / "drift.json").read_text("utf-8"))
    assert Drift.read(place / "drift") == drift
    # What Evidently draws is a document in a frame.
    return {**drift.metadata(), **found}, html.unescape((place / "drift.html").read_text("utf-8"))


def test_broken_lines_are_counted_and_named_and_the_rest_is_read(project: Project) -> None:
    good = {"temperature": 20.5, "site": "größer ✓\u2028"}
    file = write_log(
        project,
        [
            line(good),
            line(good)[:50],
            "",
            line(good).encode().replace("größer".encode(), b"\xff\xfe"),
            b"\x00\x00",
            "[1]",
            "null",
            line({**good, "temperature": "12"}),
            line({**good, "temperature": True}),
            line({**good, "temperature": 1e300}),
            line({**good, "site": 3}),
            line(good, score=1.5),
            line(good, time=NOW).replace(NOW.isoformat(), "yesterday"),
            line({"temperature": None, "site": None}),
            line({"temperature": float("nan"), "site": ""}),
        ],
    )
    found, table = collect(project)
    assert found["rows"] == 3
    assert found["broken"]["lines"] == 11
    assert {example["file"] for example in found["broken"]["examples"]} == {str(file)}
    assert "whose temperature is no finite number" in {item["reason"] for item in found["broken"]["examples"]}
    features = pd.DataFrame(table["features"].tolist())
    assert sorted(features["site"].fillna("?")) == ["", "?", "größer ✓\u2028"]
    assert features["temperature"].isna().sum() == 2
    assert features["temperature"].dtype == "float64"


def test_only_answers_of_the_window_count_and_a_clock_that_is_ahead_is_told(project: Project) -> None:
    row = served(1)[0]
    lines = [
        line(row),
        line(row, shadow=True),
        line(row, time=NOW - timedelta(days=8)),
        line(row, time=NOW + timedelta(days=2)),
        line(row, time=NOW - timedelta(days=6, hours=23), version="2", entity=5),
        line(row, time=NOW - timedelta(hours=2)).replace("+00:00", ""),
    ]
    write_log(project, lines)
    write_log(project, [line(row, time=NOW + timedelta(days=400))], "2027-06-24")
    write_log(project, ["what is this"], "not-a-day")
    found, table = collect(project)
    assert found["versions"] == {"1": 2, "2": 1}
    assert found["left_out"] == {"shadow": 1, "outside": 1, "future": 2}
    assert found["entities"] == 1
    assert found["broken"]["lines"] == 0
    assert table["time"].is_monotonic_increasing


def test_no_prediction_at_all_is_said_plainly_and_decides_nothing(project: Project) -> None:
    found, table = collect(project)
    assert found["summary"] == "no predictions in 7 days"
    assert list(table.columns) == ["time", "request_id", "version", "entity", "features", "score", "decision"]
    drift, page = detect(project)
    assert drift["decision"] == "undecided"
    assert "0 predictions are too few" in page


def test_a_window_without_drift_keeps_the_model(project: Project) -> None:
    write_log(project, [line(row) for row in served(300, seed=1)])
    collect(project)
    drift, page = detect(project)
    assert drift["decision"] == "keep"
    assert drift["drifted"] == []
    assert "Keep the model" in page
    assert "Holm-corrected p-value" in page


def test_a_warmer_world_asks_for_retraining_and_the_page_needs_no_network(project: Project) -> None:
    write_log(project, [line(row) for row in served(300, seed=1, warmer=30)])
    collect(project)
    drift, page = detect(project)
    assert drift["decision"] == "retrain"
    assert drift["drifted"] == ["temperature"]
    assert drift["summary"] == "retrain: 1 feature drifted"
    assert "Production has moved" in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet" href="http' not in page


def test_an_outage_of_a_feature_is_drift(project: Project) -> None:
    write_log(project, [line({**row, "temperature": None}) for row in served(300, seed=1)])
    collect(project)
    drift, page = detect(project)
    assert drift["drifted"] == ["temperature"]
    assert "temperature is missing" in page


def test_asking_often_about_one_entity_is_no_evidence(project: Project) -> None:
    write_log(project, [line(row, entity=7) for row in served(300, seed=1, warmer=30)])
    collect(project)
    drift, _ = detect(project)
    assert drift["decision"] == "undecided"
    assert drift["predictions"] == {"window": 300, "champion": 300, "compared": 1}


def test_the_newest_prediction_of_an_entity_counts() -> None:
    frame = pd.DataFrame({"entity": ["a", None, "a", None, "b"], "score": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert independent(frame, seed=0)["score"].tolist() == [0.2, 0.3, 0.4, 0.5]


def test_predictions_of_another_version_are_not_compared(project: Project) -> None:
    write_log(project, [line(row, version="2") for row in served(300, seed=1, warmer=30)])
    collect(project)
    assert detect(project)[0]["predictions"] == {"window": 300, "champion": 0, "compared": 0}


def test_without_a_champion_the_run_stops_and_says_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path, f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(ContractViolation, match=r"No version of devices is in production yet.*lifecycle run training"):
        collect_predictions(project.settings, project.locations, tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


def test_a_window_must_end_at_a_time(project: Project) -> None:
    with pytest.raises(ContractViolation, match="as_of is 'tomorrow', which is no time"):
        collect_predictions(project.settings, project.locations, project.place / "predictions", as_of="tomorrow")


def test_an_earlier_window_can_be_looked_at_again(project: Project) -> None:
    row = served(1)[0]
    write_log(project, [line(row, time=NOW - timedelta(days=30)), line(row)], "2026-04-20")
    found = collect_predictions(
        project.settings, project.locations, project.place / "old", as_of="2026-04-21T00:00:00", now=NOW
    )
    assert (found["rows"], found["left_out"]["outside"], found["left_out"]["future"]) == (1, 1, 0)
