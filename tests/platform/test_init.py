"""`lifecycle init`: a table becomes a project that a first run can read, and what it cannot become is said in words."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from command_line import ROOT, lifecycle

from kfp_lifecycle.cli.init import NAME
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning, estimators_of, space_of
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.projects.place import Place, as_given, place_of
from kfp_lifecycle.projects.profile import Profile, plain_names, profile_of
from kfp_lifecycle.projects.questions import Answers, Question, ask_all
from kfp_lifecycle.projects.scaffold import write_project
from kfp_lifecycle.runtime.contract import ContractViolation

CUSTOMERS = """
    SELECT 1000 + i AS customer_id, i % 70 AS age, (i * 7 % 100)::DOUBLE AS spent, ['a', 'b'][1 + i % 2] AS plan,
        CASE WHEN hash(i) % 3 = 0 THEN 'yes' ELSE 'no' END AS churned
    FROM range(300) numbers(i)
"""
ORDERS = """
    SELECT i AS order_id, 'C' || i % 40 AS customer_id, TIMESTAMP '2025-01-01' + i * INTERVAL 9 HOUR AS ordered_at,
        (i % 13)::DOUBLE AS amount FROM range(900) numbers(i)
"""


def table(folder: Path, query: str, name: str = "customers") -> Profile:
    """A table as the sources' readers leave it."""
    file = folder / f"{name}.parquet"
    duckdb.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
    return profile_of(file)


def answering(**given: str) -> Callable[[Question], str]:
    """Answers to some questions, and the guesses to all others."""
    return lambda question: given.get(question.option, question.guess)


def recording(asked: list[Question]) -> Callable[[Question], str]:
    """The guesses, each with its question."""

    def ask(question: Question) -> str:
        asked.append(question)
        return question.guess

    return ask


def configuration(folder: Path, answers: Answers, name: str = "customers") -> Configuration:
    """The configuration that is written for answers."""
    write_project(folder / "project", "shop", Place(f"/data/{name}.parquet", "", name), {}, answers, [])
    return load_configuration(folder / "project")


def refusal(folder: Path, query: str, **given: str) -> str:
    with pytest.raises(ContractViolation) as violation:
        ask_all(table(folder, query), answering(**given))
    return str(violation.value)


# What is guessed.


def test_a_flat_table_is_guessed_whole(tmp_path: Path) -> None:
    answers = ask_all(table(tmp_path, CUSTOMERS), answering())
    assert (answers.entity and answers.entity.title, answers.label and answers.label.title) == (
        "customer_id",
        "churned",
    )
    assert (answers.positive, answers.time) == ("yes", None)
    written = configuration(tmp_path, answers)
    assert (written.split.by, written.label.column, written.label.positive) == ("random", "customers.churned", "yes")
    assert written.source.tables["customers"].query is None


def test_rows_of_a_key_that_repeats_are_events(tmp_path: Path) -> None:
    answers = ask_all(table(tmp_path, ORDERS, "orders"), answering())
    assert (answers.entity and answers.entity.title, answers.time and answers.time.title) == (
        "customer_id",
        "ordered_at",
    )
    written = configuration(tmp_path, answers, "orders")
    assert (written.label.horizon_days, written.snapshots.count) == (22, 12)
    # Reports say who has it: "how well it tells who comes no more".
    assert written.label.title == "comes no more"
    assert written.source.tables["orders"].key == ["order_id"]


@pytest.mark.parametrize("form", ["%b %d, %Y", "%d-%b-%y", "%d.%m.%y"])
def test_times_may_name_their_months_and_have_years_of_two_digits(tmp_path: Path, form: str) -> None:
    query = f"SELECT * REPLACE (strftime(ordered_at, '{form}') AS ordered_at) FROM ({ORDERS})"
    answers = ask_all(table(tmp_path, query, "orders"), answering())
    assert answers.time_format == form
    assert f"strptime(\"ordered_at\", '{form}')" in (
        configuration(tmp_path, answers, "orders").source.tables["orders"].query or ""
    )


def test_a_key_without_an_id_in_its_name_is_known_by_whom_it_names(tmp_path: Path) -> None:
    answers = ask_all(table(tmp_path, f"SELECT * RENAME (customer_id AS customer) FROM ({ORDERS})"), answering())
    assert (answers.entity and answers.entity.title, answers.time and answers.time.title) == ("customer", "ordered_at")


