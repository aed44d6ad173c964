"""Flat tables without time: label and features from their columns, every row used, what is wrong in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer

from kfp_lifecycle.artifacts.tables import TIMELESS, Manifest, TableSummary
from kfp_lifecycle.artifacts.training_set import GROUP, TrainingSetDescription
from kfp_lifecycle.components.features.build_training_set.training_set import build
from kfp_lifecycle.components.features.materialize_features.materialization import materialize
from kfp_lifecycle.components.scoring.score_batch.batch import current_entities
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.features.flat_table import label_sql
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.online_features import OnlineFeatures
from kfp_lifecycle.tuning.cross_validation import folds_of

CONFIGURATION: dict[str, Any] = {
    "name": "tumours",
    "title": "Malignant tumours",
    "entity": {"name": "patient", "key": "patient_id"},
    "source": {"url": "patients.csv", "tables": {"patients": {"key": ["patient_id"]}}},
    "label": {"name": "malignant", "title": "has cancer", "column": "patients.diagnosis", "positive": "M"},
    "split": {"by": "random"},
    "features": {"tables": ["patients"], "service": "patients", "sensitive": ["patients:region"]},
    "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.9, "why": "It must rank."}]},
    "deployment": {"model": "tumours"},
}


def patients() -> pd.DataFrame:
    """569 tumours, with an English name, a truth, a text and a household beside the measures."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :8].rename(columns={"mean concave points": "größte Höhlung (µm)"})
    return frame.assign(
        patient_id=[f"P{row:04d}" for row in range(len(frame))],
        diagnosis=np.where(data.target == 0, "M", "B"),
        region=["north", "south", "west"] * (len(frame) // 3) + ["north", "south"],
        smoker=[row % 2 == 0 for row in range(len(frame))],
        household=[row // 3 for row in range(len(frame))],
    )


def write(folder: Path, **tables: pd.DataFrame) -> Path:
    """Validated tables, by name."""
    folder.mkdir(parents=True)
    summaries = {}
    with duckdb.connect() as connection:
        for name, frame in tables.items():
            connection.register("frame", frame)
            file = folder / f"{name}.parquet"
            connection.execute(f"COPY (SELECT * FROM frame ORDER BY patient_id) TO '{file}' (FORMAT parquet)")
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{file}')").fetchall()
            summaries[name] = TableSummary(rows=len(frame), columns={row[0]: row[1] for row in described})
    Manifest(as_of=TIMELESS, tables=summaries).write(folder)
    return folder


def built(
    folder: Path, frame: pd.DataFrame, *overrides: str, others: Mapping[str, pd.DataFrame] = {}, **sections: Any
) -> TrainingSetDescription:
    folder.mkdir(exist_ok=True)
    tables = {"patients": frame, **others}
    named = {"source": {"url": "a folder", "tables": {name: {"key": ["patient_id"]} for name in tables}}}
    features = {"features": {**CONFIGURATION["features"], "tables": list(tables)}}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({**CONFIGURATION, **named, **features, **sections}))
    settings = load_configuration(folder, overrides)
    query = folder / "label.sql"
    query.write_text(label_sql(settings) if settings.label.column else (folder / "labels.sql").read_text())
    locations = local_locations(folder / "state", settings.name)
    repository = folder / "feature_repo"
    return build(settings, locations, repository, query, write(folder / "tables", **tables), folder / "set")


def parts(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(folder / "set" / f"{name}.parquet") for name in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat") / "project"
    built(folder, patients(), "features.leave_out=[household]")
    return folder


def test_every_row_is_in_one_part_and_the_label_is_as_frequent_in_each(flat: Path) -> None:
    found, given = parts(flat), patients()
    keys = pd.concat(frame.patient_id for frame in found.values())
    assert sorted(keys) == sorted(given.patient_id)
    assert [len(frame) for frame in found.values()] == [343, 113, 113]
    expected = (given.diagnosis == "M").mean()
    assert all(abs(frame.malignant.mean() - expected) < 0.005 for frame in found.values())
    of_test = given.set_index("patient_id").diagnosis[found["test"].patient_id]
    assert (found["test"].malignant.to_numpy() == (of_test == "M").to_numpy()).all()


def test_the_features_are_the_columns_whatever_they_are_called(flat: Path) -> None:
    description = TrainingSetDescription.read(flat / "set")
    kinds = {feature.name: feature.type for feature in description.features}
    assert kinds["mean radius"] == kinds["größte Höhlung (µm)"] == kinds["smoker"] == "numeric"
    assert not {"patient_id", "diagnosis", "household", "region"} & set(kinds)
    assert description.sensitive == ["region"]
    train = parts(flat)["train"]
    given = patients().set_index("patient_id").loc[train.patient_id]
    np.testing.assert_array_equal(train["größte Höhlung (µm)"], given["größte Höhlung (µm)"])


def test_the_description_says_that_no_part_is_later_than_another(flat: Path) -> None:
    description = TrainingSetDescription.read(flat / "set")
    assert description.split == "random"
    assert description.as_of is None
    assert all(dates == [] for dates in description.snapshots.values())
    assert (description.left_out, description.label_rates, description.rows_left_out) == ([], [], 0)
    assert description.skew is not None
    assert description.skew.entities == len(parts(flat)["test"])


def test_the_halves_of_the_validation_part_have_as_many_events(flat: Path) -> None:
    data = TrainingSet(flat / "set")
    threshold, calibration = data.part("validation"), data.part("calibration")
    assert abs(int(threshold.label.sum()) - int(calibration.label.sum())) <= 1
    assert len(threshold.label) + len(calibration.label) == 113


def test_folds_are_stratified_and_judge_each_training_row_once(flat: Path) -> None:
    folds = folds_of(TrainingSet(flat / "set"), Training(), 3, pd.Timedelta(0).to_pytimedelta())
    assert sum(len(fold.test_label) for fold in folds) == 343
    assert max(fold.test_label.mean() for fold in folds) - min(fold.test_label.mean() for fold in folds) < 0.02
    assert str(folds[0]) == "trained on 228 rows, judged on 115 others, chosen at random"


def test_rows_that_are_added_do_not_move_those_that_were_there(flat: Path, tmp_path: Path) -> None:
    built(tmp_path / "more", patients().head(500), "features.leave_out=[household]")
    before, now = parts(tmp_path / "more"), parts(flat)
    stayed = set(before["test"].patient_id) & set(now["test"].patient_id)
    assert len(stayed) > 0.9 * len(before["test"])


def test_a_group_is_in_one_part_one_half_and_one_fold(tmp_path: Path) -> None:
    folder = tmp_path / "grouped"
    built(
        folder,
        patients(),
        split={"by": "group", "group": "household"},
        features={**CONFIGURATION["features"], "leave_out": ["household"]},
    )
    data = TrainingSet(folder / "set")
    of_part = {name: set(data.part(name).frame[GROUP]) for name in ("train", "validation", "calibration", "test")}
    assert sum(map(len, of_part.values())) == len(set.union(*of_part.values())) == 190
    assert all(len(groups) > 10 for groups in of_part.values())
    assert data.part("test").entity.max() + 1 == len(of_part["test"])
    assert sum(len(data.part(name).label) for name in of_part) == 569


def test_features_are_served_by_key_whatever_the_clock_says(flat: Path, tmp_path: Path) -> None:
    settings = load_configuration(flat, ["features.leave_out=[household]"])
    locations = local_locations(tmp_path / "state", settings.name)
    filled = materialize(settings, locations, flat / "feature_repo", flat / "tables")
    online = OnlineFeatures(flat / "set" / "feature_repo", settings, locations.online_store)
    [found, unknown] = online.lookup(["P0007", "nobody"])
    given = patients().set_index("patient_id").loc["P0007"]
    assert found["mean radius"] == given["mean radius"]
    assert found["smoker"] == float(given["smoker"])
    assert set(unknown.values()) == {None}
    assert filled.rows == {"patients": 569}
    # Who is no longer in the table is forgotten: nothing else would ever tell that the values are old.
    fewer = write(tmp_path / "fewer", patients=patients().drop(index=7))
    materialize(settings, locations, flat / "feature_repo", fewer)
    [gone] = OnlineFeatures(flat / "set" / "feature_repo", settings, locations.online_store).lookup(["P0007"])
    assert set(gone.values()) == {None}


@pytest.mark.parametrize(
    ("positive", "values"),
    [("2", (1, 2)), ("true", (False, True)), ("null", (0, 1)), ("null", (0.0, 1.0)), ('"Yes"', ("No", "Yes"))],
)
def test_any_two_values_can_be_the_label(tmp_path: Path, positive: str, values: tuple[Any, Any]) -> None:
    frame = patients()
    frame["diagnosis"] = [values[int(value == "M")] for value in frame.diagnosis]
    found = built(tmp_path / "p", frame, f"label.positive={positive}", "features.leave_out=[household]")
    assert sum(found.positives.values()) == 212


BAD: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("three", {"diagnosis": ["M", "B", "?"] * 189 + ["M", "B"]}, [], "has 3 values: .* The model is binary"),
    ("one", {"diagnosis": "B"}, [], "has one value in all 569 rows: 'B' .569."),
    ("gaps", {"diagnosis": ["M", "B", None] * 189 + ["M", "B"]}, [], "is missing in 189 of 569 rows"),
    ("unnamed", {}, ["label.positive=null"], "label.positive, the one that means .* is not set. Name one of them"),
    ("wrong", {}, ["label.positive=m"], "label.positive, .* is 'm'. Name one of them, a text in quotes: .*\"M\""),
    ("twice", {"patient_id": "P1"}, [], "several rows for 1 of its entities, such as 569 for patient_id P1"),
    ("no column", {}, ["label.column=patients.outcome"], "label.column names outcome, which patients does not have"),
    ("a date", {"seen": pd.Timestamp("2025-01-01")}, [], "seen .TIMESTAMP.* can be no feature .* features.leave_out"),
    ("unknown", {}, ["features.leave_out=[hausehold]"], "leave_out names hausehold, which patients does not have"),
    ("a gap", {"nothing": pd.Series([None] * 569, dtype="float64")}, [], "Never known in the 343 training rows"),
]


@pytest.mark.parametrize(("columns", "overrides", "told"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_table_that_nothing_can_be_learned_from_is_refused_in_words(
    tmp_path: Path, columns: dict[str, Any], overrides: list[str], told: str
) -> None:
    with pytest.raises(ContractViolation, match=told):
        built(tmp_path / "project", patients().assign(**columns), *overrides)
    assert not (tmp_path / "project" / "set").exists()


def test_groups_that_are_too_large_are_refused(tmp_path: Path) -> None:
    grouped = {"by": "group", "group": "region"}
    features = {"tables": ["patients"], "service": "patients", "leave_out": ["region", "household"]}
    with pytest.raises(ContractViolation, match=r"region has 3 values in 569 rows, the most frequent, 'north', in 190"):
        built(tmp_path / "project", patients(), split=grouped, features=features)


# Several tables of one snapshot, joined by the patient.


def bills(count: int = 569) -> pd.DataFrame:
    """What patients owe, in another order, with a column that the patients have too."""
    rows = range(count)[::-1]
    return pd.DataFrame(
        {"patient_id": [f"P{row:04d}" for row in rows], "owed": [row / 4 for row in rows], "smoker": "unknown"}
    )


def visits() -> pd.DataFrame:
    """Of every second patient, and of ten whom nobody knows."""
    known = [f"P{row:04d}" for row in range(0, 569, 2)]
    return pd.DataFrame({"patient_id": [*known, *(f"X{row}" for row in range(10))], "ward": "A"})


LEFT_OUT = "features.leave_out=[household, bills.smoker]"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "project"
    built(folder, patients(), LEFT_OUT, others={"bills": bills(), "visits": visits()})
    return folder


def test_tables_are_joined_by_the_key_and_every_row_of_the_labels_table_is_used(several: Path) -> None:
    found = pd.concat(parts(several).values()).set_index("patient_id").sort_index()
    assert len(found) == 569
    np.testing.assert_array_equal(found.owed, np.arange(569) / 4)
    assert found.ward.isna().tolist() == [row % 2 == 1 for row in range(569)]
    description = TrainingSetDescription.read(several / "set")
    kinds = {feature.name: feature.type for feature in description.features}
    assert (kinds["owed"], kinds["ward"], kinds["smoker"], "household" in kinds) == (
        "numeric",
        "categorical",
        "numeric",
        False,
    )
    assert [view.view for view in description.quality] == ["patients", "bills", "visits"]
    assert description.skew is not None
    assert description.notes == [
        "visits has no row for 284 of 569 entities (patient) with a label, such as 'P0001', 'P0003', 'P0005': its "
        "features are missing there.",
        "visits: 10 of its 295 rows are of nobody with a label, such as 'X0', 'X1', 'X2', and not used.",
    ]


def test_features_of_several_tables_are_served_by_one_key(several: Path, tmp_path: Path) -> None:
    settings = load_configuration(several, [LEFT_OUT])
    locations = local_locations(tmp_path / "state", settings.name)
    filled = materialize(settings, locations, several / "feature_repo", several / "tables")
    assert filled.rows == {"patients": 569, "bills": 569, "visits": 295}
    online = OnlineFeatures(several / "set" / "feature_repo", settings, locations.online_store)
    [whole, part] = online.lookup(["P0008", "P0007"])
    assert (whole["owed"], whole["ward"]) == (2.0, "A")
    assert (part["owed"], part["ward"], part["mean radius"]) == (1.75, None, patients().iloc[7]["mean radius"])


REPEATED = pd.concat([bills(), bills().head(3)])
NOT_JOINED: list[tuple[str, dict[str, pd.DataFrame], list[str], str]] = [
    ("a name twice", {"bills": bills()}, [], r"smoker of bills has the name of a column of patients.*RENAME"),
    ("the label's name", {"bills": bills().rename(columns={"owed": "malignant"})}, [LEFT_OUT], "name of the label"),
    ("rows twice", {"bills": REPEATED}, [LEFT_OUT], r"bills has several rows for 3 of its entities.*GROUP BY 1"),
    (
        "other keys",
        {"bills": bills().assign(patient_id=[f"p-{row}" for row in range(569)])},
        [LEFT_OUT],
        r"bills has no row for 569 of 569 .*such as 'P0000'.*; 569 of its 569 rows are of nobody.*such as 'p-0'.*alike",
    ),
    (
        "few",
        {"bills": bills(200)},
        [LEFT_OUT],
        r"At least 50.0% must have one.*set features.min_match_share below 0.35",
    ),
    (
        "numbers and texts",
        {"bills": bills().assign(patient_id=range(569))},
        [LEFT_OUT],
        r"patient_id is VARCHAR in patients and BIGINT in bills.*REPLACE \(CAST\(\"patient_id\" AS VARCHAR\)",
    ),
    ("nothing in it", {"bills": bills()}, ["features.leave_out=[household, smoker, owed]"], "bills has no column that"),
]


@pytest.mark.parametrize(
    ("others", "overrides", "told"), [bad[1:] for bad in NOT_JOINED], ids=[b[0] for b in NOT_JOINED]
)
def test_tables_that_cannot_be_joined_are_refused_in_words(
    tmp_path: Path, others: dict[str, pd.DataFrame], overrides: list[str], told: str
) -> None:
    with pytest.raises(ContractViolation, match=told):
        built(tmp_path / "project", patients(), *overrides, others=others)
    assert not (tmp_path / "project" / "set").exists()


def test_a_table_that_knows_too_few_fills_no_store_and_nobody_is_scored_by_it(several: Path, tmp_path: Path) -> None:
    tables = write(tmp_path / "tables", patients=patients(), bills=bills(200), visits=visits())
    settings = load_configuration(several, [LEFT_OUT])
    locations = local_locations(tmp_path / "state", settings.name)
    with pytest.raises(ContractViolation, match=r"bills has no row for 369 of 569 entities \(patient\) in patients"):
        materialize(settings, locations, several / "feature_repo", tables)
    definitions = load_definitions(several / "set" / "feature_repo", settings)
    with pytest.raises(ContractViolation, match=r"369 of 569 entities \(patient\) to be scored.*min_match_share"):
        current_entities(settings, definitions, several / "label.sql", tables, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_table_that_rightly_knows_few_is_joined_where_the_project_says_so(tmp_path: Path) -> None:
    allowed = [LEFT_OUT, "features.min_match_share=0.3"]
    description = built(tmp_path / "project", patients(), *allowed, others={"bills": bills(200)})
    assert "bills has no row for 369 of 569 entities" in description.notes[0]
