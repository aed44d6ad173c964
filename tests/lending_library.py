"""A tiny project for the feature steps: readers of a lending library, and who will borrow nothing for a while.

Each feature has a plain Python reference beside it, so that the SQL has something to agree with.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.config.locations import Locations
from tests.projects import save_locations

Row = dict[str, Any]

START = datetime(2025, 1, 1, tzinfo=UTC)
READERS = pa.schema(
    [
        ("reader_id", pa.int64()),
        ("joined_at", pa.timestamp("us")),
        ("recorded_at", pa.timestamp("us")),
        ("town", pa.string()),
    ]
)
LOANS = pa.schema(
    [
        ("loan_id", pa.int64()),
        ("reader_id", pa.int64()),
        ("lent_at", pa.timestamp("us")),
        ("recorded_at", pa.timestamp("us")),
        ("pages", pa.float64()),
        ("genre", pa.string()),
    ]
)
ANSWERS = pa.schema([("reader_id", pa.int64()), ("day", pa.date32()), ("probability", pa.float64())])

PIPELINE = """
name: library
title: Idle readers
entity: {name: reader, key: reader_id}
source:
  url: file:///unused
  tables:
    readers: {key: [reader_id], event_time: joined_at, arrival_time: recorded_at}
    loans: {key: [loan_id], event_time: lent_at, arrival_time: recorded_at}
    answers: {key: [reader_id, day], event_time: day, label_only: true}
snapshots: {every_days: 5, count: 9}
label: {name: idle, title: borrows nothing for 10 days, horizon_days: 10}
split: {validation_snapshots: 1, test_snapshots: 1}
features: {service: reading, sensitive: ["person:town"], freshness_days: 7}
gate: {rules: [{metric: performance.roc_auc, min: 0.5}]}
deployment: {model: library}
"""

FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64, String, UnixTimestamp

reader = Entity(name="reader", join_keys=["reader_id"], value_type=ValueType.INT64)


def view(name, **features):
    return FeatureView(
        name=name,
        entities=[reader],
        schema=[Field(name="reader_id", dtype=Int64), *(Field(name=n, dtype=t) for n, t in features.items())],
        source=FileSource(path=f"{name}.parquet", timestamp_field="event_timestamp"),
    )


loans_so_far = view(
    "loans_so_far",
    loans=Int64,
    pages=Float64,
    average_pages=Float64,
    likes_poetry=Bool,
    genre=String,
    last_loan_at=UnixTimestamp,
)
person = view("person", town=String)
request = RequestSource(name="request", schema=[Field(name="request_time", dtype=UnixTimestamp)])


@on_demand_feature_view(
    sources=[loans_so_far[["last_loan_at"]], request],
    schema=[Field(name="days_since_last_loan", dtype=Float64)],
    mode="python",
)
def recency(inputs):
    pairs = zip(inputs["last_loan_at"], inputs["request_time"])
    return {"days_since_last_loan": [None if t is None else (now - t).total_seconds() / 86400 for t, now in pairs]}


reading = FeatureService(
    name="reading",
    features=[loans_so_far[["loans", "pages", "average_pages", "likes_poetry", "genre"]], recency],
)
"""

LOANS_SO_FAR = """
-- As known at $as_of.
WITH summary AS (
    SELECT
        reader_id,
        count(*) AS loans,
        sum(pages) AS pages,
        avg(pages) AS average_pages,
        bool_or(genre = 'poetry') AS likes_poetry,
        max_by(genre, (lent_at, loan_id)) AS genre,
        max(lent_at) AS last_loan_at
    FROM loans
    GROUP BY reader_id
)
SELECT readers.reader_id, coalesce(loans, 0) AS loans, summary.* EXCLUDE (reader_id, loans)
FROM readers
LEFT JOIN summary USING (reader_id);
"""

PERSON = "SELECT reader_id, town FROM readers"

LABEL = """
SELECT
    readers.reader_id,
    NOT EXISTS (
        FROM loans WHERE loans.reader_id = readers.reader_id AND lent_at > $snapshot AND lent_at <= $horizon
    ) AS idle,
    answers.probability AS best_possible
FROM readers
LEFT JOIN answers ON answers.reader_id = readers.reader_id AND answers.day = $snapshot::DATE
WHERE joined_at <= $snapshot AND readers.recorded_at <= $snapshot
"""

FILES = {
    "pipeline.yaml": PIPELINE,
    "feature_repo/features.py": FEATURES,
    "feature_repo/loans_so_far.sql": LOANS_SO_FAR,
    "feature_repo/person.sql": PERSON,
    "feature_repo/label.sql": LABEL,
}


