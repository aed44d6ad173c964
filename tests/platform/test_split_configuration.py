"""Splits other than by time: what belongs to which, and what contradicts itself, is told before anything runs."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.features import SplitBy
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.runtime.closure import ROOT

FLAT: dict[str, Any] = {
    "name": "bank",
    "title": "Who subscribes",
    "entity": {"name": "client", "key": "client_id"},
    "source": {"url": "clients.csv", "tables": {"clients": {"key": ["client_id"]}}},
    "label": {"name": "subscribed", "title": "subscribes", "column": "clients.y", "positive": "yes"},
    "split": {"by": "random"},
    "features": {"tables": ["clients"], "service": "clients"},
    "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.6, "why": "It must rank."}]},
    "deployment": {"model": "bank"},
}


def read(folder: Path, *overrides: str) -> Configuration:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(FLAT))
    return load_configuration(folder, overrides)


def test_a_flat_table_needs_neither_time_nor_horizon_nor_repository(tmp_path: Path) -> None:
    configuration = read(tmp_path)
    assert configuration.split.by is SplitBy.random
    assert configuration.source.timeless
    assert configuration.label.horizon == timedelta(0)
    assert configuration.label.place == ("clients", "y")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["split.by=time"], "source.tables.clients has no event_time, which split.by: time needs"),
        (["split.by=time", "source.tables.clients.event_time=at"], "label.column is a value without a time"),
        (["label.horizon_days=30"], "label.horizon_days is for split.by: time"),
        (["snapshots.count=3"], "snapshots are for split.by: time"),
        (["training.half_life_days=30"], "no training row is older than another"),
        (["split.by=group"], "by: group needs group"),
        (["split.group=household"], "group is for by: group, and by is random"),
        (["split.test_snapshots=3"], "test_snapshots means nothing with by: random"),
        (["split.since=2026-05-02"], "since means nothing with by: random"),
        (["split.test_share=0.5", "split.validation_share=0.4"], "leaves less than 0.2 of the rows to train on"),
        (["label.query=label.sql"], "query and column both say where the label comes from"),
        (["label.column=null"], "positive says which value of label.column is the event"),
        (["label.column=y"], "a column of a table is named TABLE.COLUMN"),
        (["label.column=others.y"], "label.column names the table others; source.tables has clients"),
        (["features.repository=repo"], "repository and tables both say where features come from"),
        (["features.tables=[]", "features.leave_out=[age]"], "leave_out is for features.tables"),
        (["source.tables.clients.key=[client_id, day]"], "it has to be one row for each entity"),
        (["features.tables=clients"], r"features.tables: it is a list, also of one: \[clients\]"),
        (["features.sensitive=[sex]"], "a feature is named VIEW:FEATURE"),
        (["features.sensitive=['profile:sex']"], "features.sensitive is profile:sex, and features.tables has clients"),
        (["name=My Clients"], "with a letter first, such as user_id .it is 'My Clients'"),
        (["tuning.space={C: {low: 1, high: 2}}"], "tuning.space.C: it lacks `type`, which says what it is"),
        (["features.present=data"], "no table has an event_time"),
        (["features.freshness_days=30"], "no table has an event_time"),
        (["validation.bounds.clients={max_age_days: 3}"], "max_age_days needs an event_time"),
        (["source.tables.clients.arrival_time=at"], "and event_time, which says when that was, is missing"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read(tmp_path, *overrides)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("label.horizon_days=null", r"label\.horizon_days is required with split\.by: time"),
        ("split.window=sliding", "window: sliding needs window_days"),
        ("split.window_days=90", "window_days is for window: sliding, and window is expanding"),
        ("split.since=lately", "split.since"),
    ],
)
def test_a_split_by_time_needs_a_horizon_and_a_window_that_is_whole(override: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        load_configuration(ROOT, [override])


def test_the_day_of_a_change_reaches_the_step_that_divides() -> None:
    settings = load_configuration(ROOT, ["split.since=2026-05-02"])
    assert settings.split.since == date(2026, 5, 2)
    assert settings_of(settings, ("split",)) == {"split": {"since": "2026-05-02"}}