def test_a_date_and_a_code_that_repeats_make_no_events_of_customers_with_a_label(tmp_path: Path) -> None:
    query = f"SELECT *, customer_id % 40 AS zip_code, DATE '2025-01-01' + age::INT AS joined FROM ({CUSTOMERS})"
    answers = ask_all(table(tmp_path, query), answering())
    assert (answers.entity and answers.entity.title, answers.time) == ("customer_id", None)


def test_rows_without_a_key_are_numbered(tmp_path: Path) -> None:
    answers = ask_all(table(tmp_path, f"SELECT * EXCLUDE (customer_id) FROM ({CUSTOMERS})"), answering())
    written = configuration(tmp_path, answers)
    assert written.entity.key == "row_id"
    assert "row_number() OVER () AS row_id" in (written.source.tables["customers"].query or "")


@pytest.mark.parametrize(
    ("values", "positive", "written"),
    [
        ("0, 1", "1", None),
        ("1, 2", "2", 2),
        ("'yes', 'no'", "yes", "yes"),
        ("true, false", "true", None),
        ("'True', 'False'", "True", "True"),
        ("'bleibt', 'geht'", "geht", "geht"),
        ("0.0, 1.0", "1.0", None),
    ],
)
def test_any_label_with_two_values_is_understood(tmp_path: Path, values: str, positive: str, written: object) -> None:
    query = f"SELECT * REPLACE ([{values}][1 + (hash(customer_id) % 3 = 0)::INT] AS churned) FROM ({CUSTOMERS})"
    answers = ask_all(table(tmp_path, query), answering(positive=positive) if positive == "geht" else answering())
    assert answers.positive == positive
    assert configuration(tmp_path, answers).label.positive == written


@pytest.mark.parametrize(
    ("written", "because", "number"),
    [
        ("CASE WHEN age = 3 THEN ' ' ELSE spent::VARCHAR END", "5 cells with a mark of a missing value", 14.0),
        ("'$' || format('{:,}', 1000 + spent::INT) || '.50'", "how it is written, such as '$1,099.50'", 1014.5),
        ("format('{:,}', 1000000 + spent::INT)", "such as '1,000,099'", 1000014.0),
        ("'1.' || 100 + spent::INT || ',25 €'", "such as '1.199,25 €'", 1114.25),
        ("'1 ' || 100 + spent::INT || ',25'", "such as '1 199,25'", 1114.25),
        ("spent::INT || '%'", "such as '99%'", 14.0),
        ("spent::INT || '.5 kg'", "such as '99.5 kg'", 14.5),
        ("spent::INT || '.39459000000000090'", "such as '99.39459000000000090'", 14.39459),
    ],
)
def test_numbers_that_are_written_as_text_become_numbers_and_are_named(
    tmp_path: Path, written: str, because: str, number: float
) -> None:
    answers = ask_all(table(tmp_path, f"SELECT *, {written} AS total FROM ({CUSTOMERS})"), answering())
    assert answers.notes[0].startswith("total is text because of ")
    assert because in answers.notes[0]
    query = configuration(tmp_path, answers).source.tables["customers"].query or ""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW source AS SELECT * FROM read_parquet('{tmp_path / 'customers.parquet'}')")
        [found] = connection.execute(f"SELECT total FROM ({query}) WHERE customer_id = 1002").fetchall()
    assert found == (number,)


@pytest.mark.parametrize("code", ["lpad((i % 90)::VARCHAR, 3, '0')", "i % 90 || 'A'", "'C ' || i % 90", "'+49' || i"])
def test_codes_that_look_like_numbers_stay_text(tmp_path: Path, code: str) -> None:
    query = f"SELECT *, {code} AS code FROM (SELECT *, customer_id - 1000 AS i FROM ({CUSTOMERS}))"
    column = table(tmp_path, query).find("code")
    assert (column and column.kind, column and column.number) == ("VARCHAR", None)