def write_project(folder: Path, changes: Mapping[str, tuple[str, str] | str | None] | None = None) -> Path:
    """Write the project, with some files changed: a text in its place, (old, new) within it, or None for no file."""
    for name, text in FILES.items():
        change = (changes or {}).get(name, text)
        if isinstance(change, tuple):
            assert change[0] in text, f"{name} does not hold {change[0]!r}"
            change = text.replace(*change)
        if change is not None:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(change)
    store, log = folder.parent / "online" / "library.db", folder.parent / "predictions"
    save_locations(
        Locations(
            tracking_uri="-", dataset_remote="-", online_store=str(store), prediction_log=str(log), serving="local:-"
        ),
        folder,
    )
    return folder


def write_tables(folder: Path, readers: Iterable[Row], loans: Iterable[Row], as_of: datetime | None = None) -> Path:
    """Write the tables and their manifest as the validation step hands them on; every answer is 0.5."""
    readers, loans = list(readers), list(loans)
    folder.mkdir(parents=True, exist_ok=True)
    days = [START.date() + timedelta(days=day) for day in range(70)]
    answers = [{"reader_id": r["reader_id"], "day": day, "probability": 0.5} for r in readers for day in days]
    tables = {"readers": (READERS, readers), "loans": (LOANS, loans), "answers": (ANSWERS, answers)}
    for name, (schema, rows) in tables.items():
        pq.write_table(
            pa.Table.from_pylist([_without_zone(row) for row in rows], schema=schema), folder / f"{name}.parquet"
        )
    as_of = as_of or max((row["lent_at"] for row in loans), default=START)
    summaries = {name: {"rows": len(rows), "columns": {}} for name, (_, rows) in tables.items()}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "as_of": as_of.isoformat(), "tables": summaries}))
    return folder


def some_readers_and_loans(count: int = 40, days: int = 60, seed: int = 1) -> tuple[list[Row], list[Row]]:
    """Readers who join over time and borrow for a while, some rows arriving days late, some values unknown."""
    chance = random.Random(seed)
    readers, loans = [], []
    for reader_id in range(1, count + 1):
        joined = START + timedelta(seconds=chance.randrange(0, 30 * 86_400))
        readers.append(
            {
                "reader_id": reader_id,
                "joined_at": joined,
                "recorded_at": joined + timedelta(minutes=chance.randrange(0, 600)),
                "town": chance.choice(["Ulm", "Lund", None]),
            }
        )
        rhythm = chance.choice([2, 5, 15])
        lent = joined + timedelta(days=chance.random() * rhythm)
        while lent < START + timedelta(days=days):
            loans.append(
                {
                    "loan_id": len(loans) + 1,
                    "reader_id": reader_id,
                    "lent_at": lent,
                    "recorded_at": lent + timedelta(days=chance.choice([0, 0, 0, 3])),
                    "pages": chance.choice([None, 0.1, 0.2, 0.7, 333.3]),
                    "genre": chance.choice(["crime", "poetry", None]),
                }
            )
            lent += timedelta(seconds=chance.randrange(1, int(rhythm * 2 * 86_400)))
    return readers, loans


def expected_features(readers: Iterable[Row], loans: Iterable[Row], as_of: datetime) -> dict[int, Row]:
    """What each reader's stored features are as of a moment, the slow and obvious way."""

    def known(row: Row, happened: str) -> bool:
        return row[happened] <= as_of and row["recorded_at"] is not None and row["recorded_at"] <= as_of

    features = {}
    for reader in readers:
        if not known(reader, "joined_at"):
            continue
        own = [loan for loan in loans if loan["reader_id"] == reader["reader_id"] and known(loan, "lent_at")]
        pages = [loan["pages"] for loan in own if loan["pages"] is not None]
        poetry = [loan["genre"] == "poetry" for loan in own if loan["genre"] is not None]
        named = [loan for loan in own if loan["genre"] is not None]
        features[reader["reader_id"]] = {
            "loans": len(own),
            "pages": sum(pages) if pages else None,
            "average_pages": sum(pages) / len(pages) if pages else None,
            "likes_poetry": any(poetry) if poetry else None,
            "genre": max(named, key=lambda loan: (loan["lent_at"], loan["loan_id"]))["genre"] if named else None,
            "last_loan_at": max(loan["lent_at"] for loan in own).replace(microsecond=0) if own else None,
        }
    return features


def _without_zone(row: Row) -> Row:
    return {name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in row.items()}
