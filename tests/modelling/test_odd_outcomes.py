"""Outcomes of a log and of tables as they are found: clocks that are ahead, versions that take turns, horizons longer
than all history, keys that nobody knows. What is foretold is followed, and what cannot be is told."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.outcomes import Outcomes
from kfp_lifecycle.artifacts.predictions import Broken, LeftOut, LogTable, Predictions
from kfp_lifecycle.components.monitoring.join_outcomes.joining import join_outcomes
from tests.feature_steps import given_to
from tests.lending_library import START, write_project, write_tables
from tests.prediction_logs import logged, write_log
from tests.projects import read_project

pytestmark = pytest.mark.slow

Row = dict[str, Any]
DAY = timedelta(days=1)
DAYS, READERS, LENDS = 100, 200, 0.02
END = START + DAYS * DAY
FAR = datetime(2099, 1, 1, tzinfo=UTC)
# Who borrows a book within ten days, of whom one in fifty does on a day.
SCORE = 1 - (1 - LENDS) ** 10
INPUTS = [Feature("age", "numeric")]


@dataclass
class Library:
    """Readers of whom each borrows a book on one day in fifty, and whoever foretells that."""

    place: Path
    readers: list[Row]
    loans: list[Row]

    def predict(self, rows: Sequence[Row], writer: str = "1-host") -> None:
        """Log predictions."""
        write_log(self.place / "predictions" / "library", rows, INPUTS, writer)

    def look(
        self, end: datetime = END, horizon: int = 10, known: datetime | None = None
    ) -> tuple[Outcomes, pd.DataFrame]:
        """Join the outcomes of a window that ends then, with tables that were taken when they say."""
        # The helper says first that a step runs here: then kfp imports no compiler.
        from kfp_lifecycle.components.monitoring.join_outcomes import component

        if not (self.place / "project").exists():
            write_project(self.place / "project", {"feature_repo/label.sql": ("NOT EXISTS (", "EXISTS (")})
            write_tables(self.place / "tables", self.readers, self.loans, as_of=known or end)
        project = read_project(self.place / "project", [f"label.horizon_days={horizon}"])
        settings, locations = given_to(component.join_outcomes, project)
        left_out = LeftOut(**dict.fromkeys(LeftOut.model_fields, 0))
        window = self.place / f"window-{len(list(self.place.iterdir()))}"
        window.mkdir()
        Predictions(
            model="library", champion="1", version="1", start=end - 7 * DAY, end=end,
            found=LogTable(predictions=0, rows=0, versions=[], probes=0, left_out=left_out,
                           broken=Broken(files=0, rows=0, examples=[])),
        ).write(window)  # fmt: skip
        found = join_outcomes(
            settings,
            locations,
            window,
            project.feature_repo,
            project.label_query,
            self.place / "tables",
            window / "found",
        )
        return found, pd.read_parquet(window / "found" / Outcomes.TABLE)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    chance = random.Random(3)
    readers: list[Row] = [
        {"reader_id": number, "joined_at": START, "recorded_at": START, "town": chance.choice(["Ulm", "Lund"])}
        for number in range(1, READERS + 1)
    ]
    days = [(reader["reader_id"], day) for reader in readers for day in range(DAYS) if chance.random() < LENDS]
    return Library(tmp_path, readers, [loan(number, *item) for number, item in enumerate(days)])


def loan(number: int, reader: int, day: float, **changes: Any) -> Row:
    at = START + day * DAY + timedelta(hours=12)
    usual = {"loan_id": number, "reader_id": reader, "lent_at": at, "recorded_at": at, "pages": 1.0, "genre": "crime"}
    return {**usual, **changes}


def foretold(at: datetime, readers: Iterable[int] = range(1, READERS + 1), **changes: Any) -> list[Row]:
    return [
        logged({"age": 1.0}, at, **{"entity": str(reader), "score": SCORE, "request_id": f"r{reader}", **changes})
        for reader in readers
    ]


def weekly(weeks: Iterable[int] = range(12)) -> list[datetime]:
    return [START + timedelta(days=7 * week + 9, hours=9) for week in weeks]


def as_foretold(found: Outcomes) -> bool:
    return not any(version.alarms for version in found.versions)


def test_clocks_that_are_ahead_change_neither_what_is_followed_nor_what_is_said(library: Library) -> None:
    for at in weekly():
        library.predict(foretold(at))
    before = library.look()
    ahead = [timedelta(minutes=5), 5 * DAY, FAR - END]
    for number, late in enumerate(ahead):
        library.predict(foretold(END + late, score=0.9), f"{number}-ahead")
    for number, late in enumerate(ahead):
        library.loans.append(loan(9000 + number, 1, 0, lent_at=END + late, recorded_at=END + late))
    write_tables(library.place / "tables", library.readers, library.loans, as_of=FAR)
    again = library.look()
    assert again[0] == before[0]
    pd.testing.assert_frame_equal(again[1], before[1])
    assert as_foretold(again[0])


def test_what_is_logged_or_breaks_later_does_not_change_what_an_earlier_window_says(library: Library) -> None:
    for at in weekly():
        library.predict(foretold(at))
    before = library.look(END - 30 * DAY, known=END)[0]
    broken = library.place / "predictions" / "library" / f"{END:%Y-%m-%d}" / "10-broken.parquet"
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b"PAR1")
    assert library.look(END - 30 * DAY)[0] == before


def test_of_two_versions_that_take_turns_the_one_alarms_that_foretells_too_little(library: Library) -> None:
    for at in weekly():
        good, bad = foretold(at), foretold(at, version="2", score=SCORE / 3)
        library.predict([row for pair in zip(good, bad, strict=True) for row in pair])
    first, second = library.look()[0].versions
    assert (first.version, first.alarm, first.spells) == ("1", None, second.spells)
    assert second.alarm is not None
    assert "more events than version 2 foretells" in second.alarm.sentence
    assert second.alarm.noticed - second.alarm.since <= 14 * DAY


def test_a_version_of_three_predictions_beside_a_release_alarms_nobody(library: Library) -> None:
    first, *others = weekly()
    library.predict(foretold(first, [1, 2, 3]))
    for at in others:
        library.predict(foretold(at, version="2"))
    found = library.look()[0]
    assert [(version.version, version.spells) for version in found.versions] == [("1", 3), ("2", 200 * 6)]
    assert as_foretold(found)
    assert found.versions[0].performance[0].metrics == {}


def test_a_horizon_of_a_day_is_followed_each_day(library: Library) -> None:
    for day in range(1, DAYS - 1, 3):
        library.predict(foretold(START + timedelta(days=day, hours=9), score=LENDS))
    found, table = library.look(horizon=1)
    assert (found.versions[0].spells, found.versions[0].complete) == (len(table), len(table))
    assert len(table) > 20 * READERS
    assert as_foretold(found)


@pytest.mark.parametrize("horizon", [400, 36_500])
def test_a_horizon_longer_than_all_history_is_followed_from_its_first_days_on(library: Library, horizon: int) -> None:
    """The score is of the same chance of a loan on a day: within years everybody borrows a book."""
    for at in weekly():
        library.predict(foretold(at, score=min(0.99, 1 - (1 - LENDS) ** horizon)))
    found, table = library.look(horizon=horizon)
    assert (len(table), found.versions[0].complete, found.timing_events) == (READERS, 0, 0)
    assert "Too few past events tell when, within the horizon, they happen: they are taken to be even." in found.notes
    assert found.versions[0].estimate is not None


def test_an_entity_that_is_asked_about_a_thousand_times_is_foretold_once(library: Library) -> None:
    for at in weekly():
        library.predict(foretold(at))
    once = library.look()
    often = [
        logged({"age": 1.0}, weekly()[6] + timedelta(minutes=1 + number), entity="5", score=0.99)
        for number in range(1000)
    ]
    library.predict(often, "2-often")
    found, table = library.look()
    assert found.predictions == once[0].predictions + 1000
    pd.testing.assert_frame_equal(table, once[1])


def test_keys_that_the_tables_write_otherwise_are_told_as_unknown(library: Library) -> None:
    for at in weekly():
        library.predict([{**row, "entity": row["entity"].zfill(5)} for row in foretold(at)])
    found, table = library.look()
    assert not table["known"].any()
    assert found.sentence == "Nothing that was predicted can be followed: the label query knows none of the entities."
    assert any("such as 7 and 007" in note for note in found.notes)
    for at in weekly():
        library.predict(foretold(at), "2-right")
    assert library.look()[0].versions[0].unknown == found.versions[0].spells


def test_outcomes_without_a_time_are_none(library: Library) -> None:
    for at in weekly():
        library.predict(foretold(at))
    before = library.look()
    nowhere = [loan(9000 + number, number, 60, lent_at=None) for number in range(1, 101)]
    unheard = [loan(9200 + number, number, 60, recorded_at=None) for number in range(1, 101)]
    write_tables(library.place / "tables", library.readers, [*library.loans, *nowhere, *unheard], as_of=END)
    assert library.look()[0] == before[0]
    # Who has no time of joining is nobody yet.
    readers = [{**reader, "joined_at": None} if reader["reader_id"] <= 20 else reader for reader in library.readers]
    write_tables(library.place / "tables", readers, library.loans, as_of=END)
    found = library.look()[0]
    assert found.versions[0].unknown == 20 * 6
    assert as_foretold(found)


def test_scores_that_are_no_number_are_not_followed(library: Library) -> None:
    for at in weekly():
        library.predict([*foretold(at, range(1, 101)), *foretold(at, range(101, 201), score=float("nan"))])
    found, table = library.look()
    assert set(table["entity"].astype(int)) == set(range(1, 101))
    assert found.versions[0].spells == 100 * 6
    assert as_foretold(found)


def test_nothing_logged_at_all_or_nothing_known_yet_is_said(library: Library) -> None:
    assert library.look()[0].sentence == "Nothing that was predicted can be followed yet."
    assert library.look(START - 300 * DAY)[0].versions == []
