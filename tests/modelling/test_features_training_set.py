"""A training set holds what was known at each snapshot, all labelled rows, and is the same each time."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore, FileSource, RepoConfig

from kfp_lifecycle.components.features.build_training_set import training_set as training_set_module
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.point_in_time import write_view_values
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import build, definitions_of
from tests.lending_library import START, Row, expected_features, some_readers_and_loans, write_project, write_tables
from tests.projects import read_project

ROOT = Path(__file__).resolve().parents[2]
AS_OF = START + timedelta(days=60)
PARTS = ("train", "validation", "test")


def build_from(
    folder: Path, readers: list[Row], loans: list[Row], changes: dict[str, Any] | None = None, as_of: datetime = AS_OF
) -> Path:
    project = write_project(folder / "project", changes)
    build(project, write_tables(folder / "tables", readers, loans, as_of), folder / "training_set")
    return folder / "training_set"


@pytest.fixture(scope="module")
def history() -> tuple[list[Row], list[Row]]:
    return some_readers_and_loans()


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory, history: tuple[list[Row], list[Row]]) -> Path:
    return build_from(tmp_path_factory.mktemp("library"), *history)


def files(folder: Path) -> list[Path]:
    return [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]


def frames(training_set: Path) -> dict[str, pd.DataFrame]:
    return {part: pd.read_parquet(training_set / f"{part}.parquet") for part in PARTS}


def test_each_row_holds_what_was_known_at_its_snapshot(
    training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    readers, loans = history
    rows = pd.concat(frames(training_set).values())
    for moment, at_once in rows.groupby("event_timestamp"):
        snapshot = moment.to_pydatetime()
        expected = expected_features(readers, loans, snapshot)
        assert set(at_once.reader_id) == set(expected)
        for row in at_once.itertuples():
            features = expected[row.reader_id]
            last = features.pop("last_loan_at")
            features["days_since_last_loan"] = None if last is None else (snapshot - last).total_seconds() / 86_400
            for name, value in features.items():
                found = getattr(row, name)
                wanted = float(value) if isinstance(value, bool | int) else value
                assert (pd.isna(found) and wanted is None) or found == pytest.approx(wanted), f"{name} of {row}"


def test_every_reader_of_every_snapshot_comes_out_once_with_the_label_that_followed(
    training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    readers, loans = history
    rows = pd.concat(frames(training_set).values())
    assert not rows.duplicated(["reader_id", "event_timestamp"]).any()
    for row in rows.itertuples():
        end = row.event_timestamp + timedelta(days=10)
        borrowed = any(
            loan["reader_id"] == row.reader_id and row.event_timestamp < loan["lent_at"] <= end for loan in loans
        )
        assert row.idle == (not borrowed)
    everyone = sum(
        reader["recorded_at"] <= moment.to_pydatetime()
        for moment in rows.event_timestamp.unique()
        for reader in readers
    )
    assert len(rows) == everyone


def test_whoever_is_there_at_the_newest_moment_is_kept_beside_the_parts_without_a_label(
    training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    rows = pd.read_parquet(training_set / "present.parquet")
    [moment] = rows.event_timestamp.unique()
    assert AS_OF <= moment.to_pydatetime() <= AS_OF + timedelta(seconds=1)
    assert "idle" not in rows
    expected = expected_features(*history, moment.to_pydatetime())
    assert rows.loans.tolist() == [expected[reader]["loans"] for reader in rows.reader_id]
    assert set(rows.reader_id) == set(expected)


def test_no_label_is_used_before_it_is_known(training_set: Path) -> None:
    parts, horizon = frames(training_set), timedelta(days=10)
    assert parts["train"].event_timestamp.max() + horizon <= parts["validation"].event_timestamp.min()
    assert parts["validation"].event_timestamp.max() + horizon <= parts["test"].event_timestamp.min()
    assert parts["test"].event_timestamp.max() + horizon <= AS_OF


def test_what_happens_after_the_newest_known_label_changes_nothing(
    tmp_path: Path, training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    readers, loans = history
    known = [loan for loan in loans if loan["lent_at"] <= AS_OF]
    built = build_from(tmp_path, readers, [*known, {**known[0], "loan_id": 9999, "lent_at": AS_OF + timedelta(days=1)}])
    for part in PARTS:
        assert (built / f"{part}.parquet").read_bytes() == (training_set / f"{part}.parquet").read_bytes()


def test_the_description_tells_what_is_there(training_set: Path) -> None:
    description, parts = json.loads((training_set / "training_set.json").read_text()), frames(training_set)
    assert description["entity"] == "reader_id"
    assert description["label"] == "idle"
    assert {feature["name"]: feature["type"] for feature in description["features"]} == {
        "loans": "numeric",
        "pages": "numeric",
        "average_pages": "numeric",
        "likes_poetry": "numeric",
        "genre": "categorical",
        "days_since_last_loan": "numeric",
    }
    assert description["sensitive"] == ["town"]
    assert description["rows"] == {part: len(frame) for part, frame in parts.items()}
    assert description["positives"] == {part: frame.idle.sum() for part, frame in parts.items()}
    for part, frame in parts.items():
        assert description["snapshots"][part] == sorted(frame.event_timestamp.dt.strftime("%Y-%m-%d").unique())
        assert list(frame) == [
            "reader_id", "event_timestamp", "idle", "best_possible",
            *(feature["name"] for feature in description["features"]), "town",
        ]  # fmt: skip
        assert all(frame[feature["name"]].dtype == float for feature in description["features"][:4])
        assert frame.equals(frame.sort_values(["event_timestamp", "reader_id"], ignore_index=True))
    assert description["left_out"] == ["2025-02-05", "2025-02-15"]


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    again = build_from(tmp_path, *history)
    for file in files(training_set):
        assert (again / file).read_bytes() == (training_set / file).read_bytes(), file


def test_a_join_in_many_small_batches_gives_the_same_rows(
    tmp_path: Path, training_set: Path, history: tuple[list[Row], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_set_module, "BATCH_ROWS", 70)
    batched = frames(build_from(tmp_path, *history))
    for part, rows in frames(training_set).items():
        pd.testing.assert_frame_equal(batched[part], rows)


@pytest.mark.parametrize(("freshness_days", "last_known"), [(9, "2025-01-31"), (10, "2025-02-10")])
def test_a_value_older_than_the_freshness_is_missing(
    tmp_path: Path, history: tuple[list[Row], list[Row]], freshness_days: int, last_known: str
) -> None:
    changes: dict[str, Any] = {
        "feature_repo/person.sql": "SELECT reader_id, town FROM readers WHERE $as_of <= TIMESTAMP '2025-01-31'",
        "pipeline.yaml": ("freshness_days: 7", f"freshness_days: {freshness_days}"),
    }
    rows = pd.concat(frames(build_from(tmp_path, *history, changes)).values())
    assert rows[rows.town.notna()].event_timestamp.max() == pd.Timestamp(last_known, tz="UTC")


def labelled(expression: str) -> dict[str, str]:
    sql = (
        f"SELECT reader_id, {expression} AS idle FROM readers WHERE joined_at <= $snapshot AND recorded_at <= $snapshot"
    )
    return {"feature_repo/label.sql": sql}


def loans_with(expression: str) -> dict[str, tuple[str, str]]:
    return {"feature_repo/loans_so_far.sql": ("sum(pages) AS pages", f"{expression} AS pages")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (labelled("1"), r"All [\d,]+ train rows have idle = 1"),
        (labelled("0"), r"All [\d,]+ train rows have idle = 0.*label\.sql"),
        (labelled("reader_id % 2 + 0.5"), r"label every reader_id 0 or 1.*it gave 1\.5 for reader_id"),
        (labelled("if(reader_id = 3, NULL, reader_id % 2)"), r"it gave None for reader_id 3 \(1 such rows\)"),
        ({"feature_repo/label.sql": None}, r"There is no .*label\.sql"),
        ({"feature_repo/label.sql": "SELECT reader_id FROM readers"}, r"label\.sql returns no column idle"),
        (loans_with("NULL"), r"Never known in the [\d,]+ training rows: loans_so_far:pages"),
        (
            loans_with("sum(pages::DOUBLE) * 'inf'::DOUBLE"),
            r"loans_so_far\.sql: pages is infinite for reader_id \d+ \([\d,]+ such rows\).*nullif",
        ),
        (loans_with("max(genre)"), r"loans_so_far\.sql: pages is (poetry|crime) \(VARCHAR\).*no Float64"),
        ({"pipeline.yaml": ("horizon_days: 10", "horizon_days: 50")}, r"too few for 1 to test, 1 to validate"),
    ],
)
def test_a_training_set_that_cannot_be_trusted_is_refused_and_leaves_nothing(
    tmp_path: Path, history: tuple[list[Row], list[Row]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractViolation, match=message):
        build_from(tmp_path, *history, changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "tables"]


def test_a_row_that_the_join_loses_stops_the_run(
    tmp_path: Path, history: tuple[list[Row], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = FeatureHistory._joined
    monkeypatch.setattr(FeatureHistory, "_joined", lambda self, *arguments: joined(self, *arguments).slice(1))
    with pytest.raises(ContractViolation, match="none may be lost"):
        build_from(tmp_path, *history)


def test_the_join_gives_what_feast_gives_bit_for_bit(tmp_path: Path, history: tuple[list[Row], list[Row]]) -> None:
    # A view that falls silent: its values are first old, then too old.
    silent = {"feature_repo/person.sql": "SELECT reader_id, town FROM readers WHERE $as_of <= TIMESTAMP '2025-01-31'"}
    project = write_project(tmp_path / "project", silent)
    definitions = definitions_of(project)
    moments = [START + timedelta(days=day) for day in (20, 25, 30, 35, 40)]
    tables, values = write_tables(tmp_path / "tables", *history), tmp_path / "values"
    write_view_values(
        tables, read_project(project).settings.source.tables, definitions, definitions.views, moments, values
    )
    rows = [{"reader_id": reader, "event_timestamp": moment} for moment in moments for reader in range(1, 45)]
    entities = pa.Table.from_pylist(rows).cast(
        pa.schema([("reader_id", pa.int64()), ("event_timestamp", pa.timestamp("us", "UTC"))])
    )
    stored = [copy.copy(view) for view in definitions.views.values()]
    for view in stored:
        view.batch_source = FileSource(path=str(values / view.name / "*.parquet"), timestamp_field="event_timestamp")
    store = FeatureStore(
        config=RepoConfig(
            project="library",
            provider="local",
            registry={"path": str(tmp_path / "registry.db")},
            offline_store={"type": "duckdb"},
            online_store=None,
            entity_key_serialization_version=3,
        )
    )
    store.apply([definitions.entity, *stored])
    sources = definitions.sources((*definitions.features, *definitions.sensitive))
    feasts = store.get_historical_features(entity_df=entities.to_pandas(), features=sources).to_arrow()
    feasts = feasts.sort_by([("event_timestamp", "ascending"), ("reader_id", "ascending")])
    ours = FeatureHistory(definitions, values)._joined(entities, sources)
    for source in sources:
        name = source.partition(":")[2]
        assert [*map(repr, ours[name].to_pylist())] == [*map(repr, feasts[name].to_pylist())], source
    towns = dict(zip(moments, (ours["town"].slice(n * 44, 44).null_count for n in range(5)), strict=True))
    assert towns[moments[-1]] == 44
    assert towns[moments[2]] < 44


def test_snapshots_before_the_first_customer_are_not_counted(tmp_path: Path) -> None:
    readers, loans = some_readers_and_loans(count=200, days=40)
    description = json.loads(
        (build_from(tmp_path, readers, loans, as_of=START + timedelta(days=40)) / "training_set.json").read_text()
    )
    first = min(reader["recorded_at"] for reader in readers)
    assert description["snapshots"]["train"][0] >= f"{first:%Y-%m-%d}"
    assert datetime.fromisoformat(description["as_of"]) == datetime(2025, 2, 10, tzinfo=UTC)
    assert description["key_type"] == "BIGINT"


# In the environment that versions data.
THERE_AND_BACK = """
import sys
from pathlib import Path
from kfp_lifecycle.components.data.version_dataset.versioning import checkout, save_version
tables, remote, handed_on, back = map(Path, sys.argv[1:])
checkout(save_version(tables, str(remote), handed_on), str(remote), back)
"""


@pytest.mark.slow
def test_a_training_set_can_be_rebuilt_byte_for_byte_from_the_version_of_its_data(
    tmp_path: Path, history: tuple[list[Row], list[Row]]
) -> None:
    built = build_from(tmp_path, *history)
    places = [tmp_path / name for name in ("tables", "remote", "snapshot", "back")]
    command = [str(interpreter("validation")), "-c", THERE_AND_BACK, *map(str, places)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    for tables in ("snapshot", "back"):
        build(tmp_path / "project", tmp_path / tables, tmp_path / "again")
        for file in files(built):
            assert (tmp_path / "again" / file).read_bytes() == (built / file).read_bytes(), f"{file} from {tables}"


def test_labelled_rows_that_no_part_holds_are_counted(training_set: Path, history: tuple[list[Row], list[Row]]) -> None:
    description, (readers, _) = json.loads((training_set / "training_set.json").read_text()), history
    left_out = [datetime.fromisoformat(f"{day}T22:01:54+00:00") for day in description["left_out"]]
    there = sum(reader["recorded_at"] <= moment for reader in readers for moment in left_out)
    assert description["rows_left_out"] == there > 0


def test_after_a_change_its_dates_are_divided_by_entity_and_earlier_rows_train_if_known_by_then(
    tmp_path: Path, training_set: Path, history: tuple[list[Row], list[Row]]
) -> None:
    split = "split: {validation_snapshots: 1, test_snapshots: 1"
    built = build_from(tmp_path, *history, {"pipeline.yaml": (split, f"{split}, since: 2025-02-12")})
    description, parts = json.loads((built / "training_set.json").read_text()), frames(built)
    new = description["snapshots"]["test"]
    assert description["divided_since"] == new[0] == "2025-02-15"
    assert description["snapshots"]["validation"] == new
    assert description["snapshots"]["train"] == sorted([*description["snapshots"]["train"], *new][: -len(new)])
    first = parts["test"].event_timestamp.min()
    readers = {part: set(frame.reader_id[frame.event_timestamp >= first]) for part, frame in parts.items()}
    assert all(readers.values()), "every part has rows after the change"
    assert not readers["train"] & (readers["validation"] | readers["test"])
    assert not readers["validation"] & readers["test"]
    others, earlier = readers["validation"] | readers["test"], parts["train"][parts["train"].event_timestamp < first]
    of_others = earlier[earlier.reader_id.isin(others)]
    assert len(of_others) > 0
    assert (of_others.event_timestamp + timedelta(days=10) <= first).all()
    assert (earlier.event_timestamp + timedelta(days=10) > first).any()
    everyone = sum(json.loads((training_set / "training_set.json").read_text())["rows"].values())
    everyone += json.loads((training_set / "training_set.json").read_text())["rows_left_out"]
    assert sum(description["rows"].values()) + description["rows_left_out"] == everyone
    assert "figures say nothing of later months" in description["notes"][-1]


def test_the_quality_of_each_view_is_described(training_set: Path, history: tuple[list[Row], list[Row]]) -> None:
    train = frames(training_set)["train"]
    loans, recency = json.loads((training_set / "training_set.json").read_text())["quality"]
    newest = max(loan["lent_at"] for loan in history[1] if loan["lent_at"] <= AS_OF and loan["recorded_at"] <= AS_OF)
    assert datetime.fromisoformat(loans["newest_row"]) == newest
    assert loans["age_days"] == (AS_OF - newest).total_seconds() / 86_400
    assert (recency["newest_row"], recency["age_days"]) == (None, None)
    by_name = {entry["feature"]: entry for view in (loans, recency) for entry in view["features"]}
    assert list(by_name) == [*train.columns[4:-1]]
    pages, genre = by_name["pages"], by_name["genre"]
    assert pages["missing"] == train.pages.isna().mean()
    assert pages["mean"] == pytest.approx(train.pages.mean())
    assert pages["quantiles"] == pytest.approx(train.pages.quantile([0, 0.25, 0.5, 0.75, 1]).tolist())
    assert genre["distinct"] == 2
    shares = train.genre.value_counts(normalize=True)
    assert {each["value"]: each["share"] for each in genre["most_frequent"]} == pytest.approx(shares.to_dict())