def test_other_texts_among_numbers_are_shown(tmp_path: Path) -> None:
    query = f"SELECT *, CASE WHEN age = 3 THEN 'see file' ELSE spent::VARCHAR END AS total FROM ({CUSTOMERS})"
    note = ask_all(table(tmp_path, query), answering()).notes[0]
    assert "total is text because of 5 of 300 values: 'see file' (5)" in note


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("'DE'", "it is the same in every row"),
        ("NULL::VARCHAR", "it is empty"),
        ("'Street ' || i", "its values all differ"),
        ("'Zip ' || i % 290", "it is text with 290 different values"),
        ("DATE '2025-01-01' + (i % 50)::INT", "it is a date"),
        ("strftime(DATE '2025-01-01' + (i % 50)::INT, '%d %B %Y')", "it is a date"),
        ("[i]", "neither a number nor text"),
        ("row_number() OVER (ORDER BY hash(i))", "it numbers the rows"),
        (
            "CASE WHEN i % 2 = 0 THEN '3 May 2025' ELSE (DATE '2025-01-01' + i::INT)::VARCHAR END",
            "it is a date, written in several forms",
        ),
        ("CASE WHEN i % 13 = 0 THEN i % 5 END", "only some 24 of 300 rows have a value"),
        ("CASE WHEN churned = 'yes' THEN 5 ELSE i % 5 END", "it knows churned (ROC AUC 1.000 alone)"),
        ("CASE WHEN churned = 'yes' THEN 'closed' ELSE 'open' END", "A leak"),
        ("CASE WHEN churned = 'yes' THEN i END", "A leak"),
    ],
)
def test_a_column_of_no_use_is_left_out_with_the_reason(tmp_path: Path, column: str, why: str) -> None:
    query = f"SELECT *, {column} AS extra FROM (SELECT *, customer_id - 1000 AS i FROM ({CUSTOMERS}))"
    answers = ask_all(table(tmp_path, f"SELECT * EXCLUDE (i) FROM ({query})"), answering())
    [(left_out, reason)] = answers.left_out
    assert (left_out.title, why in reason) == ("extra", True), reason
    assert configuration(tmp_path, answers).features.leave_out == ["extra"]


# What is refused.


def test_an_entity_that_repeats_is_refused_with_examples(tmp_path: Path) -> None:
    told = refusal(tmp_path, CUSTOMERS, entity="age")
    assert "--entity age is not unique: 70 of its values come in more than one row, such as '0', '1'" in told
    assert "--time" in told


@pytest.mark.parametrize(
    ("columns", "label", "why"),
    [
        # Named in the second tier, the first and the last column, and nowhere.
        ("i % 2 = 0 AS paperless, i % 9 AS tariff", "paperless", "as no other"),
        ("['good', 'bad'][1 + i % 2] AS status, i % 3 = 0 AS paperless", "status", "named like a label"),
        ("['CH', 'MM'][1 + i % 2] AS brand, i % 3 = 0 AS special, i % 9 AS store", "brand", "so have special"),
        ("i % 9 AS store, i % 3 = 0 AS special, i % 2 = 0 AS again", "again", "so have special"),
        ("i % 9 AS store, i % 3 = 0 AS special, i % 2 = 0 AS again, i % 5 AS size", "again", "so have special"),
        ("i % 31 AS bookings_not_canceled, i % 2 = 0 AS again, i % 5 AS size", "again", "as no other"),
    ],
)
def test_a_label_is_guessed_by_its_name_and_its_place_and_what_else_it_could_be_is_said(
    tmp_path: Path, columns: str, label: str, why: str
) -> None:
    asked: list[Question] = []
    ask_all(table(tmp_path, f"SELECT i AS id, {columns} FROM range(300) numbers(i)"), recording(asked))
    [question] = [each for each in asked if each.option == "label"]
    assert (question.guess, why in question.why) == (label, True), question.why


def test_spellings_that_differ_in_capitals_and_spaces_are_named(tmp_path: Path) -> None:
    query = f"SELECT *, ['ja', 'Ja', 'nein', ' nein'][1 + age::INT % 4] AS letter FROM ({CUSTOMERS})"
    note = ask_all(table(tmp_path, query), answering()).notes[0]
    assert "letter has ' nein' and 'nein'; 'Ja' and 'ja', which a model takes for different values" in note


def test_rows_that_are_copies_are_named_where_no_key_tells_them_apart(tmp_path: Path) -> None:
    rows = f"SELECT * EXCLUDE (customer_id) REPLACE (age + customer_id AS age) FROM ({CUSTOMERS})"
    query = f"SELECT * FROM ({rows}) UNION ALL SELECT * FROM ({rows}) WHERE age < 1020"
    note = ask_all(table(tmp_path, query), answering(entity="row_id")).notes[0]
    assert note.startswith("10 of 310 rows are the same as another in every column")


