"""What a model learns from, beside what production is asked with: TFDV's skew comparator over the prediction log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from shop import make_project

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.components.monitoring.check_serving_skew.skew import compare_with_production
from tests.prediction_logs import logged, write_log
from tests.projects import read_project

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
FEATURES = [
    {"name": "amount", "type": "numeric"},
    {"name": "orders", "type": "numeric"},
    {"name": "paid_by", "type": "categorical"},
]
Row = dict[str, Any]


def customers(count: int, seed: int) -> list[Row]:
    """Features as they always are, some of them missing."""
    random = np.random.default_rng(seed)
    return [
        {
            "amount": None if random.random() < 0.1 else float(random.normal(50, 10)),
            "orders": float(random.poisson(3)),
            "paid_by": str(random.choice(["card", "cash", "wallet"], p=[0.6, 0.3, 0.1])),
        }
        for _ in range(count)
    ]


class Shop:
    """A shop with a training set, and a model that was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, 0
        self.project = read_project(make_project(folder / "shop", "duckdb:///shop.duckdb"))
        self.training_set = folder / "training_set"
        self.training_set.mkdir()
        TrainingSetDescription(entity="id", label="paid", features=FEATURES, snapshots={}).write(self.training_set)
        rows = "UNION ALL ".join(
            f"SELECT TIMESTAMP '{day}' AS event_timestamp, coalesce(amount, 'nan'::DOUBLE) + {shift} AS amount, "
            f"orders, paid_by FROM read_json('{self._json(customers(2000, seed=1))}') "
            # An older snapshot, when all was cheaper: it is not what production is held against.
            for day, shift in (("2026-01-01", -40), ("2026-04-01", 0))
        )
        duckdb.execute(f"COPY ({rows}) TO '{self.training_set / 'test.parquet'}' (FORMAT parquet)")

    def _json(self, rows: list[Row]) -> Path:
        file = self.folder / "rows.json"
        file.write_text(json.dumps(rows))
        return file

    def serve(self, rows: list[Row], shadow: bool = False, at: datetime = NOW - timedelta(hours=1)) -> None:
        """Write the log as the server does."""
        log = Path(self.project.locations.prediction_log) / "shop"
        lines = [
            logged(row, at, model="shop", decision=False, request_id=f"{i}", entity=f"{i}", shadow=shadow)
            for i, row in enumerate(rows)
        ]
        self.files += 1
        write_log(log, lines, [Feature(**item) for item in FEATURES], f"1-host-1-{self.files}")

    def compare(self) -> dict[str, Any]:
        return compare_with_production(
            self.project.settings, self.project.locations, self.training_set, self.folder / "report.md", now=NOW
        )

    @property
    def report(self) -> str:
        return (self.folder / "report.md").read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_features_that_are_served_as_they_are_learned_raise_nothing(shop: Shop) -> None:
    shop.serve(customers(500, seed=2))
    assert shop.compare() == {
        "summary": "0 of 3 features differ from what is served, by 500 predictions in 7 days",
        "predictions": 500,
        "checks": 3,
        "warnings": 0,
    }
    assert "0 of 3 features differ" in shop.report


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("amount", lambda row: {"amount": row["amount"] and row["amount"] * 100}),
        ("orders", lambda row: {"orders": row["orders"] + 4}),
        ("paid_by", lambda row: {"paid_by": "cash"}),
    ],
)
def test_a_feature_that_is_served_otherwise_is_a_warning_of_that_feature_alone(
    shop: Shop, feature: str, change: Callable[[Row], Row], capsys: pytest.CaptureFixture[str]
) -> None:
    shop.serve([row | change(row) for row in customers(500, seed=2)])
    assert shop.compare()["warnings"] == 1
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  features.")]
    assert f"features.{feature}: it is distributed as what is served (distance" in warning
    assert "requests bring the feature themselves" in warning
    assert next(line for line in shop.report.splitlines() if "differs**" in line).startswith(f"| `{feature}`")


def test_nothing_is_decided_by_few_predictions_or_by_those_that_nobody_got(shop: Shop) -> None:
    assert shop.compare()["summary"].startswith("0 predictions in 7 days, too few to compare")
    shop.serve(customers(99, seed=2))
    shop.serve(customers(500, seed=3), shadow=True)
    shop.serve(customers(500, seed=4), at=NOW - timedelta(days=8))
    assert shop.compare()["summary"] == ("99 predictions in 7 days, too few to compare (monitoring.min_window is 100)")


def test_a_feature_that_no_request_had_is_not_compared(shop: Shop) -> None:
    shop.serve([row | {"amount": None} for row in customers(500, seed=2)])
    assert shop.compare()["checks"] == 2
