"""Scaffolding: what was asked about a table becomes the files of a project."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kfp_lifecycle.config.loading import configuration_schema
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.projects.joining import JoinedTable
from kfp_lifecycle.projects.place import Place
from kfp_lifecycle.projects.profile import Column
from kfp_lifecycle.projects.questions import ENOUGH_ROWS, ROW, Answers, Question, event_of, smallest_part
from kfp_lifecycle.runtime.contract import ContractViolation

# What is in no title: it would end the line, or turn the text around it.
UNTITLED = re.compile(r"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
TEMPLATES = Path(__file__).parent / "templates"
LONGEST_HORIZON, MOST_SNAPSHOTS, PERIODS, OLD_DAYS = 30, 12, 15, 30
MOST_AGGREGATED = 15
# Below it, less a margin, features.min_match_share has to be set: its default is a half.
ENOUGH_MATCHES = 0.625
# What the search that is written chooses among; the first is the library's default.
ESTIMATORS = ("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression")


@dataclass(frozen=True)
class Feature:
    """A feature of an event table."""

    name: str
    type: str
    title: str
    sql: str
    renamed: bool = False
    """Whether the column that it is made of has another name in the source."""
    sensitive: bool = False


def write_project(
    folder: Path,
    name: str,
    place: Place,
    settings: Mapping[str, Any],
    answers: Answers,
    asked: Sequence[tuple[Question, str]],
    joined: Sequence[JoinedTable] = (),
) -> None:
    """Write a project into a new folder; `joined` are its further tables.

    Raises:
        ContractViolation: the history is too short for any split by time, or no table has a feature.
    """
    values = _values(name, place, settings, answers, asked) | _joined(place, answers, joined)
    _render("pipeline.yaml.j2", values, folder / "pipeline.yaml")
    _render("README.md.j2", values, folder / "README.md")
    _render("rules.yaml.j2", values, folder / "expectations" / "rules.yaml")
    if answers.time is not None:
        repository = folder / "feature_repo"
        _render("features.py.j2", values, repository / "features.py")
        _render("history.sql.j2", values, repository / "history.sql")
        _render("label.sql.j2", values, repository / "label.sql")
        _render("test_features.py.j2", values, folder / "tests" / "test_features.py")
    (folder / "pipeline.schema.json").write_text(json.dumps(configuration_schema(), indent=1) + "\n", "utf-8")


def _values(
    name: str, place: Place, settings: Mapping[str, Any], answers: Answers, asked: Sequence[tuple[Question, str]]
) -> dict[str, Any]:
    key = answers.entity.name if answers.entity else ROW
    label = answers.label
    one_of_many = label is not None and label.different > 2
    label_name = label.name if label else "lapsed"
    values: dict[str, Any] = {
        "name": name,
        "title": f"{label.title if label else 'who comes no more'}, by {place.table}",
        "model": name.replace("_", "-").strip("-")[:53].strip("-"),
        "url": place.url,
        "table": place.table,
        "settings": {setting: value for setting, value in settings.items() if value},
        "sheet": place.part if place.is_workbook else "",
        "extract": place.extract,
        "query": _query(answers, place, one_of_many),
        "key": key,
        "row_key": [key],
        "time": answers.time.name if answers.time else "",
        "label_name": label_name,
        "label_column": label_name,
        "label_title": f"{label.title} is {answers.positive}" if label else "comes no more",
        "positive": None if label is None or one_of_many else _positive(label, answers.positive),
        "group": answers.group.name if answers.group else "",
        "left_out": [(column.title, why) for column, why in answers.left_out],
        "renamed": [(each.name, each.title) for each in answers.profile.columns if each.name != each.title],
        "notes": answers.notes,
        "asked": asked,
        "rows": f"{answers.profile.rows:,}",
        "titles": {},
        "estimators": ESTIMATORS,
        "min_class_rows": smallest_part(answers.fewest) if 0 < answers.fewest < ENOUGH_ROWS else None,
        "rules": _rules(answers, place.table, key),
    }
    return values | (_over_time(answers, place.table, key) if answers.time else {})


def _joined(place: Place, answers: Answers, joined: Sequence[JoinedTable]) -> dict[str, Any]:
    """What the features of a project without a time are made of: its one table, or several."""
    if answers.time is not None:
        return {"joined": []}
    titles = {column.name: column.title for column in (*answers.features, *answers.sensitive)}
    for each in joined:
        titles |= {
            column.name: f"{each.place.table}: {column.title}" if column.title in titles.values() else column.title
            for column in (*each.features, *each.sensitive)
        }
    least = min((each.match_share for each in joined), default=1.0)
    used = [place.table] if answers.features or answers.sensitive else []
    used += [each.place.table for each in joined if each.features or each.sensitive]
    if not answers.features and not any(each.features for each in joined):
        tables = ", ".join([place.table, *(each.place.table for each in joined)])
        raise ContractViolation(f"no column of {tables} is left to learn from. Bring a table with more columns.")
    return {
        "joined": joined,
        "feature_tables": used,
        "left_out": [
            *((column.title, why) for column, why in answers.left_out),
            *((f"{column.title} of {each.place.table}", why) for each in joined for column, why in each.left_out),
        ],
        "leave_out": [
            *((column.name, why) for column, why in answers.left_out if place.table in used),
            *(
                (f"{each.place.table}.{column.name}", why)
                for each in joined
                for column, why in each.left_out
                if each.place.table in used
            ),
        ],
        "sensitive": [
            *(f"{place.table}:{column.name}" for column in answers.sensitive),
            *(f"{each.place.table}:{column.name}" for each in joined for column in each.sensitive),
        ],
        "titles": _titles(titles),
        "notes": [*answers.notes, *(note for each in joined for note in each.notes)],
        # Rounded down, for another day's data.
        "min_match_share": math.floor(least * 80) / 100 if least < ENOUGH_MATCHES else None,
    }


def _over_time(answers: Answers, table: str, key: str) -> dict[str, Any]:
    """What only a table of events has: snapshots, and features of a history."""
    assert answers.time is not None
    first, last = _span(answers)
    span = (last - first).days
    horizon = min(LONGEST_HORIZON, span // PERIODS)
    if horizon < 1:
        raise ContractViolation(
            f"--time {answers.time.title}: its times reach over {span} days, from {first:%Y-%m-%d} to {last:%Y-%m-%d}. "
            f"Splits by time need {PERIODS} periods, so {PERIODS} days at the least. Bring a longer history."
        )
    row_key = _row_key(answers, key)
    features = _features(answers, key, row_key, horizon)
    entity = answers.entity
    assert entity is not None
    label = answers.label
    event = None
    if label is not None:
        one_of_many = label.different > 2
        event = (
            f"{quoted(label.name)} = 1"
            if one_of_many
            else f"CAST({quoted(label.name)} AS VARCHAR) = {literal(answers.positive)}"
        )
    return {
        "span": f"{span:,}",
        "every_days": horizon,
        "horizon": horizon,
        "count": min(MOST_SNAPSHOTS, span // horizon - 2),
        "is_old": last < datetime.now() - timedelta(days=OLD_DAYS),
        "row_key": row_key,
        "features": features,
        "sensitive": [f"history:{feature.name}" for feature in features if feature.sensitive],
        "titles": _titles({feature.name: feature.title for feature in features if feature.renamed}),
        "entity_name": table,
        "key_type": "Int64" if entity.is_integer else "String",
        "value_type": "INT64" if entity.is_integer else "STRING",
        "event": event,
        "label_title": f"{label.title} is {answers.positive} within {horizon} days" if label else "comes no more",
        "columns": {column.name: _kind(column, answers) for column in answers.profile.columns}
        | ({ROW: "BIGINT"} if row_key == [ROW] else {}),
    }


def _kind(column: Column, answers: Answers) -> str:
    if column == answers.time:
        return "TIMESTAMP"
    return "BIGINT" if column.is_integer else column.kind if column.is_number else "VARCHAR"


def _span(answers: Answers) -> tuple[datetime, datetime]:
    assert answers.time is not None
    time = _typed(answers.time, answers)
    first, last = answers.profile.ask(
        f"SELECT min(CAST({time} AS TIMESTAMP)), max(CAST({time} AS TIMESTAMP)) FROM data"
    )[0]
    return first, last


def _row_key(answers: Answers, key: str) -> list[str]:
    """What tells rows apart: a column, the entity and its time together, or a number."""
    assert answers.time is not None
    assert answers.entity is not None
    rows = answers.profile.rows
    for column in answers.profile.columns:
        if column.different == column.filled == rows and (column.is_integer or column.is_text):
            return [column.name]
    pairs = answers.profile.ask(
        f"SELECT count(DISTINCT ({quoted(answers.entity.title)}, {quoted(answers.time.title)})) FROM data"
    )[0][0]
    return [key, answers.time.name] if pairs == rows else [ROW]


def _features(answers: Answers, key: str, row_key: Sequence[str], horizon: int) -> list[Feature]:
    time = quoted(answers.time.name if answers.time else "")
    # Of rows at one time the key decides, so that the last one is the same each time.
    order = ", ".join([time, *(quoted(column) for column in row_key if column != key)])
    recent = f"{time} > $as_of - INTERVAL {horizon} DAY"
    features = [
        Feature("row_count", "Int64", "rows so far", "count(*)"),
        Feature(f"rows_{horizon}_days", "Int64", f"rows of {horizon} days", f"count(*) FILTER ({recent})"),
        Feature(
            f"rows_{3 * horizon}_days",
            "Int64",
            f"rows of {3 * horizon} days",
            f"count(*) FILTER ({time} > $as_of - INTERVAL {3 * horizon} DAY)",
        ),
    ]
    for column in [each for each in answers.features if each.name not in row_key][:MOST_AGGREGATED]:
        value = quoted(column.name)
        if column.is_number:
            number = f"CAST({value} AS DOUBLE)"
            features += [
                Feature(f"{of}{column.name}", "Float64", f"{words} {column.title}", sql, column.name != column.title)
                for of, words, sql in (
                    ("sum_of_", "sum of", f"sum({number})"),
                    ("mean_of_", "mean of", f"avg({number})"),
                    ("last_", "last", f"last({number} ORDER BY {order})"),
                )
            ]
        else:
            text = f"last(CAST({value} AS VARCHAR) ORDER BY {order})"
            title = f"last {column.title}"
            features.append(Feature(f"last_{column.name}", "String", title, text, column.name != column.title))
    for column in answers.sensitive:
        text = f"last(CAST({quoted(column.name)} AS VARCHAR) ORDER BY {order})"
        renamed = column.name != column.title
        features.append(Feature(f"last_{column.name}", "String", f"last {column.title}", text, renamed, sensitive=True))
    return features


def _query(answers: Answers, place: Place, one_of_many: bool) -> str | None:
    """The SQL that gives columns their names in the project; None where they have them already."""
    columns = []
    for column in answers.profile.columns:
        value = _typed(column, answers)
        if column == answers.label and one_of_many:
            value = f"CAST({event_of(column, answers.positive)} AS INTEGER)"
        as_it_is = value == quoted(column.title) and column.name == column.title
        columns.append(value if as_it_is else f"{value} AS {quoted(column.name)}")
    plain = all(" AS " not in column for column in columns)
    unlabelled = answers.label is not None and answers.label.filled < answers.profile.rows and answers.time is None
    numbered = answers.entity is None or (answers.time is not None and _row_key(answers, answers.entity.name) == [ROW])
    if numbered:
        columns.insert(0, f"row_number() OVER () AS {ROW}")
    if plain and not unlabelled and not numbered and not (place.is_duckdb and place.part not in ("", place.table)):
        return None
    where = f"\nWHERE {quoted(answers.label.title)} IS NOT NULL" if unlabelled and answers.label else ""
    return f"SELECT\n  {(',' + chr(10) + '  ').join(columns)}\nFROM {place.rows}{where}"


def _typed(column: Column, answers: Answers) -> str:
    """SQL of a column as what it is: a time that is text as a time, keys of one width."""
    value = column.sql
    if column == answers.time and answers.time_format:
        return f"strptime({value}, {literal(answers.time_format)})"
    if answers.time is None and column.kind.startswith("DECIMAL"):
        return f"CAST({value} AS DOUBLE)"
    if column == answers.entity and column.is_integer and column.kind != "BIGINT":
        return f"CAST({value} AS BIGINT)"
    return value


def _positive(label: Column, positive: str) -> Any:
    """The label's value that means the event, typed as the column is; None where 1 or true is it."""
    if label.kind == "BOOLEAN":
        return None if positive == "true" else False
    if label.is_number:
        number = float(positive)
        values = {float(value) for value, _ in label.values}
        return None if number == 1 and values == {0.0, 1.0} else int(number) if number.is_integer() else number
    return positive


