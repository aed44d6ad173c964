"""What was served is recomputed by the training path, as of the request: a wrong join cannot hide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import Broken, LeftOut, LogTable, Predictions
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.recompute_features.recomputing import agree, compare
from kfp_lifecycle.features.online.store import OnlineStore
from tests.feature_steps import definitions_of, given_to, materialize, served
from tests.lending_library import some_readers_and_loans, write_project, write_tables
from tests.projects import read_project

READERS = list(range(1, 41))
PRESENT = {"pipeline.yaml": ("freshness_days: 7", "freshness_days: 7, present: data")}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, its tables on two days, and a store that was filled on both."""
    place = tmp_path_factory.mktemp("library")
    write_project(place / "project", PRESENT)
    readers, loans = some_readers_and_loans()
    newest = max(row["recorded_at"] for row in loans)
    earlier = newest - timedelta(days=3)
    known = [row for row in loans if row["recorded_at"] <= earlier]
    write_tables(place / "earlier", readers, known, as_of=earlier)
    write_tables(place / "tables", readers, loans, as_of=newest)
    return place


@pytest.fixture(scope="module")
def answers(library: Path) -> dict[str, list[Row]]:
    """What a server answered with on both days, in features of the model."""
    found = {}
    for name in ("earlier", "tables"):
        materialize(library / "project", library / name)
        store = read_project(library / "project").locations.online_store
        found[name] = served(library / "project", store).lookup(READERS, None)
    return found


def look(
    library: Path,
    rows: Sequence[tuple[int, Row]],
    change: Callable[[Row], Row] = lambda row: row,
    callers: Sequence[str] | None = None,
) -> ServingSkew:
    """Compare requests about entities, answered just now."""
    from kfp_lifecycle.components.monitoring.recompute_features.component import recompute_features

    project = read_project(library / "project")
    definitions = definitions_of(library / "project")
    inputs = [Feature(item.name, item.type) for item in definitions.features]
    now = datetime.now(UTC)
    table = pd.DataFrame(
        {
            "time": pd.to_datetime([now] * len(rows), utc=True),
            "version": "1",
            "entity": [str(entity) for entity, _ in rows],
            "features": [change(dict(features)) for _, features in rows],
            "caller": callers,
        }
    )
    left_out = LeftOut(**dict.fromkeys(LeftOut.model_fields, 0))
    window = Predictions(
        model="library", champion="1", version="1", start=now - timedelta(days=7), end=now,
        found=LogTable(predictions=len(rows), rows=len(rows), versions=[], probes=0, left_out=left_out,
                       broken=Broken(files=0, rows=0, examples=[])),
    )  # fmt: skip
    scratch = library / f"scratch-{len(list(library.iterdir()))}"
    scratch.mkdir()
    settings, locations = given_to(recompute_features, project)
    return compare(
        settings, locations, window, table, inputs, definitions, library / "tables", "",
        scratch,
    )  # fmt: skip


def test_what_the_server_answers_is_what_the_training_path_computes(
    library: Path, answers: dict[str, list[Row]]
) -> None:
    found = look(library, list(zip(READERS, answers["tables"], strict=True)))
    assert (found.compared, found.features, found.differences) == (40, 6, [])
    assert found.sentence == "What was served is what the training path computes: 40 requests, 6 features each."


def test_what_was_served_before_a_filling_is_judged_by_the_one_before(
    library: Path, answers: dict[str, list[Row]]
) -> None:
    assert answers["earlier"] != answers["tables"]
    found = look(library, list(zip(READERS, answers["earlier"], strict=True)))
    assert found.differences == []


def test_rows_joined_to_another_entity_are_found_out(library: Path, answers: dict[str, list[Row]]) -> None:
    found = look(library, list(zip(READERS, [*answers["tables"][1:], answers["tables"][0]], strict=True)))
    assert {"pages", "average_pages", "days_since_last_loan"} <= set(found.skewed)
    assert "was served otherwise than the training path computes it" in found.sentence


def test_another_unit_of_one_feature_is_named_with_an_example(library: Path, answers: dict[str, list[Row]]) -> None:
    def in_hundreds(row: Row) -> Row:
        return {**row, "pages": row["pages"] and row["pages"] / 100}

    found = look(library, list(zip(READERS, answers["tables"], strict=True)), in_hundreds)
    assert found.skewed == ["pages"]
    [pages] = found.differences
    assert float(pages.computed.replace(",", "")) == pytest.approx(100 * float(pages.logged.replace(",", "")), rel=1e-3)
    assert found.sentence.startswith("pages was served otherwise")


def test_a_value_that_a_caller_brings_now_and_then_is_told_and_no_skew(
    library: Path, answers: dict[str, list[Row]]
) -> None:
    rows = list(zip(READERS, answers["tables"], strict=True))
    rows[3] = (rows[3][0], {**rows[3][1], "loans": 999})
    found = look(library, rows)
    assert [(item.feature, item.differing) for item in found.differences] == [("loans", 1)]
    assert found.skewed == []


@pytest.mark.parametrize(
    ("callers", "skewed"),
    [
        (["attacker"] * 10 + ["service"] * 30, []),
        (["one", "other"] * 5 + ["service"] * 30, ["loans"]),
        (None, ["loans"]),
    ],
)
def test_who_asks_for_a_quarter_at_most_makes_no_feature_skewed_alone(
    library: Path, answers: dict[str, list[Row]], callers: list[str] | None, skewed: list[str]
) -> None:
    rows = list(zip(READERS, answers["tables"], strict=True))
    brought = [(reader, {**row, "loans": 999}) for reader, row in rows[:10]]
    found = look(library, [*brought, *rows[10:]], callers=callers)
    assert [(item.feature, item.differing) for item in found.differences] == [("loans", 10)]
    assert found.skewed == skewed


def test_strangers_and_hashed_keys_are_not_compared(library: Path, answers: dict[str, list[Row]]) -> None:
    found = look(library, [("9f86d081", answers["tables"][0]), ("x", answers["tables"][1])])  # type: ignore[list-item]
    assert found.compared == 0
    assert found.sentence == "Features were not recomputed: no request names an entity that a table may know."


def test_the_store_remembers_as_of_when_it_was_filled(library: Path, answers: dict[str, list[Row]]) -> None:
    project = read_project(library / "project")
    fillings = OnlineStore(project.locations.online_store, "library", definitions_of(library / "project")).fillings()
    assert len(fillings) == 2
    assert fillings[0].as_of < fillings[1].as_of
    assert fillings[0].at <= fillings[1].at <= datetime.now(UTC)


def test_a_number_is_compared_as_the_model_takes_it() -> None:
    number, text = Feature("x", "numeric"), Feature("y", "categorical")
    assert agree(number, 0.1, 0.10000000149011612)
    assert not agree(number, 0.1, 0.1001)
    assert agree(number, 0.1, 0.1001, tolerance=1e-3)
    assert agree(number, float("nan"), None)
    assert not agree(number, 0.0, None)
    assert agree(text, None, "")
    assert not agree(text, "Ulm", "Lund")
