"""What a table cannot say of itself: the questions of `lifecycle init`, each with a guess and its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.projects.profile import (
    IDENTIFIER,
    MOST_CATEGORIES,
    SHOWN,
    Column,
    Profile,
    is_written_time,
    repeated,
    time_formats,
    unreadable,
)
from kfp_lifecycle.projects.screening import copies, like_spellings, texts_of_numbers, totals, useless
from kfp_lifecycle.runtime.contract import ContractViolation

NONE, ROW = "none", "row_id"
# Rows of each class that a split at random needs, and that it needs to meet the default of training.min_class_rows.
FEWEST_ROWS, ENOUGH_ROWS = 30, 110
FEW_VALUES = 10
# Whom several rows may be of, so that a model would know them again.
WHOSE = re.compile(r"(^|_)(id|uuid|uid|pid|nr|customer|client|user|member|patient|person|subject|household|kunde)$")
FEWEST_GROUPS, LARGEST_GROUP, ROWS_OF_ONE = 50, 0.05, 30
# Names of outcomes, those that are little else first.
LABELS = tuple(
    re.compile(f"(^|_)({names})($|_)")
    for names in (
        "churn(ed|er)?|target|label|y|class|default(ed)?|exited|survived|outcome|response|left|attrition|fraud|converted|"
        "subscribed|deposit|cancelled|canceled|lapsed|spam|bought|purchased?|approved?|rejected?|arrest(ed)?|death|died|"
        "deceased|callback|readmitted|readmission|recidivism|delinquent|creditability|clicked|renewed|relapsed?|"
        "kuendigung|gekuendigt|abwanderung|verlassen|ablehnung|abgelehnt|zahlungsausfall|betrug|liu_shi|shi_fou|ottok",
        "status|event|result|success|accepted|improved|late|cens(ored)?|bad|won",
    )
)
EVENT = re.compile(
    r"(?i)(1|1\.0|2|2\.0|yes|y|true|t|ja|j|si|sí|oui|sim|tak|evet|да|是|はい|churn(ed)?|left|exited|bad|fraud|default|"
    r"spam|late|died|dead|cancell?ed|>50k\.?)"
)
NO_EVENT = re.compile(r"(?i)(0|0\.0|no|n|false|f|nein|non|não|nie|nee|hayır|нет|否|いいえ|good|ok|stayed|active|alive)")
SENSITIVE = re.compile(
    r"(^|_)(sex|gender|female|male|race(f|_[a-z]+)?|black|white|hispanic|ethnic(ity)?|religion|nationality|"
    r"foreign_worker|disability|geschlecht|married|marital(_status)?)$"
)


@dataclass(frozen=True)
class Question:
    """Something to be asked, with what is taken where nobody answers."""

    option: str
    """The option of the command that answers it, without its dashes."""
    text: str
    guess: str
    why: str


Ask = Callable[[Question], str]
# Told of an answer that does not fit: it returns where somebody can answer once more, and raises where nobody can.
Refused = Callable[[Question, ContractViolation], None]
Fitting = TypeVar("Fitting")


def refused_for_good(question: Question, violation: ContractViolation) -> None:
    """Nobody is there to answer once more."""
    raise violation


def _answer(question: Question, ask: Ask, refused: Refused, use: Callable[[str], Fitting]) -> Fitting:
    """What an answer comes to, asked for until it fits."""
    while True:
        try:
            return use(ask(question))
        except ContractViolation as violation:
            refused(question, violation)


@dataclass(frozen=True)
class Answers:
    """What a project is made of."""

    profile: Profile
    entity: Column | None
    """None: rows are numbered."""
    time: Column | None
    """None: one row for each entity."""
    time_format: str | None
    """Of a time that is text."""
    label: Column | None
    """None: who has no row within the horizon."""
    positive: str
    """The label's value that means the event, as text; empty without a label."""
    fewest: int
    """Rows of the rarer of the label's two values, in a table without a time; else 0."""
    sensitive: tuple[Column, ...]
    left_out: tuple[tuple[Column, str], ...]
    """Columns that are no features, and why."""
    notes: tuple[str, ...]
    """What was found beside that."""
    group: Column | None = None
    """Whose rows are kept together in one part of the split, where one without a time has several."""

    @property
    def features(self) -> list[Column]:
        """The columns that are left to learn from."""
        apart = (self.entity, self.time, self.label, *self.sensitive, *(column for column, _ in self.left_out))
        return [column for column in self.profile.columns if column not in apart]