def _rules(answers: Answers, table: str, key: str) -> list[dict[str, str]]:
    rules = []
    if answers.label is not None and answers.label.different == 2 and answers.time is None:
        values = ", ".join(literal(value) for value, _ in answers.label.values)
        label = quoted(answers.label.name)
        rules.append(
            {
                "text": f"{_one_line(answers.label.title)} is one of its two values",
                "sql": f"SELECT {quoted(key)}, {label} FROM {quoted(table)} WHERE {label} IS NULL "
                f"OR CAST({label} AS VARCHAR) NOT IN ({values})",
                "severity": "critical",
                "remedy": "Rows without an outcome teach nothing: leave them out in the table's query, or mend them.",
            }
        )
    for column in answers.features:
        if column.is_number and column.least is not None and column.least >= 0:
            value = quoted(column.name)
            rules.append(
                {
                    "text": f"{_one_line(column.title)} is never negative",
                    "sql": f"SELECT {quoted(key)}, {value} FROM {quoted(table)} WHERE {value} < 0",
                    "severity": "warning",
                    "remedy": f"It never was so far. Mend {_one_line(column.title)} in the source, or drop the rule.",
                }
            )
    return rules


def _render(template: str, values: Mapping[str, Any], file: Path) -> None:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # What is written is no page: each value is quoted by the language of the file it comes to stand in.
        autoescape=False,
    )
    environment.filters |= {
        "text": _yaml,
        "block": _yaml_block,
        "remark": _one_line,
        "cell": lambda text: _one_line(text).replace("|", "\\|").replace("<", "&lt;"),
        "python": _python,
        "sql": quoted,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    text = environment.get_template(template).render(values)
    file.write_text(re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n", "utf-8")


def _yaml(value: Any) -> str:
    """A value as JSON, which YAML reads; text without anything odd as it is."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{2,}", value):
        return value if value.lower() not in ("true", "false", "yes", "null", "off") else json.dumps(value)
    return _quoted(value)


def _yaml_block(value: str, indent: int) -> str:
    if not all(line.isprintable() and line == line.rstrip() for line in value.split("\n")):
        return _yaml(value)
    return "|\n" + "\n".join(f"{' ' * indent}{line}" for line in value.split("\n"))


def _python(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(value: Any) -> str:
    """A value as JSON, what cannot be seen escaped as both YAML and Python read it."""
    return "".join(
        letter if letter.isprintable() else f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"
        for letter in json.dumps(value, ensure_ascii=False)
    )


def _one_line(text: object) -> str:
    """A text that stands in a remark: nothing in it ends the line."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def _titles(titles: Mapping[str, str]) -> dict[str, str]:
    """What `features.titles` says of features whose column has another name in the source: one line each, and no two
    the same."""
    found: dict[str, str] = {}
    for name, title in titles.items():
        line = " ".join(UNTITLED.sub(" ", title).split()) or name
        if line != name:
            taken = {*found.values(), *titles} - {name}
            found[name] = f"{line} ({name})" if line in taken else line
    return found