@pytest.mark.parametrize(
    ("count", "told"),
    [
        ("1600000000 + i * 86400", "seconds since 1970"),
        ("1600000000000 + i % 9 * 86400000", 'milliseconds since 1970, .* write epoch_ms\\("signed_up_at"\\)'),
        ("45000 + i % 200", "days of a spreadsheet, .* write DATE '1899-12-30'"),
    ],
)
def test_a_number_that_counts_time_is_left_out_as_a_date(tmp_path: Path, count: str, told: str) -> None:
    numbered = f"SELECT *, customer_id - 1000 AS i FROM ({CUSTOMERS})"
    query = f"SELECT * EXCLUDE (i), {count} AS signed_up_at, {count} AS income FROM ({numbered})"
    answers = ask_all(table(tmp_path, query), answering())
    left_out = {column.title: why for column, why in answers.left_out}
    assert list(left_out) == ["signed_up_at"]
    assert re.search(told, left_out["signed_up_at"])


def test_rows_without_an_outcome_and_rows_that_sum_up_others_are_told(tmp_path: Path) -> None:
    named = f"SELECT 'C' || customer_id AS customer_id, * EXCLUDE (customer_id) FROM ({CUSTOMERS})"
    query = f"{named} UNION ALL SELECT 'Total:', 0, 99.5, 'a', NULL UNION ALL SELECT 'C1', 1, 2.5, 'a', NULL"
    answers = ask_all(table(tmp_path, query), answering())
    told = " ".join(answers.notes)
    assert "churned is empty in 2 of 302 rows: the table's query leaves these out" in told
    assert "a row has 'Total:' for its customer_id: where it sums up the others it is nobody" in told
    assert "IS NOT NULL" in str(configuration(tmp_path, answers).source.tables["customers"].query)


def test_outcomes_that_differ_in_capitals_alone_are_no_different_outcomes(tmp_path: Path) -> None:
    spelled = (
        f"SELECT * REPLACE (CASE WHEN age > 60 THEN upper(churned) ELSE churned END AS churned) FROM ({CUSTOMERS})"
    )
    told = refusal(tmp_path, spelled, label="churned")
    assert "'no' and 'NO'; 'yes' and 'YES' differ in capitals and spaces alone" in told
    assert "Write each outcome one way in the source" in told


def test_a_table_of_a_key_and_an_outcome_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, f"SELECT customer_id, churned FROM ({CUSTOMERS})")
    assert "the table has nothing but what a row is about and what is predicted. Bring a table with more" in told


def test_numbers_with_spaces_around_them_are_numbers(tmp_path: Path) -> None:
    profile = table(tmp_path, f"SELECT * REPLACE (' ' || spent || ' ' AS spent) FROM ({CUSTOMERS})")
    spent = profile.find("spent")
    assert spent is not None
    assert (spent.kind, spent.most) == ("DOUBLE", 99.0)


def test_a_label_of_three_values_is_refused_with_a_way_out(tmp_path: Path) -> None:
    query = f"SELECT *, ['x', 'y', 'z'][1 + customer_id % 3] AS outcome FROM ({CUSTOMERS})"
    told = refusal(tmp_path, query, label="outcome")
    assert "has 3 values" in told
    assert "predicts one event" in told
    answers = ask_all(table(tmp_path, query), answering(label="outcome", positive="z"))
    assert """CAST(CAST("outcome" AS VARCHAR) = 'z' AS INTEGER) AS "outcome\"""" in (
        configuration(tmp_path, answers).source.tables["customers"].query or ""
    )


def test_a_number_to_be_predicted_is_no_event(tmp_path: Path) -> None:
    assert "it is no regression" in refusal(tmp_path, CUSTOMERS, label="spent")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"label": "lable"}, "the table has no such column. It has customer_id, age, spent, plan, churned"),
        ({"positive": "maybe"}, "churned has no such value. It has 'no', 'yes'"),
        ({"label": "none"}, "there is nothing to predict without a label"),
        ({"label": "customer_id"}, "cannot be the label and something else"),
        ({"entity": "spent"}, "a key is text or an integer"),
        ({"time": "age", "entity": "customer_id"}, "it is BIGINT and no time"),
    ],
)
def test_a_wrong_answer_is_told_in_words(tmp_path: Path, given: dict[str, str], told: str) -> None:
    assert told in refusal(tmp_path, CUSTOMERS, **given)


