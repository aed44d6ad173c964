"""Configuration of what is predicted, as of when, and from which features."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from kfp_lifecycle.config.section import FeatureName, FreeValue, Name, Probability, RelativePath, Section, text

# A column of any name: it is written in quotes wherever SQL names it.
Column = Annotated[str, text(r"^[^\0\r\n\"]+$", "a column's name has no quotes and no line ends")]
# What bidirectional controls would do to the text around a title.
Title = Annotated[
    str,
    text(
        r"^(?=.*\S)[^\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+$",
        "a title is one line of text, and none that turns the text around it",
    ),
]
TableColumn = Annotated[
    str,
    text(r"^[a-z][a-z0-9_]{0,62}\.[^\0\r\n\"]+$", "a column of a table is named TABLE.COLUMN"),
]


class Snapshots(Section):
    """The dates as of which training rows are made: one row for each entity and date."""

    every_days: int = Field(default=30, gt=0)
    """Days between two dates."""
    count: int = Field(default=12, gt=0)
    """How many dates at the most, counted back from the newest whose label is known."""


class Label(Section):
    """What is predicted: asked of an SQL file as of each snapshot, or, where rows have no time, a column of a table."""

    name: Name
    """The label's name in training sets and reports: 1 for the event, 0 for none."""
    title: str
    """The event in words, for reports: "churns within 30 days"."""
    query: RelativePath = "feature_repo/label.sql"
    """SQL that gives the entity key and the label for every entity that is a customer at `$snapshot`. It sees all rows,
    also later ones; its window ends `$horizon` after the snapshot."""
    column: TableColumn | None = None
    """In place of `query`, with `split.by: random` or `group`: `TABLE.COLUMN` of a table with one row for each entity.
    No feature sees the column."""
    positive: FreeValue | None = None
    """With `column`: its value that means the event, such as `"Yes"`, 2 or true; the other one means none. Not needed
    where the values are 0 and 1, or false and true."""
    horizon_days: int | None = Field(default=None, gt=0, le=36_500)
    """With `split.by: time`, which needs it: days after the snapshot until the label is known. Nothing is trained on a
    label before that, and the parts of the split are this far apart."""

    @model_validator(mode="after")
    def _a_query_or_a_column(self) -> Label:
        if self.column is not None and "query" in self.model_fields_set:
            raise ValueError("query and column both say where the label comes from; keep one of them")
        if self.positive is not None and self.column is None:
            raise ValueError(
                "positive says which value of label.column is the event, and there is no column; a query gives 1 for it"
            )
        return self

    @property
    def horizon(self) -> timedelta:
        """Time from a snapshot until its label is known; none where the label is not of a later time."""
        return timedelta(days=self.horizon_days or 0)

    @property
    def place(self) -> tuple[str, str]:
        """Table and column of `column`."""
        table, _, column = (self.column or "").partition(".")
        return table, column

    @property
    def source(self) -> str:
        """Where the label comes from, for messages: the column, or the file of the query."""
        return self.column or self.query


class SplitBy(StrEnum):
    """What divides the rows into those that train, validate and test."""

    time = "time"
    random = "random"
    group = "group"


class TrainingWindow(StrEnum):
    """How far back the training part of a split by time reaches."""

    expanding = "expanding"
    sliding = "sliding"
    since_change = "since_change"