def ask_all(profile: Profile, ask: Ask, alone: bool = True, refused: Refused = refused_for_good) -> Answers:
    """Ask what has to be known, refuse what cannot be, and say which columns are of no use.

    Args:
        profile: The table that has the label, or the events.
        ask: Gives the answer to a question.
        alone: Whether no further table has features.

    Raises:
        ContractViolation: an answer does not fit the table; the message names the column, the rule and the remedy.
    """

    def time_of(answer: str) -> tuple[Column | None, str | None]:
        time = _chosen(profile, answer, "time")
        return time, _time_format(profile, time)

    def label_of(answer: str) -> tuple[Column | None, str, int]:
        label = _chosen(profile, answer, "label")
        _check_label(label, entity, time)
        positive = _positive(profile, label, ask, refused) if label else ""
        return label, positive, _fewest(profile, label, positive) if label is not None and time is None else 0

    time, form = _answer(_about_time(profile), ask, refused, time_of)
    entity = _answer(_about_entity(profile, time), ask, refused, lambda answer: _entity(profile, answer, time))
    label, positive, fewest = _answer(_about_label(profile, entity, time), ask, refused, label_of)
    sensitive = _answer(
        _about_sensitive(profile, (entity, time, label)),
        ask,
        refused,
        lambda answer: _sensitive(profile, answer, (entity, time, label)),
    )
    notes = (*texts_of_numbers(profile, (entity, label)), *like_spellings(profile, (entity, label)))
    notes = (*notes, *(copies(profile) if entity is None else totals(profile, entity)))
    if label is not None and time is None and label.filled < profile.rows:
        notes = (
            *notes,
            f"{label.title} is empty in {profile.rows - label.filled:,} of {profile.rows:,} rows: the table's query "
            "leaves these out, since nothing is learned from a row whose outcome nobody knows",
        )
    if label is not None and 0 < fewest < ENOUGH_ROWS:
        notes = (
            *notes,
            f"only {fewest} rows have the rarer value of {label.title}: figures will have wide intervals, and "
            f"training.min_class_rows is {smallest_part(fewest)}",
        )
    group = _group(profile, (entity, label, *sensitive)) if time is None else None
    answers = Answers(profile, entity, time, form, label, positive, fewest, sensitive, (), notes, group)
    event = None if label is None or time is not None else (label, event_of(label, positive))
    together = [(group, f"a {group.title} has several rows, which are kept in one part of the split")] if group else []
    answers = replace(answers, left_out=tuple(together))
    answers = replace(answers, left_out=(*together, *useless(profile, answers.features, event)))
    if alone and not answers.features and time is None:
        reasons = "; ".join(f"{column.title}: {why}" for column, why in answers.left_out)
        why = reasons or "the table has nothing but what a row is about and what is predicted"
        raise ContractViolation(f"no column is left to learn from. {why}. Bring a table with more columns.")
    return answers


def _check_label(label: Column | None, entity: Column | None, time: Column | None) -> None:
    if label is None and time is None:
        raise ContractViolation(
            "there is nothing to predict without a label: name its column with --label, or, where rows are events with "
            "a time, name that with --time."
        )
    if label is not None and label in (entity, time):
        raise ContractViolation(f"{label.title} cannot be the label and something else. Name another column.")


def event_of(label: Column, positive: str) -> str:
    """SQL that is true where a label means the event, and NULL where it is missing."""
    return f"CAST({quoted(label.title)} AS VARCHAR) = {literal(positive)}"


def _chosen(profile: Profile, answer: str, option: str) -> Column | None:
    if answer in ("", NONE):
        return None
    column = profile.find(answer)
    if column is None:
        raise ContractViolation(
            f"--{option} {answer!r}: the table has no such column. It has "
            f"{', '.join(each.title for each in profile.columns)[:400]}."
        )
    return column


def _unique(profile: Profile) -> list[Column]:
    """Columns that could tell rows apart, the likeliest first."""
    found = [
        column
        for column in profile.columns
        if column.different == column.filled == profile.rows and (column.is_integer or column.is_text)
    ]
    return sorted(found, key=lambda column: not IDENTIFIER.search(column.name))


def _owners(profile: Profile) -> list[Column]:
    """Columns that look as if they said whose event a row is."""
    return [
        column
        for column in profile.columns
        if IDENTIFIER.search(column.name)
        and (column.is_integer or column.is_text)
        and column.filled == profile.rows
        and 10 < column.different < profile.rows
    ]


def _group(profile: Profile, apart: Sequence[Column | None]) -> Column | None:
    """The column that says whose rows belong together: it names many, each in a few rows, as no product does."""
    for column in _owners(profile):
        if (
            column not in apart
            and WHOSE.search(column.name)
            and column.different >= max(FEWEST_GROUPS, profile.rows / ROWS_OF_ONE)
            and column.values[0][1] <= LARGEST_GROUP * profile.rows
        ):
            return column
    return None


def _times(profile: Profile) -> list[Column]:
    return [
        column for column in profile.columns if column.filled and (column.is_time or is_written_time(profile, column))
    ]


