"""What `lifecycle init` finds in a table beside its answers: whose rows belong together, what may be a label, and what
marks of missing values hide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_init import CUSTOMERS, answering, configuration, read, refusal, table

from kfp_lifecycle.projects.questions import ask_all

VISITS = f"SELECT * EXCLUDE (customer_id), customer_id // 3 AS patient_id FROM ({CUSTOMERS})"


def test_several_rows_of_one_patient_are_kept_in_one_part_of_the_split(tmp_path: Path) -> None:
    answers = ask_all(table(tmp_path, VISITS), answering())
    assert answers.left_out[0][1] == "a patient_id has several rows, which are kept in one part of the split"
    written = configuration(tmp_path, answers)
    assert (written.split.by, written.split.group, written.features.leave_out) == (
        "group",
        "patient_id",
        ["patient_id"],
    )


@pytest.mark.parametrize(
    "column",
    ["i // 150 AS clinic_id", "i // 3 AS zip_code", "(i % 2) * i // 3 AS family_id", "i // 3 AS days_as_customer"],
)
def test_a_few_clinics_codes_numbers_and_one_name_of_half_the_rows_are_no_groups(tmp_path: Path, column: str) -> None:
    query = f"SELECT * EXCLUDE (i), {column} FROM (SELECT *, customer_id - 1000 AS i FROM ({CUSTOMERS}))"
    assert ask_all(table(tmp_path, query), answering()).group is None


def test_what_is_protected_is_no_label(tmp_path: Path) -> None:
    state = "['ok', 'quit', 'fired'][1 + customer_id % 3] AS state"
    query = f"SELECT customer_id, spent, {state}, churned AS gender FROM ({CUSTOMERS})"
    assert "--label state has 3 values: 'fired' (100), 'ok' (100), 'quit' (100)" in refusal(tmp_path, query)


@pytest.mark.slow
def test_a_column_that_is_mostly_missing_is_numbers_still(tmp_path: Path) -> None:
    rows = [f"{number}\t{'NA' if number % 10 else number / 4}\t{number % 2}" for number in range(1, 201)]
    (tmp_path / "films.tsv").write_text("\n".join(["film_id\tbudget\tshort", *rows, ""]))
    columns = read("films.tsv", tmp_path).columns
    assert [(column.title, column.kind, column.filled) for column in columns][1] == ("budget", "DOUBLE", 20)


@pytest.mark.slow
def test_lines_of_json_need_no_ending_of_their_own(tmp_path: Path) -> None:
    lines = [json.dumps({"id": number, "spent": number / 4, "left": number % 2}) for number in range(200)]
    (tmp_path / "people.json").write_text("\n".join([*lines, ""]))
    assert read("people.json", tmp_path).rows == 200
