"""Joining: further tables of a new project, one row for each entity, by the entity's key.

A table with several rows of an entity is aggregated by its query: how many there are, sums, means, different values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.projects.place import Place
from kfp_lifecycle.projects.profile import IDENTIFIER, MOST_CATEGORIES, SHOWN, Column, Profile, profile_of
from kfp_lifecycle.projects.questions import SENSITIVE, Answers, event_of
from kfp_lifecycle.projects.screening import texts_of_numbers, useless
from kfp_lifecycle.runtime.contract import ContractViolation

EVENT = "the event"
MOST_AGGREGATED = 15


@dataclass(frozen=True)
class JoinedTable:
    """A further table, as the project reads it."""

    place: Place
    settings: Mapping[str, Any]
    query: str
    """SQL that gives its key and columns the names that they have in the project, and each entity one row."""
    features: tuple[Column, ...]
    sensitive: tuple[Column, ...]
    left_out: tuple[tuple[Column, str], ...]
    notes: tuple[str, ...]
    match_share: float
    """Share of the label's entities that it has a row for."""

    @property
    def columns(self) -> list[Column]:
        """All that the project has of it beside the key."""
        return [*self.features, *self.sensitive, *(column for column, _ in self.left_out)]


def join(
    answers: Answers, base: Path, place: Place, settings: Mapping[str, Any], profile: Profile, taken: Collection[str]
) -> JoinedTable:
    """Join a table to the one that has the label.

    Args:
        answers: What was answered about the label's table.
        base: That table, a Parquet file.
        place: The further table.
        settings: How it is read.
        profile: What it is like.
        taken: Names that columns of other tables have in the project.

    Raises:
        ContractViolation: it has no key of the label's table, or none of its values; the message says what to do.
    """
    entity, label = answers.entity, answers.label
    if entity is None or label is None or answers.time is not None:
        raise ContractViolation(
            f"--from {place.table}: tables are joined by a key, and the first one that --from names has to hold it, "
            "with the label and one row for each entity: name it with --entity. Where rows are events, begin with "
            "their table alone; `lifecycle add source` adds others."
        )
    ask = profile.ask
    profile.connection.execute(
        f"CREATE VIEW labelled AS SELECT {_like(entity, entity.is_integer)} AS key, "
        f"CAST({event_of(label, answers.positive)} AS INTEGER) AS event FROM read_parquet({literal(str(base))}) "
        f"WHERE {quoted(label.title)} IS NOT NULL"
    )
    column = _key(entity, place, profile)
    key = _like(column, entity.is_integer)
    [(wanted, matched)] = ask(f"SELECT count(*), count(*) FILTER (key IN (SELECT {key} FROM data)) FROM labelled")
    if not matched:
        theirs = ", ".join(repr(value) for value, _ in column.values[:SHOWN])
        ours = ", ".join(repr(value) for value, _ in entity.values[:SHOWN])
        raise ContractViolation(
            f"--from {place.table}: no {column.title} of it is a {entity.title} of the label's table. It has {theirs}, "
            f"and the other {ours}. Write keys alike in both."
        )
    [(rows, keyless, entities, others)] = ask(
        f"SELECT count(*), count(*) FILTER ({key} IS NULL), count(DISTINCT {key}), "
        f"count(DISTINCT {key}) FILTER ({key} NOT IN (SELECT key FROM labelled)) FROM data"
    )
    notes = [f"{place.table} has no row for {wanted - matched:,} of {wanted:,}: its features are missing there"]
    notes = notes if matched < wanted else []
    notes += [f"{others:,} of {entities:,} in {place.table} have no label, and are not used"] if others else []
    notes += (
        [f"{keyless:,} of {rows:,} rows of {place.table} have no {column.title}, and are left out"] if keyless else []
    )
    notes += texts_of_numbers(profile, (column,))
    chosen = [each for each in profile.columns if each != column]
    own = {each.title: why for each, why in useless(profile, chosen, None)}
    if entities < rows - keyless:
        notes.append(
            f"{place.table} has {rows:,} rows of {entities:,}: its query makes one row of each. Where a row can come "
            "after the event, leave it out there (WHERE): a model would learn from the future"
        )
        notes += [f"{title} of {place.table} is not aggregated: {why}" for title, why in own.items()]
        made = _aggregated(place.table, [each for each in chosen if each.title not in own], taken)
        own = {}
    else:
        made = _as_they_are(place.table, chosen, taken)
    head = ",\n  ".join(
        [f"{key} AS {quoted(entity.name)}", *(f"{sql} AS {quoted(name)}" for name, (_, sql) in made.items())]
    )
    tail = f"WHERE {key} IS NOT NULL" + ("\nGROUP BY 1" if entities < rows - keyless else "")
    look = _looked_at(
        profile, f"SELECT {head} FROM data {tail}", entity, base.with_name(f"{place.table}-joined.parquet")
    )
    columns = [replace(each, name=each.title, title=made[each.title][0]) for each in look.columns if each.title in made]
    sensitive = [each for each in columns if SENSITIVE.search(each.name) and 1 < each.different <= MOST_CATEGORIES]
    names = {each.name for each in columns} - {each.name for each in sensitive}
    screened = [each for each in look.columns if each.title in names]
    left_out = {each.title: why for each, why in useless(look, screened, (label, f"{quoted(EVENT)} = 1"))}
    left_out |= {name: own[title] for name, (title, _) in made.items() if title in own}
    if sensitive:
        names_of = ", ".join(each.title for each in sensitive)
        notes.append(f"by their names the model must be fair by {names_of} of {place.table}, too: no features then")
    return JoinedTable(
        place=place,
        settings=settings,
        query=f"SELECT\n  {head}\nFROM {place.rows}\n{tail}",
        features=tuple(each for each in columns if each.name in names - left_out.keys()),
        sensitive=tuple(sensitive),
        left_out=tuple((each, left_out[each.name]) for each in columns if each.name in left_out),
        notes=tuple(notes),
        match_share=matched / wanted,
    )


