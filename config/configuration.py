"""What a team brings: `pipeline.yaml`, typed and explained. Every threshold of the library is a field of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import model_validator

from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.data import Entity, Source
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.evaluation import Evaluation
from kfp_lifecycle.config.features import Features, Label, Present, Snapshots, Split, SplitBy
from kfp_lifecycle.config.gate import Gate
from kfp_lifecycle.config.lineage import Lineage
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.config.schedules import Schedules
from kfp_lifecycle.config.section import Name, Section
from kfp_lifecycle.config.targets import Targets
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.config.validation import Validation


class Configuration(Section):
    """A project's `pipeline.yaml`."""

    name: Name
    """The project's name; runs, experiments and feature stores carry it."""
    title: str
    """The project in a few words, for reports."""
    description: str = ""
    """What it is for and who answers for it."""
    entity: Entity
    """What a prediction is about."""
    source: Source
    """Where the data comes from."""
    validation: Validation = Validation()
    """When a batch is bad."""
    snapshots: Snapshots = Snapshots()
    """With `split.by: time`: the dates as of which training rows are made."""
    label: Label
    """What is predicted."""
    split: Split = Split()
    """Which rows train, validate and test."""
    features: Features
    """Where features are defined, and which a model uses."""
    tuning: Tuning = Tuning()
    """The search for hyperparameters."""
    training: Training = Training()
    """The model."""
    evaluation: Evaluation = Evaluation()
    """How the candidate is examined."""
    gate: Gate
    """What a candidate must meet to be promoted."""
    deployment: Deployment
    """How an approved model is served."""
    monitoring: Monitoring = Monitoring()
    """When production has moved away from the model."""
    alerts: Alerts = Alerts()
    """When Prometheus tells that a served model is not well."""
    schedules: Schedules = Schedules()
    """When pipelines recur."""
    lineage: Lineage = Lineage()
    """Who is told what runs read and write."""
    targets: Targets = Targets()
    """Where each cluster keeps what outlives a run."""

    @model_validator(mode="before")
    @classmethod
    def _search_only_what_was_left_open(cls, given: Any) -> Any:
        """Whoever names an estimator, or its parameters, is not searched another one for."""
        if not isinstance(given, dict):
            return given
        training, tuning = given.get("training"), given.get("tuning") or {}
        if not (
            isinstance(training, dict) and isinstance(tuning, dict) and training.keys() & {"estimator", "parameters"}
        ):
            return given
        return {**given, "tuning": {"space": {}, **tuning}}

    @model_validator(mode="after")
    def _sections_agree(self) -> Configuration:
        for contradiction in _contradictions(self):
            raise ValueError(contradiction)
        return self


def _contradictions(configuration: Configuration) -> Iterator[str]:
    """What of a configuration contradicts its `split.by`, its tables' times or its flat tables, in sentences."""
    if configuration.split.by is SplitBy.time:
        yield from _by_time(configuration)
    else:
        yield from _without_time(configuration)
    yield from _bounds_without_times(configuration)
    if configuration.source.timeless:
        yield from _no_times(configuration)
    yield from _one_row_per_entity(configuration)


def _by_time(configuration: Configuration) -> Iterator[str]:
    split, snapshots, label = configuration.split, configuration.snapshots, configuration.label
    without = [name for name, table in configuration.source.tables.items() if table.event_time is None]
    if without:
        yield (
            f"source.tables.{without[0]} has no event_time, which split.by: time needs: name the column that says when "
            "a row happened, or, where rows have no time, set split.by: random"
        )
    if label.column is not None:
        yield (
            "label.column is a value without a time, and split.by is time; set split.by: random, or write label.query, "
            "which finds what happened between $snapshot and $horizon"
        )
    elif label.horizon_days is None:
        yield "label.horizon_days is required with split.by: time: the days after a snapshot until its label is known"
    needed = split.validation_snapshots + split.test_snapshots + 1
    if snapshots.count < needed:
        yield (
            f"snapshots.count is {snapshots.count}, but the split needs at least {needed}: "
            f"{split.validation_snapshots} to validate, {split.test_snapshots} to test, 1 to train"
        )


def _without_time(configuration: Configuration) -> Iterator[str]:
    by = configuration.split.by.value
    if configuration.label.horizon_days is not None:
        yield (
            f"label.horizon_days is for split.by: time; with {by} a label is not of a later moment. Take it out, or "
            "split by time"
        )
    if "snapshots" in configuration.model_fields_set:
        yield f"snapshots are for split.by: time; with {by} there is one, the newest moment of the data. Take them out"
    if configuration.training.half_life_days is not None:
        yield f"training.half_life_days is for split.by: time; with {by} no training row is older than another"


def _bounds_without_times(configuration: Configuration) -> Iterator[str]:
    for name, bounds in configuration.validation.bounds.items():
        table = configuration.source.tables.get(name)
        for key in ("max_lag_days", "max_age_days"):
            if table is not None and table.event_time is None and getattr(bounds, key) is not None:
                yield f"validation.bounds.{name}.{key} needs an event_time in source.tables.{name}"


def _no_times(configuration: Configuration) -> Iterator[str]:
    if configuration.features.present is Present.data:
        yield "features.present: data is the time of the newest row, and no table has an event_time; take it out"
    if "freshness_days" in configuration.features.model_fields_set:
        yield "features.freshness_days says when a value is too old, and no table has an event_time; take it out"


def _one_row_per_entity(configuration: Configuration) -> Iterator[str]:
    tables, key, features = configuration.source.tables, configuration.entity.key, configuration.features
    labelled = configuration.label.place[0]
    named = [("label.column", labelled)] if labelled else []
    for setting, name in [*named, *(("features.tables", table) for table in features.tables)]:
        if name not in tables:
            yield f"{setting} names the table {name}; source.tables has {', '.join(tables)}"
        elif tables[name].key != [key]:
            yield (
                f"{setting} names the table {name}, whose key is {', '.join(tables[name].key)}; it has to be one row "
                f"for each entity, with key: [{key}]. Where it has several, make one of them with its query, such as "
                f"SELECT {key}, count(*) AS {name}_rows FROM source GROUP BY {key}"
            )
        elif setting == "features.tables" and tables[name].label_only:
            yield f"features.tables names {name}, which is label_only: no feature can be computed from it"
    for setting, reference in (
        *(("features.sensitive", reference) for reference in features.sensitive),
        ("training.weight", configuration.training.weight),
    ):
        if features.tables and reference and reference.partition(":")[0] not in features.tables:
            yield (
                f"{setting} is {reference}, and features.tables has {', '.join(features.tables)}; name a column of one "
                "of them, TABLE:COLUMN"
            )
    group = configuration.split.group
    of_group = features.tables if not labelled else [labelled] if labelled in features.tables else []
    if group and of_group and not any(group in features.left_out(table) for table in of_group):
        yield (
            f"split.group: {group} would be a feature too, and of a new group the model knows nothing; name it in "
            "features.leave_out"
        )
    if features.tables and configuration.split.by is SplitBy.time:
        yield (
            "features.tables takes features from tables as they are, and split.by is time, for which features are "
            "computed as of each snapshot; write features.repository, or set split.by: random"
        )
