"""Feature definitions that cannot be used are refused before any work, in words that name the file and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import definitions_of
from tests.lending_library import FILES, write_project

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("project", [CHECKOUT, CHECKOUT / "examples" / "cdnow"], ids=["churn", "cdnow"])
def test_the_projects_of_this_repository_are_usable(project: Path) -> None:
    definitions = definitions_of(project)
    assert definitions.features
    assert not {feature.name for feature in definitions.features} & {feature.name for feature in definitions.sensitive}


def test_the_service_decides_which_features_in_which_order_and_their_types(tmp_path: Path) -> None:
    definitions = definitions_of(write_project(tmp_path / "project"))
    assert [(feature.name, feature.type) for feature in definitions.features] == [
        ("loans", "numeric"),
        ("pages", "numeric"),
        ("average_pages", "numeric"),
        ("likes_poetry", "numeric"),
        ("genre", "categorical"),
        ("days_since_last_loan", "numeric"),
    ]
    assert [f"{feature.view}:{feature.name}" for feature in definitions.sensitive] == ["person:town"]
    assert "loans_so_far:last_loan_at" in definitions.sources(definitions.features)


def test_the_version_follows_what_computes_features_and_nothing_else(tmp_path: Path) -> None:
    def version(name: str, file: str = "", change: tuple[str, str] = ("", "")) -> str:
        return definitions_of(write_project(tmp_path / name, {file: change} if file else None)).version

    first = version("first")
    assert version("same") == first
    assert version("label", "feature_repo/label.sql", ("lent_at > $snapshot", "lent_at >= $snapshot")) == first
    assert version("sql", "feature_repo/person.sql", ("FROM", "from")) != first
    assert version("python", "feature_repo/features.py", ("/ 86400", "/ 3600")) != first


FEATURES = "feature_repo/features.py"
PIPELINE = "pipeline.yaml"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (FEATURES, None, r"has no features\.py"),
        (FEATURES, "import nothing_like_it", r"features\.py cannot be used: ModuleNotFoundError"),
        (FEATURES, ('name="reader"', 'name="user"'), r"defines no entity reader.*it defines user"),
        (PIPELINE, ("key: reader_id}", "key: user_id}"), r"joins on reader_id, but entity\.key is user_id"),
        (PIPELINE, ("service: reading", "service: writing"), r"no feature service writing.*it defines reading"),
        (FEATURES, ('"likes_poetry", "genre"', '"likes_prose"'), r"Feature likes_prose does not exist"),
        (PIPELINE, ("person:town", "person:city"), r"features\.sensitive names person:city.*person has town"),
        (PIPELINE, ("person:town", "persona:town"), r"names the view persona.*there are loans_so_far, person, recency"),
        (PIPELINE, ("service: reading", "titles: {city: Stadt}, service: reading"), r"titles gives city a title.*town"),
        (PIPELINE, ("service: reading", "titles: {town: genre}, service: reading"), r"calls town genre, which is the"),
        (FEATURES, ('f"{name}.parquet"', '"all.parquet"'), r"source of the view .* has to be"),
        (FEATURES, ("town=String", "loans=String"), r"person:loans has the name of loans_so_far:loans"),
        (FEATURES, ("town=String", "idle=String"), r"person:idle has the name of a column that every training set has"),
        (FEATURES, ("town=String", "score=String"), r"person:score has the name of what the model answers"),
        (FEATURES, ('"likes_poetry", "genre"', '"last_loan_at"'), r"last_loan_at of type UnixTimestamp; a model takes"),
        (FEATURES, ('name="request_time"', 'name="mood"'), r"recency asks for mood with each request"),
        (FEATURES, ('mode="python"', 'mode="python", singleton=True'), r"recency must have mode=.python. and work on"),
        ("feature_repo/person.sql", None, r"view person has no SQL: write .*person\.sql.* gives reader_id and town"),
    ],
)
def test_definitions_that_cannot_be_used_are_refused(
    tmp_path: Path, file: str, change: tuple[str, str] | str | None, message: str
) -> None:
    changes = {file: change}
    if message.startswith(r"person:"):
        changes[PIPELINE] = ("person:town", message.partition(" ")[0])
    project = write_project(tmp_path / "project", changes)
    with pytest.raises(ContractViolation, match=message):
        definitions_of(project)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("86400 for", "0 for"), r"on-demand view recency failed: ZeroDivisionError"),
        (('{"days_since_last_loan": [', '{"days": ['), r"must return a list of 1 values for days_since_last_loan"),
    ],
)
def test_an_on_demand_function_that_fails_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    definitions = definitions_of(write_project(tmp_path / "project", {FEATURES: change}))
    now = datetime.now(UTC)
    with pytest.raises(ContractViolation, match=message):
        definitions.on_demand_values(definitions.features, {"last_loan_at": [now], "request_time": [now]})


@pytest.mark.parametrize(
    ("dtype", "returned", "taken"),
    [
        ("Int64", "0.4", False), ("Int64", "3.0", True), ("Int64", "'3'", False), ("Int64", "True", True),
        ("Int64", "2**63", False), ("Int64", "float('inf')", False), ("Int32", "2**31", False),
        ("Int32", "-2**31", True),
        ("Bool", "0.3", False), ("Bool", "2", False), ("Bool", "False", True), ("Bool", "1.0", True),
        ("Float64", "'2.5'", False), ("Float64", "2", True), ("Float64", "float('nan')", True),
        ("Float64", "None", True),
        ("Float64", "[1.0]", False), ("String", "3", False), ("String", "True", False), ("String", "'poetry'", True),
    ],
)  # fmt: skip
def test_an_on_demand_value_is_of_its_feature_s_type_or_refused(
    tmp_path: Path, dtype: str, returned: str, taken: bool
) -> None:
    text = FILES[FEATURES].replace('name="days_since_last_loan", dtype=Float64', f'name="made", dtype={dtype}')
    text = text.replace("Bool, Float64, Int64", "Bool, Float64, Int32, Int64")
    start = text.index('    return {"days_since_last_loan"')
    text = f'{text[:start]}    return {{"made": [{returned} for _ in pairs]}}{text[text.index(chr(10), start) :]}'
    definitions = definitions_of(write_project(tmp_path / "project", {FEATURES: text}))
    now = datetime.now(UTC)
    inputs = {"last_loan_at": [now], "request_time": [now]}
    if taken:
        assert len(definitions.on_demand_values(definitions.features, inputs)["made"]) == 1
    else:
        with pytest.raises(ContractViolation, match=rf"recency returned .* for made, which is no {dtype}: "):
            definitions.on_demand_values(definitions.features, inputs)
