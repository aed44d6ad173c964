"""The history of windows: one record for each model, version and window's end, however often it is looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.audit.record import open_record
from kfp_lifecycle.monitoring.history import (
    BusinessFigure,
    WindowRecord,
    figures,
    read_history,
    record_window,
    retrainings,
)
from kfp_lifecycle.monitoring.told_windows import main, read_told
from kfp_lifecycle.registry.tracking import connect, experiment_id
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.new_registry import new_registry

pytestmark = pytest.mark.slow
END = datetime(2026, 6, 1, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_registry(tmp_path_factory.mktemp("history") / "mlflow.db")


def window(week: int = 0, **changes: Any) -> WindowRecord:
    end = END + timedelta(weeks=week)
    values: dict[str, Any] = {
        "model": "churn", "version": "1", "start": end - timedelta(days=7), "end": end, "predictions": 1_500,
        "compared": 1_400, "mean_score": 0.07, "verdict": "keep", "remedy": "nothing", "sentence": "Keep: nothing.",
    }  # fmt: skip
    return WindowRecord(**(values | changes))


def test_a_window_that_is_looked_at_again_is_updated_in_its_place(tracking_uri: str) -> None:
    auc = Metric(0.78, 0.75, 0.81, 900)
    first = record_window(tracking_uri, "again", window(mean_score=0.09, roc_auc=auc))
    found = window(mean_score=0.05, verdict="broken data", remedy="repair", drifted=["größe"], observed=4, expected=3.5)
    assert record_window(tracking_uri, "again", found) == first
    assert read_history(tracking_uri, "again", "churn") == [found]
    # What MLflow draws is what was found last, too: the lower score, and no more the ROC AUC.
    metrics = connect(tracking_uri).get_run(first).data.metrics
    assert metrics["mean_score"] == 0.05
    assert metrics["roc_auc"] != metrics["roc_auc"]


def test_windows_come_in_their_order_and_those_after_a_moment_do_not(tracking_uri: str) -> None:
    for week in (2, 0, 1):
        record_window(tracking_uri, "order", window(week))
    record_window(tracking_uri, "order", window(1, version="2"))
    record_window(tracking_uri, "order", window(0, model="another"))
    found = read_history(tracking_uri, "order", "churn", until=END + timedelta(weeks=1))
    assert [(record.end, record.version) for record in found] == [
        (END, "1"),
        (END + timedelta(weeks=1), "1"),
        (END + timedelta(weeks=1), "2"),
    ]
    assert len(read_history(tracking_uri, "order", "churn", windows=2)) == 2


def test_where_nothing_was_looked_at_there_is_no_history(tracking_uri: str) -> None:
    assert read_history(tracking_uri, "nobody", "churn") == []


def test_what_a_training_came_to_is_found_by_the_run_that_asked_for_it(tracking_uri: str) -> None:
    client = connect(tracking_uri)
    trained = client.create_run(experiment_id(client, tracking_uri, "loop"))
    for name, value in (("asked_by", "monitoring-7"), ("decision", "rejected"), ("verdict", "It is not better.")):
        client.set_tag(trained.info.run_id, name, value)
    client.create_run(experiment_id(client, tracking_uri, "loop"))
    client.create_registered_model("churn")
    client.create_model_version("churn", source="file:///of-another", run_id=None)
    client.create_model_version("churn", source="file:///of-it", run_id=trained.info.run_id)
    found = retrainings(tracking_uri, "loop", [window(runs=["id-7", "monitoring-7"]), window(1, runs=["8"])])
    assert {name: (item.decision, item.verdict, item.version) for name, item in found.items()} == {
        "monitoring-7": ("rejected", "It is not better.", "2")
    }


def test_whoever_has_no_mlflow_is_told_the_newest_windows_with_what_was_done(
    tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = {"verdict": "model is worse", "remedy": "roll back", "version": "2", "sentence": "Roll back."}
    for found in (window(0), window(1, **worse), window(2)):
        record_window(tracking_uri, "told", found)
    audit = open_record(str(tmp_path / "audit.jsonl"))
    back = audit.append("traffic returned", "churn", "1", details={"champion": "2"})
    main([tracking_uri, "told", "churn", audit.place, "2"])
    told = read_told(capsys.readouterr().out)
    assert [(item.record.end, item.done.state) for item in told] == [
        (END + timedelta(weeks=2), "nothing to do"),
        (END + timedelta(weeks=1), "resolved"),
    ]
    assert told[1].done.sentence.startswith("rolled back to version 1 on ")
    assert told[1].done.sentence.endswith(f" by {back.by}")
    with pytest.raises(SystemExit, match="cannot be reached"):
        main(["http://127.0.0.1:9", "told", "churn", "", "2"])


def test_money_is_among_the_figures_and_a_long_sentence_is_cut(tracking_uri: str) -> None:
    value = BusinessFigure(title="Value", unit="money", per=1000, value=Metric(12.0, 10.0, 14.0, 500))
    found = window(business={"value": value}, sentence="word " * 2_000)
    assert figures(found)["business.value.low"] == 10.0
    record_window(tracking_uri, "money", found)
    [read] = read_history(tracking_uri, "money", "churn")
    assert read.business == {"value": value}
    assert len(read.sentence) == 1_500


def test_a_run_of_somebody_else_in_the_experiment_is_no_window(tracking_uri: str) -> None:
    record_window(tracking_uri, "foreign", window())
    client = connect(tracking_uri)
    place = experiment_id(client, tracking_uri, "monitoring/foreign")
    client.create_run(place, tags={"model": "churn", "window": '{"model": 1}'})
    assert read_history(tracking_uri, "foreign", "churn") == [window()]


def test_a_server_that_is_away_is_named() -> None:
    with pytest.raises(ContractViolation, match=r"MLflow tracking server at 127\.0\.0\.1:9 cannot be reached"):
        read_history("http://127.0.0.1:9", "churn", "churn")