def _like(column: Column, integer: bool) -> str:
    """SQL of a key as the label's table has it, a number or a text; NULL where it is none."""
    value = quoted(column.title)
    if not integer:
        return f"CAST({value} AS VARCHAR)"
    return f"CASE WHEN TRY_CAST({value} AS DOUBLE) = TRY_CAST({value} AS BIGINT) THEN TRY_CAST({value} AS BIGINT) END"


def _key(entity: Column, place: Place, profile: Profile) -> Column:
    """The column of a further table that holds the entity's key: of the same name, or with the most of its values."""
    named = profile.find(entity.title) or profile.find(entity.name)
    if named is not None:
        return named
    counted = []
    for column in profile.columns:
        if column.is_text or column.is_number:
            key = _like(column, entity.is_integer)
            [(found, different)] = profile.ask(
                f"SELECT count(DISTINCT {key}) FILTER ({key} IN (SELECT key FROM labelled)), count(DISTINCT {key}) "
                "FROM data"
            )
            # Numbers below a thousand are in many columns.
            if found * 2 > different and (entity.is_text or IDENTIFIER.search(column.name)):
                counted.append((found, column))
    if not counted:
        raise ContractViolation(
            f"--from {place.table}: it has no column {entity.title}, and none whose values are mostly keys of the "
            f"label's table. It has {', '.join(column.title for column in profile.columns)[:300]}. Call its key "
            f"{entity.title}, too."
        )
    return max(counted, key=lambda each: each[0])[1]


def _as_they_are(table: str, columns: Collection[Column], taken: Collection[str]) -> dict[str, tuple[str, str]]:
    """Title and SQL of each column, by its name in the project."""
    values: dict[str, tuple[str, str]] = {}
    for column in columns:
        value = f"CAST({column.sql} AS DOUBLE)" if column.kind.startswith("DECIMAL") else column.sql
        values[_free(column.name, table, taken, values)] = (column.title, value)
    return values


def _aggregated(table: str, columns: Collection[Column], taken: Collection[str]) -> dict[str, tuple[str, str]]:
    """Title and SQL of what is made of an entity's rows, by its name in the project."""
    values = {_free(f"{table}_rows", table, taken, ()): (f"rows of {table}", "count(*)")}
    for column in list(columns)[:MOST_AGGREGATED]:
        if column.is_number:
            # In one order: a sum of fractions depends on it.
            number = f"CAST({column.sql} AS DOUBLE)"
            for word, function in (("sum", "sum"), ("mean", "avg")):
                name = _free(f"{word}_of_{column.name}", table, taken, values)
                values[name] = (f"{word} of {column.title}", f"{function}({number} ORDER BY {number})")
        elif column.kind == "BOOLEAN":
            name = _free(f"share_of_{column.name}", table, taken, values)
            values[name] = (f"share of {column.title}", f"avg(CAST({column.sql} AS INTEGER))")
        else:
            name = _free(f"different_{column.name}", table, taken, values)
            values[name] = (f"different values of {column.title}", f"count(DISTINCT {column.sql})")
    return values


def _free(name: str, table: str, taken: Collection[str], values: Collection[str]) -> str:
    """A name that no column of another table has: with the table's before it, if need be."""
    return next(
        each
        for each in (name, f"{table}_{name}", *(f"{table}_{name}_{number}" for number in range(2, 1000)))
        if each not in taken and each not in values
    )


def _looked_at(profile: Profile, query: str, entity: Column, file: Path) -> Profile:
    """What a table's columns are like for the label's entities, beside whether the event came."""
    profile.connection.execute(
        f"COPY (SELECT event AS {quoted(EVENT)}, joined.* EXCLUDE ({quoted(entity.name)}) FROM labelled "
        f"LEFT JOIN ({query}) AS joined ON labelled.key = joined.{quoted(entity.name)}) "
        f"TO {literal(str(file))} (FORMAT parquet)"
    )
    return profile_of(file)