def _is_named_outcome(column: Column) -> bool:
    return any(names.search(column.name) for names in LABELS)


def _about_time(profile: Profile) -> Question:
    times = _times(profile)
    text = "Which column says when a row happened, if rows are events? (none: one row for each)"
    keyed = any(IDENTIFIER.search(column.name) for column in _unique(profile))
    if keyed and any(column.different == 2 and _is_named_outcome(column) for column in profile.columns):
        return Question("time", text, NONE, "each row has a key of its own, and what looks like a label")
    if times and _owners(profile):
        return Question(
            "time", text, times[0].title, f"{_owners(profile)[0].title} repeats, so its rows look like events"
        )
    why = "no column is a time" if not times else "no column repeats whose events these could be"
    return Question("time", text, NONE, why)


def _about_entity(profile: Profile, time: Column | None) -> Question:
    text = "Which column says who or what a prediction is about?"
    owners, unique = _owners(profile), _unique(profile)
    if time is not None and owners:
        return Question("entity", text, owners[0].title, "its values repeat, and its name is that of a key")
    if unique and time is None:
        named = ", and its name is that of a key" if IDENTIFIER.search(unique[0].name) else ""
        return Question("entity", text, unique[0].title, f"all its {profile.rows:,} values differ{named}")
    return Question("entity", text, ROW, "no column tells all rows apart: they are numbered as they come")


def _entity(profile: Profile, answer: str, time: Column | None) -> Column | None:
    if answer == ROW and profile.find(ROW) is None and time is None:
        return None
    column = _chosen(profile, answer, "entity")
    if column is None:
        raise ContractViolation("name the column that a prediction is about with --entity.")
    if not (column.is_integer or column.is_text):
        raise ContractViolation(
            f"--entity {column.title}: it is {column.kind}, and a key is text or an integer. Name another column."
        )
    if column.filled < profile.rows:
        raise ContractViolation(
            f"--entity {column.title}: it is empty in {profile.rows - column.filled:,} of {profile.rows:,} rows, and "
            "nobody could ask for these. Fill it, or name another column."
        )
    if time is None and column.different < profile.rows:
        count, examples = repeated(profile, column)
        raise ContractViolation(
            f"--entity {column.title} is not unique: {count:,} of its values come in more than one row, such as "
            f"{', '.join(map(repr, examples))}. Without a time there is one row for each. Name another column, or "
            f"--entity {ROW} to number the rows; where rows are events, name their time with --time."
        )
    return column


def _time_format(profile: Profile, time: Column | None) -> str | None:
    if time is None or time.is_time:
        return None
    if not time.is_text:
        raise ContractViolation(
            f"--time {time.title}: it is {time.kind} and no time. Write times as ISO 8601, such as 2026-03-31 14:05."
        )
    formats = time_formats(profile, time)
    fitting = [form for form, failing in formats if failing == 0]
    if not fitting:
        likely, failing = formats[0]
        rows = ", ".join(f"{text!r:.60} in row {number:,}" for number, text in unreadable(profile, time, likely))
        raise ContractViolation(
            f"--time {time.title}: {failing:,} of {time.filled:,} values are no times: {rows}. The likeliest format is "
            f"{likely}. Mend these rows in the source, or name another column."
        )
    if {"%d/%m/%Y", "%m/%d/%Y"} <= {form.split()[0] for form in fitting}:
        raise ContractViolation(
            f"--time {time.title}: {time.values[0][0]} and all its other values could have the day or the month first. "
            "Write times as ISO 8601, such as 2026-03-31, in the source."
        )
    return fitting[0]


def _about_label(profile: Profile, entity: Column | None, time: Column | None) -> Question:
    text = "Which column holds what is to be predicted?"
    could_be = [each for each in profile.columns if each not in (entity, time) and not SENSITIVE.search(each.name)]
    two = [column for column in could_be if column.different == 2]
    few = [column for column in could_be if 2 < column.different <= FEW_VALUES]
    named = [column for names in LABELS for column in (*two, *few) if names.search(column.name)]
    if time is not None and not any(column in two for column in named):
        return Question("label", f"{text} (none: who has no row for a while)", NONE, "no column is named like a label")
    for column in named:
        if column in two or len(named) == 1:
            return Question("label", text, column.title, f"it is named like a label, with {column.different:,} values")
    if two:
        # An outcome is the first column of most tables where it is not the last one.
        columns = [column for column in could_be if column.different < profile.rows]
        guess = next((column for column in (columns[-1], columns[0]) if column in two), two[-1])
        others = [column.title for column in two if column != guess]
        rest = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        beside = f"; so have {', '.join(others[:SHOWN])}{rest}: see that it is the right one" if others else ""
        return Question("label", text, guess.title, f"it has two values{beside or ', as no other'}")
    if few and time is None:
        return Question(
            "label", text, few[-1].title, f"no column has two values, and it is the last of few: {few[-1].different}"
        )
    return Question("label", text, NONE, "no column has two values")


