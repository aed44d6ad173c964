"""Labels are known as far as their own tables reach, and a break in their rate has a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.artifacts.training_set import LabelRate, TrainingSetDescription
from kfp_lifecycle.components.features.build_training_set.label_rate import breaks
from kfp_lifecycle.components.features.build_training_set.label_span import (
    LabelSpan,
    is_own_table,
    label_span,
    rhythm_of,
)
from kfp_lifecycle.features.offline.point_in_time import session, show_tables
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import build, definitions_of
from tests.lending_library import START, Row, some_readers_and_loans, write_project, write_tables
from tests.projects import read_project

DAY = timedelta(days=1)
AS_OF = START + 60 * DAY
MORE = {"pipeline.yaml": ("count: 9", "count: 6")}


def built(folder: Path, readers: list[Row], loans: list[Row], changes: Any = None) -> TrainingSetDescription:
    project = write_project(folder / "project", changes)
    description: TrainingSetDescription = build(
        project, write_tables(folder / "tables", readers, loans, AS_OF), folder / "training_set"
    )
    assert TrainingSetDescription.read(folder / "training_set") == description
    return description


def test_where_all_tables_reach_to_the_end_labels_are_known_until_then(tmp_path: Path) -> None:
    description = built(tmp_path, *some_readers_and_loans())
    assert description.labels_until == description.as_of == AS_OF
    assert description.snapshots["test"] == [f"{AS_OF - 10 * DAY:%Y-%m-%d}"]
    assert description.notes == []
    used = sum(description.rows.values()) + description.rows_left_out
    assert sum(rate.rows for rate in description.label_rates) == used
    assert [rate.snapshot for rate in description.label_rates] == sorted(
        [*(day for days in description.snapshots.values() for day in days), *description.left_out]
    )


@pytest.mark.parametrize("silent_days", [4, 15])
def test_the_label_s_own_table_bounds_what_is_labelled(tmp_path: Path, silent_days: int) -> None:
    readers, loans = some_readers_and_loans()
    told = [loan for loan in loans if loan["lent_at"] <= AS_OF - silent_days * DAY]
    description = built(tmp_path, readers, told, MORE)
    newest = max(loan["lent_at"] for loan in told)
    assert description.labels_until == newest
    assert description.as_of == AS_OF
    assert description.snapshots["test"] == [f"{newest - 10 * DAY:%Y-%m-%d}"]
    [note] = description.notes
    assert note.startswith("The table loans, which feature_repo/label.sql reads the label from, ends at 2025-02-")
    assert "it lags" in note
    assert description.metadata()["notes"] == [note]
    # A label beyond the table's end would say that everybody is idle.
    assert max(rate.rate for rate in description.label_rates) < 0.8


def test_too_few_snapshots_for_want_of_labels_are_said_to_be_that(tmp_path: Path) -> None:
    readers, loans = some_readers_and_loans()
    told = [loan for loan in loans if loan["lent_at"] <= START + 12 * DAY]
    with pytest.raises(ContractViolation, match=r"too few for 1 to test.* The table loans, .* it lags"):
        built(tmp_path, readers, told)


def test_a_table_is_the_label_s_own_where_its_later_rows_change_labels(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(), AS_OF)
    read = read_project(project)
    with session(tables) as connection:
        show_tables(connection, tables, read.settings.source.tables, as_of=None)
        given = (read.settings, definitions_of(project), read.label_query, tables)
        # Readers and answers are read too, and say only who was there and what could be known.
        names = list(read.settings.source.tables)
        assert [name for name in names if is_own_table(name, connection, *given)] == ["loans"]
        # All tables are whole again.
        [(loans,)] = connection.execute("SELECT max(lent_at) FROM loans").fetchall()
        assert loans.replace(tzinfo=UTC) > AS_OF - DAY


def test_a_table_that_was_often_silent_for_long_does_not_lag(tmp_path: Path) -> None:
    readers, loans = some_readers_and_loans()
    # Loans are told once a week.
    weekly = [{**loan, "lent_at": START + timedelta(days=7 * ((loan["lent_at"] - START).days // 7))} for loan in loans]
    told = [loan for loan in weekly if loan["lent_at"] <= AS_OF - 8 * DAY]
    tables = write_tables(tmp_path / "tables", readers, told, AS_OF)
    project = write_project(tmp_path / "project")
    read = read_project(project)
    with session(tables) as connection:
        show_tables(connection, tables, read.settings.source.tables, None)
        newest, pause = rhythm_of(connection, "loans", "lent_at")
    assert pause >= 7 * DAY
    assert AS_OF - newest < 2 * pause
    span = label_span(read.settings, definitions_of(project), read.label_query, tables, AS_OF)
    assert span == LabelSpan(AS_OF, [])


def rates(*shares: float, rows: int = 1000) -> list[LabelRate]:
    days = [datetime(2025, 1, 1) + number * 30 * DAY for number in range(len(shares))]
    return [
        LabelRate(snapshot=f"{day:%Y-%m-%d}", rows=rows, positives=round(share * rows))
        for day, share in zip(days, shares, strict=True)
    ]


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ((0.157, 0.16, 0.155, 0.47, 0.468), ["2025-04-01"]),
        ((0.157, 0.16, 0.155, 0.150, 0.02), ["2025-05-01"]),
        ((0.2, 0.0, 0.2), ["2025-01-31", "2025-03-02"]),
        ((0.5, 1.0), ["2025-01-31"]),
        ((0.05, 0.06, 0.07, 0.08, 0.1, 0.12), []),
        ((0.05, 0.06, 0.05, 0.06), []),
        ((0.1, 0.1), []),
        ((0.3,), []),
        ((), []),
    ],
)
def test_a_break_in_the_label_s_rate_is_named(shares: tuple[float, ...], named: list[str]) -> None:
    notes = breaks(rates(*shares), "label.sql")
    assert [note.split(" breaks at ")[1][:10] for note in notes] == named


def test_chance_in_few_rows_is_no_break() -> None:
    assert breaks(rates(0.1, 0.4, rows=20), "label.sql") == []
    assert breaks(rates(0.1, 0.4, rows=400), "label.sql") != []


def test_a_break_is_found_in_what_is_built(tmp_path: Path) -> None:
    readers, loans = some_readers_and_loans(count=200)
    # From day 40 on nine loans in ten are missing.
    told = [loan for loan in loans if loan["lent_at"] <= START + 40 * DAY or loan["loan_id"] % 10 == 0]
    description = built(tmp_path, readers, told, MORE)
    assert any("The label's rate breaks at 2025-02-" in note for note in description.notes)