def test_a_wrong_answer_can_be_mended_where_somebody_is_there(tmp_path: Path) -> None:
    typed = iter(["none", "nobody", "customer_id", "spent", "", "plan", "c", "b", "none"])
    told: list[str] = []

    def refused(question: Question, violation: ContractViolation) -> None:
        told.append(f"{question.option}: {violation}"[:60])

    answers = ask_all(table(tmp_path, CUSTOMERS), lambda question: next(typed), refused=refused)
    assert (answers.entity and answers.entity.title, answers.label and answers.label.title, answers.positive) == (
        "customer_id",
        "plan",
        "b",
    )
    assert [each.partition(",")[0] for each in told] == [
        "entity: --entity 'nobody': the table has no such column. It ",
        "label: --label spent has 100 values: '0.0' (3)",
        "positive: --positive 'c': plan has no such value. It has 'a'",
    ]


def test_a_time_that_does_not_parse_is_told_with_its_rows_and_the_likely_format(tmp_path: Path) -> None:
    query = f"""SELECT * REPLACE (CASE WHEN order_id = 6 THEN 'soon' ELSE strftime(ordered_at, '%d.%m.%Y') END
        AS ordered_at) FROM ({ORDERS}) ORDER BY order_id"""
    told = refusal(tmp_path, query, time="ordered_at", entity="customer_id")
    assert "1 of 900 values are no times: 'soon' in row 7. The likeliest format is %d.%m.%Y" in told


def test_times_that_may_have_the_day_or_the_month_first_are_refused(tmp_path: Path) -> None:
    query = f"SELECT * REPLACE ('0' || (1 + order_id % 9) || '/03/2025' AS ordered_at) FROM ({ORDERS})"
    assert "the day or the month first" in refusal(tmp_path, query, time="ordered_at", entity="customer_id")


def test_an_event_too_rare_to_learn_from_is_refused_and_a_rare_one_is_asked_for_less(tmp_path: Path) -> None:
    def rare(every: int) -> str:
        return f"SELECT * REPLACE ((customer_id % {every} = 0)::INT AS churned) FROM ({CUSTOMERS})"

    assert "Nothing can be learned from 15 of a kind" in refusal(tmp_path, rare(20))
    answers = ask_all(table(tmp_path, rare(6)), answering())
    assert answers.notes[0].startswith("only 50 rows have the rarer value of churned")
    assert configuration(tmp_path, answers).training.min_class_rows == 4


def test_the_search_that_is_written_knows_trees_and_a_line(tmp_path: Path) -> None:
    written = configuration(tmp_path, ask_all(table(tmp_path, CUSTOMERS), answering()))
    first, second = estimators_of(written.tuning.space)
    assert first == Training().estimator
    assert space_of(second, written.tuning.space) == ["C"]
    assert len(space_of(first, written.tuning.space)) == 6
    # As it would be had nothing been written.
    assert written.tuning == Tuning()
    assert [*written.tuning.space] == [*Tuning().space]


def test_a_history_that_is_too_short_is_refused(tmp_path: Path) -> None:
    query = f"SELECT * REPLACE (TIMESTAMP '2025-01-01' + order_id * INTERVAL 1 MINUTE AS ordered_at) FROM ({ORDERS})"
    with pytest.raises(ContractViolation, match="Bring a longer history"):
        configuration(tmp_path, ask_all(table(tmp_path, query, "orders"), answering()), "orders")


# Names.


def test_each_column_gets_a_name_of_its_own_that_every_part_takes() -> None:
    titles = ["UserID", "Straße Nr.", "Größe", "größe!", "select", "2024", "score", "—", "x" * 90, "event_timestamp"]
    assert list(plain_names(titles).values()) == [
        "user_id",
        "strasse_nr",
        "groesse",
        "groesse_2",
        "select",
        "c_2024",
        "score_value",
        "column",
        "x" * 60,
        "event_timestamp_value",
    ]