def _positive(profile: Profile, label: Column, ask: Ask, refused: Refused) -> str:
    values = [value for value, _ in label.values]
    if label.different < 2:
        only = f"{values[0]!r} in every row" if values else "empty"
        raise ContractViolation(f"--label {label.title}: it is {only}, so there is nothing to predict. Name another.")
    # Of 1 and 2 the larger one.
    guess = max((value for value in values if EVENT.fullmatch(value)), default="")
    other = next((value for value in values if NO_EVENT.fullmatch(value)), "")
    why = f"{guess!r} reads like a yes"
    if label.different == 2 and not (guess and guess != other):
        guess, why = (next(value for value in values if value != other), f"{other!r} reads like a no")
        if not other:
            guess, why = values[-1], "it is the rarer one"
    if label.different > 2:
        guess = ""
        why = "it has more than two values"
    question = Question("positive", f"Which value of {label.title} is the event?", guess, why)
    answer = _answer(question, ask, refused, lambda answer: _value_of(profile, label, answer))
    if not answer:
        some = ", ".join(f"{value!r} ({count:,})" for value, count in label.values[:5])
        if spellings := alike(label):
            raise ContractViolation(
                f"--label {label.title} has {label.different:,} values: {some}. {spellings} differ in capitals and "
                "spaces alone, and would be taken for different outcomes. Write each outcome one way in the source."
            )
        numbers = label.is_number and label.different > 10
        make = (
            f"such as {quoted(label.name)} > {label.values[0][0]}, as a column of the source, and name that"
            if numbers
            else "with --positive VALUE: that value is the event then, and all others are none"
        )
        raise ContractViolation(
            f"--label {label.title} has {label.different:,} values: {some}. This library predicts one event, which "
            f"comes or does not come ({'it is no regression' if numbers else 'two classes'}). Make one of it, {make}."
        )
    return answer


def alike(label: Column) -> str:
    """Values of a label that differ in nothing but capitals and spaces, where without them there would be two."""
    spelled: dict[str, list[str]] = {}
    for value, _ in label.values:
        spelled.setdefault(value.strip().casefold(), []).append(value)
    if len(spelled) != 2 or label.different > len(label.values):
        return ""
    return "; ".join(" and ".join(map(repr, values)) for values in spelled.values() if len(values) > 1)


def _value_of(profile: Profile, label: Column, answer: str) -> str:
    """A value of the label, or nothing."""
    values = [value for value, _ in label.values]
    if (
        answer
        and answer not in values
        and not profile.ask(
            f"SELECT 1 FROM data WHERE CAST({quoted(label.title)} AS VARCHAR) = {literal(answer)} LIMIT 1"
        )
    ):
        raise ContractViolation(
            f"--positive {answer!r}: {label.title} has no such value. It has {', '.join(map(repr, values))[:200]}."
        )
    return answer


def _fewest(profile: Profile, label: Column, positive: str) -> int:
    """Rows of the rarer class.

    Raises:
        ContractViolation: so few that no part of a split could be judged.
    """
    events, others = profile.ask(
        f"SELECT count(*) FILTER ({event_of(label, positive)}), count(*) FILTER (NOT {event_of(label, positive)}) "
        "FROM data"
    )[0]
    fewest = int(min(events, others))
    if fewest < FEWEST_ROWS:
        raise ContractViolation(
            f"--label {label.title}: of {events + others:,} rows {events:,} have {positive!r}, and {others:,} not. "
            f"Nothing can be learned from {fewest} of a kind and judged by others: {FEWEST_ROWS} of each are the least."
            " Bring more rows, or predict something less rare."
        )
    return fewest


def smallest_part(fewest: int) -> int:
    """Rows of the rarer class that the smallest part of a split at random has: half a fifth, less one by chance."""
    return max(2, fewest // 10 - 1)


def _about_sensitive(profile: Profile, apart: Sequence[Column | None]) -> Question:
    found = [
        column
        for column in profile.columns
        if SENSITIVE.search(column.name) and column not in apart and 1 < column.different <= MOST_CATEGORIES
    ]
    return Question(
        "sensitive",
        "Which columns must it be fair by? They are no features then. (none, or names with commas)",
        ",".join(column.title for column in found) or NONE,
        "their names say so" if found else "no name is one of those that law protects",
    )


def _sensitive(profile: Profile, answer: str, apart: Sequence[Column | None]) -> tuple[Column, ...]:
    names = [answer] if profile.find(answer) else [name.strip() for name in answer.split(",")]
    chosen = [_chosen(profile, name, "sensitive") for name in names]
    return tuple(column for column in chosen if column is not None and column not in apart)