class Split(Section):
    """Which rows train, validate and test."""

    by: SplitBy = SplitBy.time
    """`time`: the newest snapshots test, those before them validate, all earlier ones train. For rows without a time:
    `random`, by entity and with the same share of events in each part, or `group`, which keeps the rows of one group
    together. These two know one snapshot, the newest, and use every row; a random split says nothing of
    later months."""
    validation_snapshots: int = Field(default=2, gt=0)
    """With `time`: snapshots that calibrate (the newer half of them) and set the decision threshold (the older half); a
    single one is divided by entity."""
    test_snapshots: int = Field(default=2, gt=0)
    """With `time`: the newest snapshots, which only the evaluation sees."""
    window: TrainingWindow = TrainingWindow.expanding
    """With `time`, what trains: `expanding`, all earlier snapshots; `sliding`, those of the last `window_days`;
    `since_change`, once labels of it are known, those since the change alone."""
    window_days: int | None = Field(default=None, gt=0)
    """With `window: sliding`: no training row is older than the newest one by more than this."""
    since: date | None = None
    """With `time`: the business changed on this day. As long as the dates before the validation part have none after
    it, those after it are divided by entity instead, so that a model learns from them as soon as labels exist. The
    training pipeline's parameter `since` goes before it."""
    group: Column | None = None
    """With `group`: the column whose equal values stay in one part, such as `household`: of the table of
    `label.column`, or one that `label.query` gives beside the label. It is no feature."""
    validation_share: float = Field(default=0.2, ge=0.02, le=0.5)
    """With `random` or `group`, and of the dates after a change: share of the rows of which one half calibrates, the
    other sets the threshold."""
    test_share: float = Field(default=0.2, ge=0.02, le=0.5)
    """Likewise: share of the rows that only the evaluation sees."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Likewise: another seed divides the rows otherwise. With the same one an entity is on the same
    side in each run, as far as the shares allow."""

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Split:
        of_time = {"validation_snapshots", "test_snapshots", "window", "window_days", "since"}
        strange = sorted(self.model_fields_set & of_time)
        if self.by is not SplitBy.time and strange:
            raise ValueError(
                f"{', '.join(strange)} means nothing with by: {self.by.value}, where the parts are sized by "
                "test_share and validation_share"
            )
        if (self.window_days is not None) != (self.window is TrainingWindow.sliding):
            raise ValueError(
                "window: sliding needs window_days, how many days it is long"
                if self.window_days is None
                else f"window_days is for window: sliding, and window is {self.window.value}"
            )
        if (self.group is not None) != (self.by is SplitBy.group):
            raise ValueError(
                "by: group needs group, the column whose equal values stay together"
                if self.group is None
                else f"group is for by: group, and by is {self.by.value}"
            )
        if self.validation_share + self.test_share > 0.8:
            raise ValueError(
                f"validation_share and test_share are {self.validation_share + self.test_share:g} together, which "
                "leaves less than 0.2 of the rows to train on"
            )
        return self


class Present(StrEnum):
    """What a served model takes for the present, where a request names no time."""

    now = "now"
    data = "data"


class Features(Section):
    """Where features are defined, and which a model uses."""

    repository: RelativePath = "feature_repo"
    """The Feast repository: definitions in `features.py`, one `<view>.sql` for each feature view."""
    tables: list[Name] = Field(default=[])
    """In place of a repository: the tables whose columns are the features, each with one row for an entity, joined by
    the entity's key. A Feast view of each table's name is made of all its columns but the key, the label and what
    `leave_out` names; numbers become Float64, texts String. Those of `sensitive` and `training.weight` are in the
    views and not in the service. An entity without a row in one of them misses its features."""
    leave_out: list[Column] = Field(default=[])
    """With `tables`: columns that are no features, such as a name, a date or what is known only after the event;
    `COLUMN`, or `TABLE.COLUMN` where another table has one of that name."""
    min_match_share: Probability = 0.5
    """With `tables`: the smallest share of the entities with a label that each table must have a row for. A smaller one
    ends training, batch scoring and materialization, since it is what keys that are spelled otherwise look like."""
    service: Name
    """The Feast feature service whose features the model is trained on and served with."""
    sensitive: list[FeatureName] = Field(default=[])
    """Features (`view:feature`) that fairness is judged by. They join the training set and are never used for
    prediction unless the feature service names them too."""
    titles: dict[str, Title] = Field(default={})
    """What people call a feature whose name is another one, such as `groesse_cm: Größe (cm)`: reports, plots and
    sentences say it. Metrics, gate rules and requests name the feature."""
    freshness_days: int = Field(default=35, gt=0)
    """A feature older than this is missing, in training as in serving."""
    skew_sample: int = Field(default=500, gt=0)
    """Entities that each training run asks of the online path, to compare every feature with the training row, bit for
    bit. Any difference stops the run."""
    warehouse_timeout_seconds: float = Field(default=1800, gt=0)
    """Longest that an `offline_store` other than DuckDB may take over one table, or over one view as of one date."""
    present: Present = Present.now
    """Time of a request that names none. `now` is the clock; `data` is the time of the newest row in the online store,
    for a project on historical data, whose every feature would otherwise be too old."""

    @model_validator(mode="after")
    def _a_repository_or_tables(self) -> Features:
        if self.tables and "repository" in self.model_fields_set:
            raise ValueError("repository and tables both say where features come from; keep one of them")
        of_tables = sorted(self.model_fields_set & {"leave_out", "min_match_share"})
        if of_tables and not self.tables:
            raise ValueError(
                f"{of_tables[0]} is for features.tables; of a repository the feature service names the features that "
                "are used"
            )
        if len(set(self.tables)) < len(self.tables):
            raise ValueError("tables names one of them twice")
        for title, count in Counter(self.titles.values()).items():
            if count > 1:
                raise ValueError(f"titles calls {count} features {title!r}; a reader has to tell them apart")
        return self

    def left_out(self, table: str) -> set[str]:
        """The columns of one of `tables` that `leave_out` names."""
        return {name.removeprefix(f"{table}.") for name in self.leave_out}