def test_names_of_any_script_are_transliterated_and_none_collides() -> None:
    chinese, japanese, others = ["年龄", "客户ID"], ["年齢", "ネンレイ"], ["Возраст", "Ηλικία", "나이", "عمر", "😀"]
    titles = [*chinese, *japanese, *others, "GRÖßE", "Tên khách", "l’âge"]
    assert list(plain_names(titles).values()) == [
        *("nian_ling", "ke_hu_id", "nian_ling_2", "nenrei", "vozrast", "ilikia", "na_i", "mr", "grinning"),
        *("groesse", "ten_khach", "l_age"),
    ]


HOSTILE = ["{{ 7 * 7 }}", "a\nb: c", 'say "hi"', "x'); DROP TABLE y; --", "{% raw %}", "${HOME}", "# remark", "<b>|"]


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    columns = ", ".join(f'''i % 9 + {n} AS "{name.replace('"', '""')}"''' for n, name in enumerate(HOSTILE))
    constants = ", ".join(f'''1 AS "{name.replace('"', '""')}!"''' for name in HOSTILE)
    query = f"SELECT i AS id, {columns}, {constants}, i % 2 AS label FROM range(100) numbers(i)"
    answers = ask_all(table(tmp_path, query), answering())
    written = configuration(tmp_path, answers)
    rows = written.source.tables["customers"].query
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW source AS SELECT * FROM read_parquet('{tmp_path / 'customers.parquet'}')")
        names = [name for name, *_ in connection.execute(f"DESCRIBE {rows}").fetchall()]
    assert names == [column.name for column in answers.profile.columns]
    assert "{{ 7 * 7 }}" in (rows or "")
    titles = {column.name: " ".join(column.title.split()) for column in answers.features}
    assert written.features.titles == {name: title for name, title in titles.items() if name != title}
    assert {"{{ 7 * 7 }}", "a b: c", "<b>|"} <= set(written.features.titles.values())


def test_features_of_events_have_titles_too_and_emoji_stay_what_they_are(tmp_path: Path) -> None:
    named = ('(amount AS "Größe\u202e\n(€)")', 'order_id % 3 + 0.5 AS "👩\u200d🔬"')
    query = f"SELECT * RENAME {named[0]}, {named[1]} FROM ({ORDERS})"
    written = configuration(tmp_path, ask_all(table(tmp_path, query, "orders"), answering()), "orders")
    assert written.features.titles == {
        f"{of}_{name}": f"{words} {title}"
        for name, title in (("groesse_eur", "Größe (€)"), ("woman_microscope", "👩\u200d🔬"))
        for of, words in (("sum_of", "sum of"), ("mean_of", "mean of"), ("last", "last"))
    }
    definitions = ast.parse((tmp_path / "project" / "feature_repo" / "features.py").read_text("utf-8"))
    texts = {node.value for node in ast.walk(definitions) if isinstance(node, ast.Constant)}
    assert {"sum of 👩\u200d🔬", "sum of Größe\u202e\n(€)"} <= texts


