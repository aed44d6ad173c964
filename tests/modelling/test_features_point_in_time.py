"""A feature as of a moment sees nothing that happened, or arrived, after it."""

from __future__ import annotations

import math
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_lifecycle.features.offline.point_in_time import session, show_tables, view_values
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import definitions_of
from tests.lending_library import START, expected_features, some_readers_and_loans, write_project, write_tables
from tests.projects import read_project

seconds = st.integers(0, 20 * 86_400)
moments = seconds.map(lambda passed: START + timedelta(seconds=passed))
delays = st.one_of(st.just(timedelta()), st.integers(1, 5 * 86_400).map(lambda passed: timedelta(seconds=passed)))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A few readers and loans, at any times, arriving at once, late, or nobody knows when."""
    readers = [
        {
            "reader_id": number,
            "joined_at": (joined := draw(moments)),
            "recorded_at": joined + draw(delays),
            "town": None,
        }
        for number in range(draw(st.integers(1, 3)))
    ]
    loans = []
    for number in range(draw(st.integers(0, 8))):
        lent = draw(moments)
        arrived = draw(st.one_of(st.none(), delays.map(lambda delay, lent=lent: lent + delay)))
        loans.append(
            {
                "loan_id": number,
                "reader_id": draw(st.integers(0, 3)),
                "lent_at": lent,
                "recorded_at": arrived,
                "pages": draw(st.sampled_from([None, 1.0, 2.5])),
                "genre": draw(st.sampled_from([None, "crime", "poetry"])),
            }
        )
    return readers, loans


def values_as_of(project: Path, tables: Path, as_of: datetime, view: str = "loans_so_far") -> dict[int, dict[str, Any]]:
    with session(tables) as connection:
        show_tables(connection, tables, read_project(project).settings.source.tables, as_of)
        rows = view_values(connection, definitions_of(project), view, as_of).read_all().to_pylist()
    assert all(row.pop("event_timestamp") == as_of for row in rows)
    return {row.pop("reader_id"): row for row in rows}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("library") / "project")


@settings(max_examples=60, deadline=None)
@given(history=histories(), as_of=moments)
def test_a_feature_sees_only_what_had_happened_and_had_arrived(
    project: Path, history: tuple[list[dict[str, Any]], list[dict[str, Any]]], as_of: datetime
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = values_as_of(project, write_tables(Path(folder), *history), as_of)
    expected = expected_features(*history, as_of)
    assert found.keys() == expected.keys()
    for reader, features in expected.items():
        for name, value in features.items():
            same = (
                math.isclose(found[reader][name], value) if isinstance(value, float) else found[reader][name] == value
            )
            assert same, f"reader {reader}: {name} is {found[reader][name]}, not {value}"


def test_later_rows_change_nothing(project: Path, tmp_path: Path) -> None:
    readers, loans = some_readers_and_loans()
    as_of = START + timedelta(days=40)
    known = [loan for loan in loans if loan["lent_at"] <= as_of and loan["recorded_at"] <= as_of]
    assert len(known) < len(loans)
    before = values_as_of(project, write_tables(tmp_path / "then", readers, known), as_of)
    assert values_as_of(project, write_tables(tmp_path / "now", readers, loans), as_of) == before


def test_a_table_for_the_label_alone_is_out_of_a_features_reach(tmp_path: Path) -> None:
    cheating = "SELECT reader_id, max(probability) AS town FROM answers GROUP BY reader_id"
    project = write_project(tmp_path / "project", {"feature_repo/person.sql": cheating})
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    with pytest.raises(ContractViolation, match=r"person\.sql failed: .*answers"):
        values_as_of(project, tables, START + timedelta(days=40), "person")


def test_the_uncut_file_is_out_of_a_features_reach_too_when_it_lies_elsewhere(tmp_path: Path) -> None:
    elsewhere = write_tables(tmp_path / "elsewhere", *some_readers_and_loans(5)) / "readers.parquet"
    sql = f"SELECT reader_id, town FROM read_parquet('{elsewhere}')"
    project = write_project(tmp_path / "project", {"feature_repo/person.sql": sql})
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    with pytest.raises(ContractViolation, match=r"person\.sql failed: Permission"):
        values_as_of(project, tables, START + timedelta(days=40), "person")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT town FROM readers", r"person\.sql returns no column reader_id"),
        ("SELECT reader_id FROM readers", r"person\.sql returns no column town"),
        ("SELECT 7 AS reader_id, town FROM readers", r"one row for each reader_id.*returned 5 for 7.*Group by the key"),
        ("SELECT nullif(reader_id, 3) AS reader_id, town FROM readers", r"returned 1 for None"),
        ("SELECT reader_id, twon AS town FROM readers", r"person\.sql failed: .*twon"),
        ("SELECT reader_id, town FROM readers; SELECT 1", r"person\.sql must hold one SELECT.*2 statements"),
        ("DROP VIEW readers", r"person\.sql must hold one SELECT"),
        ("SELEKT", r"person\.sql is not SQL"),
        ("SELECT reader_id, town FROM readers WHERE joined_at < $now", r"asks for \$now; it may use \$as_of only"),
    ],
)
def test_sql_that_cannot_be_a_feature_view_is_refused_by_name(tmp_path: Path, sql: str, message: str) -> None:
    project = write_project(tmp_path / "project", {"feature_repo/person.sql": sql})
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    with pytest.raises(ContractViolation, match=message):
        values_as_of(project, tables, START + timedelta(days=40), "person")


def test_a_time_column_that_is_missing_is_named(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"pipeline.yaml": ("event_time: lent_at", "event_time: lended_at")})
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    with pytest.raises(ContractViolation, match=r"table loans cannot be cut .*lended_at"):
        values_as_of(project, tables, START)


def test_a_table_that_is_missing_is_named(project: Path, tmp_path: Path) -> None:
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(5))
    (tables / "loans.parquet").unlink()
    with pytest.raises(ContractViolation, match="table loans is not among the validated tables"):
        values_as_of(project, tables, START)