@pytest.mark.parametrize("name", ["../up", "a/b", "Churn", "a b", "a'b", "a\nb", "a\n", "", "-x", "a" * 60, "{{x}}"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert not NAME.fullmatch(name)


def test_a_refused_name_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("a,b\n1,2\n")
    done = lifecycle(tmp_path, "init", "--from", "customers.csv", "--", "../up")
    assert (done.returncode, "cannot be a project's name" in done.stderr) == (2, True), done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {".lifecycle", "customers.csv"}


@pytest.mark.parametrize(
    ("given", "url", "table_name"),
    [
        ("data.csv", "/here/data.csv", "data"),
        ("../Kunden 2025.csv", "/Kunden 2025.csv", "kunden_2025"),
        ("sqlite:///shop.db#Orders", "sqlite:////here/shop.db", "orders"),
        ("sqlite:///../shop.db#Orders", "sqlite:////shop.db", "orders"),
        ("duckdb:////there/shop.duckdb#orders", "duckdb:////there/shop.duckdb", "orders"),
        ("https://example.com/a.parquet", "https://example.com/a.parquet", "a"),
    ],
)
def test_what_from_names(given: str, url: str, table_name: str) -> None:
    place = place_of(given, Path("/here"))
    assert (place.url, place.table) == (url, table_name)


def test_a_remedy_names_what_was_given_where_there_is_no_configuration_yet() -> None:
    told = (
        "shop.db has no table orders; did you mean order? Correct source.tables in pipeline.yaml, or give it a query."
    )
    assert as_given(told, "shop.db#orders") == (
        "shop.db has no table orders; did you mean order? Mend shop.db#orders, or name another with --from."
    )
    assert as_given("a.csv is empty. Write it again.", "a.csv") == "a.csv is empty. Write it again."


# From the table to a project, by the command.


def german_csv(file: Path) -> None:
    lines = ["Kunden-Nr;Straße;Monatspreis;Gesamt;Geschlecht;select;Kündigung"]
    for i in range(300):
        total = f"{i * 7 % 900},5" if i % 50 else " "
        left = "ja" if i * 31 % 7 < 2 else "nein"
        lines.append(f"{1000 + i};Gäßchen {i};{i * 13 % 100},25;{total};{'mw'[i % 2]};{'abc'[i % 3]};{left}")
    file.write_text("\n".join(lines), encoding="latin-1")


def workbook(file: Path) -> None:
    program = """if True:
        import sys, datetime
        from openpyxl import Workbook
        book = Workbook(); sheet = book.active; sheet.title = "Customers 2025"
        sheet.append(["UserID", "Signed Up", "Spent", "Exited"])
        for i in range(200):
            sheet.append([i, datetime.date(2025, 1, 1 + i % 28), i * 7 % 90 / 4, i * 31 % 7 < 2])
        book.save(sys.argv[1])"""
    subprocess.run([interpreter("validation"), "-c", program, file], check=True)


@pytest.mark.slow
def test_a_semicolon_csv_with_decimal_commas_in_latin_1(tmp_path: Path) -> None:
    german_csv(tmp_path / "kunden.csv")
    done = lifecycle(tmp_path, "init", "kuendigung", "--from", "kunden.csv")
    assert done.returncode == 0, done.stderr
    assert "Gesamt is numbers or times but for ' ' in 6 cells: they are read as missing values" in done.stdout
    written = load_configuration(tmp_path / "kuendigung")
    source = written.source
    assert (source.separator, source.decimal, source.encoding, source.missing) == (";", ",", "cp1252", [" "])
    assert source.last_line_may_be_open
    assert (written.entity.key, written.label.column, written.label.positive) == (
        "kunden_nr",
        "kunden.kuendigung",
        "ja",
    )
    assert written.features.leave_out == ["strasse"]
    schema = (tmp_path / "kuendigung/expectations/kunden.pbtxt").read_text()
    assert schema.startswith("# Proposed by `lifecycle init`")
    assert 'name: "gesamt"' in schema
    told = (tmp_path / "kuendigung/README.md").read_text()
    assert "| Which value of Kündigung is the event? | ja | guessed: 'ja' reads like a yes |" in told
    again = lifecycle(tmp_path, "init", "kuendigung", "--from", "kunden.csv")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def read(given: str, folder: Path) -> Profile:
    """A table by the sources' own readers."""
    place = place_of(given, folder)
    program = ["-m", "kfp_lifecycle.projects.source_dialect", place.url, place.part, place.table, str(folder)]
    subprocess.run([str(interpreter("validation")), *program], env={"PYTHONPATH": str(ROOT / "src")}, check=True)
    return profile_of(folder / f"{place.table}.parquet")


@pytest.mark.slow
def test_a_sheet_of_a_workbook(tmp_path: Path) -> None:
    workbook(tmp_path / "users.xlsx")
    answers = ask_all(read("users.xlsx#Customers 2025", tmp_path), answering())
    write_project(tmp_path / "exits", "exits", place_of("users.xlsx#Customers 2025", tmp_path), {}, answers, [])
    written = load_configuration(tmp_path / "exits")
    assert written.source.tables["customers_2025"].sheet == "Customers 2025"
    assert (written.entity.key, written.label.column) == ("user_id", "customers_2025.exited")
    assert written.features.leave_out == ["signed_up"]


@pytest.mark.slow
def test_a_table_of_a_database_whose_name_is_no_plain_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute('CREATE TABLE "My Customers" ("ID" INTEGER, "Plan Name" TEXT, "Left" INTEGER)')
        rows = [(i, "abc"[i % 3], int(i * 31 % 7 < 2)) for i in range(200)]
        database.executemany('INSERT INTO "My Customers" VALUES (?, ?, ?)', rows)
    given = "sqlite:///shop.db#My Customers"
    answers = ask_all(read(given, tmp_path), answering())
    write_project(tmp_path / "leaving", "leaving", place_of(given, tmp_path), {}, answers, [])
    written = load_configuration(tmp_path / "leaving")
    assert written.source.tables["my_customers"].extract == 'SELECT * FROM "My Customers"'


@pytest.mark.slow
def test_a_table_of_events_whose_features_are_tested(tmp_path: Path) -> None:
    day = f"SELECT * REPLACE (strftime(ordered_at, '%d.%m.%Y %H:%M') AS ordered_at) FROM ({ORDERS})"
    duckdb.execute(f"COPY ({day}) TO '{tmp_path / 'orders.csv'}' (FORMAT csv, HEADER)")
    done = lifecycle(tmp_path, "init", "lapse", "--from", "orders.csv")
    assert done.returncode == 0, done.stderr
    tested = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path / "lapse",
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout


class Typing:
    """Somebody at a terminal of 40 columns who begins a project from `kunden.csv`."""

    def __init__(self, folder: Path) -> None:
        german_csv(folder / "kunden.csv")
        lifecycle(folder, "--version")
        self.keyboard, terminal = os.openpty()
        command = [str(ROOT / ".venv" / "bin" / "lifecycle"), "init", "kuendigung", "--from", "kunden.csv"]
        variables = {**os.environ, "COLUMNS": "40"}
        # A session of its own, whose terminal this is: Ctrl-C reaches it as it reaches a person's.
        program = ["setsid", "--ctty", "--wait", *command]
        self.process = subprocess.Popen(
            program, cwd=folder, env=variables, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        self.seen = ""

    def answer(self, question: str, typed: str) -> None:
        """Wait for a question, and type."""
        while question not in self.seen:
            self.seen += os.read(self.keyboard, 4096).decode()
        self.seen = self.seen.partition(question)[2]
        os.write(self.keyboard, typed.encode())

    def end(self) -> tuple[int, str]:
        """The exit code, and what was shown since the last question."""
        with contextlib.suppress(OSError):
            while shown := os.read(self.keyboard, 4096):
                self.seen += shown.decode()
        os.close(self.keyboard)
        return self.process.wait(), self.seen.replace("\r\n", "\n")


@pytest.mark.slow
def test_who_answers_wrongly_is_asked_again(tmp_path: Path) -> None:
    person = Typing(tmp_path)
    person.answer("--time [none]: ", "\n")
    person.answer("--entity [Kunden-Nr]: ", " Kunden-Nr \n")
    # A label of three values, and none of them; a name that is none; then the guess, in its own letters.
    person.answer("--label [Kündigung]: ", "select\n")
    person.answer("--positive: ", "\n")
    person.answer("--label [Kündigung]: ", "Kundigung\n")
    person.answer("--label [Kündigung]: ", "Kündigung\n")
    person.answer("--positive [ja]: ", "vielleicht\n")
    person.answer("--positive [ja]: ", "\n")
    person.answer("--sensitive [Geschlecht]: ", "none\n")
    code, shown = person.end()
    assert (code, "Review what was guessed" in shown) == (0, True), shown
    written = load_configuration(tmp_path / "kuendigung")
    assert (written.label.positive, written.features.sensitive) == ("ja", [])
    told = (tmp_path / "kuendigung/README.md").read_text()
    assert told.count("Which column holds what is to be predicted?") == 1


@pytest.mark.slow
@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_who_gives_up_leaves_nothing_behind(tmp_path: Path, key: str) -> None:
    person = Typing(tmp_path)
    person.answer("--time [none]: ", key)
    code, shown = person.end()
    assert (code, "interrupted; nothing was written" in shown) == (130, True), shown
    assert not (tmp_path / "kuendigung").exists()


@pytest.mark.slow
def test_what_cannot_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("a,b\n1,2\n3\n")
    done = lifecycle(tmp_path, "init", "broken", "--from", "broken.csv")
    assert (done.returncode, "in line 3" in done.stderr) == (1, True), done.stderr
    missing = lifecycle(tmp_path, "init", "broken", "--from", "nowhere.csv")
    assert (missing.returncode, f"looked for {tmp_path / 'nowhere.csv'}" in missing.stderr) == (1, True)
    assert not (tmp_path / "broken").exists()
