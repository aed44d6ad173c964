"""Join of predictions and outcomes: labels that came later, and whether they are those that were foretold."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.outcomes import Outcomes, TimingPoint, VersionOutcomes
from kfp_lifecycle.artifacts.predictions import Predictions
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.artifacts.titles import title_of
from kfp_lifecycle.components.monitoring.join_outcomes.labels import (
    DAY,
    WEEK,
    Followed,
    LabelHistory,
    Timing,
    estimate_timing,
    follow,
    groups_at,
    midnight,
    settled,
    weekly_events,
)
from kfp_lifecycle.components.monitoring.join_outcomes.versions import Judging
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.features.definitions import Definitions, load_definitions
from kfp_lifecycle.features.flat_table import definitions_folder
from kfp_lifecycle.features.offline.point_in_time import session, show_tables, view_values
from kfp_lifecycle.monitoring.log_files import Span, log_files
from kfp_lifecycle.monitoring.spells import Spells, spells_of
from kfp_lifecycle.runtime.outputs import complete_folder
from kfp_lifecycle.uncertainty.cusum import threshold_for

Floats = NDArray[np.float64]

# How often groups are looked up: who came and left in between has none.
GROUPS_EVERY = 4 * WEEK


def join_outcomes(
    settings: Configuration,
    locations: Locations,
    predictions: Path,
    feature_repo: Path,
    label_query: Path,
    validated: Path,
    outcomes: Path,
) -> Outcomes:
    """Join the predictions of the weeks before a window's end to what became of those they were about.

    Args:
        settings: What the step was given of the configuration.
        locations: `prediction_log` says where predictions are.
        predictions: What `collect_predictions` wrote: its end is the moment that is looked from.
        feature_repo: The feature definitions.
        label_query: The SQL file that labels entities.
        validated: The validated tables.
        outcomes: Folder to write; it appears whole or not at all.

    Raises:
        ContractViolation: the log, the definitions, the label query or the tables are at fault.
    """
    rule, model = settings.monitoring, settings.deployment.model
    window = Predictions.read(predictions)
    horizon_days = settings.label.horizon_days
    if horizon_days is None:
        return without_horizon(settings, window, outcomes)
    known = min(window.end, Manifest.read(validated).as_of.replace(tzinfo=UTC))
    until = midnight(known.date())
    boundaries = [until - WEEK * back for back in reversed(range(rule.outcome_weeks + 1))]
    start = boundaries[0] - horizon_days * DAY
    with complete_folder(outcomes) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        scratch = Path(temporary)
        definitions = load_definitions(
            definitions_folder(feature_repo, settings, validated, scratch / "definitions"), settings
        )
        files = log_files(locations.prediction_log, model, Span(start, until), scratch / "log")
        spells = spells_of(files, start, until, horizon_days, scratch / "spells")
        rows = spells.rows.to_pandas(date_as_object=True)
        with session(validated) as connection:
            history = LabelHistory(connection, settings, definitions, label_query, validated, until)
            followed = follow(history, rows["day"].tolist(), rows["entity"].tolist(), boundaries)
            timing = estimate_timing(history, boundaries[0], followed)
            groups = groups_at(
                known_groups(connection, settings, definitions, validated, midnight(rows["day"].min()), until)
                if len(rows)
                else {},
                rows["entity"].tolist(),
            )
            label = settled(followed, timing)
            events, expected = weekly_events(followed, timing, rows["score"].to_numpy())
            write_table(rows, followed, label, events, boundaries, horizon_days, folder / Outcomes.TABLE)
            show_tables(connection, validated, settings.source.tables, until)
            judging = Judging(settings, rows, followed, label, events, expected, groups, boundaries, connection)
            found = [
                judging.of(version) for version in sorted(rows["version"].unique(), key=lambda name: (len(name), name))
            ]
        description = Outcomes(
            model=model,
            start=start,
            until=until,
            horizon_days=horizon_days,
            told=timing.told,
            timing=[
                TimingPoint(elapsed=float(elapsed), share=float(share))
                for elapsed, share in zip(timing.elapsed, timing.share, strict=True)
            ],
            timing_events=timing.events,
            ratio=rule.outcome_ratio,
            threshold=threshold_for(rule.outcome_run_length),
            predictions=spells.predictions,
            without_entity=spells.without_entity,
            currency=settings.training.costs.currency,
            versions=found,
            notes=notes_on(spells, found, timing, window, until),
            sentence=verdict(found),
        )
        description.write(folder)
    print(description.sentence)
    for note in description.notes:
        print(f"  {note}")
    return description


def without_horizon(settings: Configuration, window: Predictions, outcomes: Path) -> Outcomes:
    """Say that there is nothing to follow: the label is not of a later moment than what it is foretold from."""
    rule = settings.monitoring
    description = Outcomes(
        model=settings.deployment.model,
        start=window.start,
        until=window.end,
        horizon_days=0,
        told="at the horizon's end",
        timing=[],
        timing_events=0,
        ratio=rule.outcome_ratio,
        threshold=threshold_for(rule.outcome_run_length),
        predictions=0,
        without_entity=0,
        versions=[],
        notes=["label.horizon_days is not set: the label is not of a later moment, so that no outcome comes later."],
        sentence=verdict([]),
    )
    with complete_folder(outcomes) as folder:
        nothing = np.zeros((0, 1))
        empty = pd.DataFrame(columns=["version", "entity", "time", "day", "score", "decision", "hold_out"])
        followed = Followed(nothing, nothing)
        write_table(empty, followed, nothing[:, 0], nothing.astype(bool), [window.end], 0, folder / Outcomes.TABLE)
        description.write(folder)
    print(description.sentence)
    return description


def known_groups(
    connection: duckdb.DuckDBPyConnection,
    settings: Configuration,
    definitions: Definitions,
    validated: Path,
    start: datetime,
    until: datetime,
) -> dict[str, pd.Series]:
    """The sensitive columns by the entity's key, each as it was last known from `start` to `until`: views often hold
    those alone who are still there, and who left is whom the metrics are about."""
    moments = [until]
    while moments[-1] > start:
        moments.append(max(start, moments[-1] - GROUPS_EVERY))
    known: dict[str, pd.Series] = {}
    for moment in moments:
        for name, values in sensitive_values(connection, settings, definitions, validated, moment).items():
            known[name] = known[name].combine_first(values) if name in known else values
    return known


def sensitive_values(
    connection: duckdb.DuckDBPyConnection,
    settings: Configuration,
    definitions: Definitions,
    validated: Path,
    until: datetime,
) -> dict[str, pd.Series]:
    """The sensitive columns that a view stores, as people call them, as of a moment, by the entity's key."""
    show_tables(connection, validated, settings.source.tables, until)
    values: dict[str, pd.Series] = {}
    stored = [feature for feature in definitions.sensitive if feature.view in definitions.views]
    for view in dict.fromkeys(feature.view for feature in stored):
        table = view_values(connection, definitions, view, until).read_all()
        key = table[definitions.key].cast("string").to_pandas()
        for feature in stored:
            if feature.view == view:
                called = title_of(feature.name, settings.features.titles)
                values[called] = pd.Series(table[feature.name].to_pandas().to_numpy(dtype=object), index=key)
    return values


def write_table(
    rows: pd.DataFrame,
    followed: Followed,
    label: Floats,
    events: NDArray[np.bool_],
    boundaries: Sequence[datetime],
    horizon_days: int,
    file: Path,
) -> None:
    """Write the spells with what became of them, by version, entity and time."""
    happened: list[bool] = (events.sum(axis=1) > 0).tolist()
    week: list[int] = (events.argmax(axis=1) + 1).tolist()
    ends = pd.to_datetime(pd.Series(list(rows["day"]), dtype=object), utc=True)
    table = pa.table(
        {
            "version": pa.array(rows["version"], pa.string()),
            "entity": pa.array(rows["entity"], pa.string()),
            "time": pa.array(rows["time"], pa.timestamp("us", "UTC")),
            "day": pa.array(rows["day"], pa.date32()),
            "score": pa.array(rows["score"], pa.float64()),
            "decision": pa.array(rows["decision"], pa.bool_()),
            "hold_out": pa.array(rows["hold_out"], pa.bool_(), from_pandas=True),
            "horizon_end": pa.array(
                ends + pd.Timedelta(days=horizon_days), pa.timestamp("us", "UTC"), from_pandas=True
            ),
            "known": pa.array(~np.isnan(followed.known[:, -1])),
            "complete": pa.array(followed.elapsed[:, -1] >= 1),
            "label": pa.array(label, pa.float64(), from_pandas=True),
            "event_by": pa.array(
                [boundaries[number] if event else None for number, event in zip(week, happened, strict=True)],
                pa.timestamp("us", "UTC"),
            ),
        }
    )
    pq.write_table(table, file, compression="zstd")


def verdict(found: Sequence[VersionOutcomes]) -> str:
    """What the charts say, in a sentence."""
    alarms = [alarm.sentence for version in found for alarm in version.alarms]
    if alarms:
        return "; ".join(f"{sentence[0].upper()}{sentence[1:]}" for sentence in alarms) + "."
    expected = sum(week.expected for version in found for week in version.weeks)
    if not expected and any(version.spells for version in found) and all(v.unknown == v.spells for v in found):
        return "Nothing that was predicted can be followed: the label query knows none of the entities."
    if not expected:
        return "Nothing that was predicted can be followed yet."
    observed = sum(week.observed for version in found for week in version.weeks)
    return f"What happened is what was foretold: {observed:,} events, and {expected:,.1f} expected."


def notes_on_acting(found: VersionOutcomes) -> list[str]:
    """What can be known of what acting changed, in sentences."""
    version = found.version
    if not found.held_out:
        return [
            f"Version {version} holds nobody out (deployment.server.hold_out): what acting on its predictions changes "
            "cannot be known, and whoever was saved counts as an event that was foretold and did not come."
        ]
    notes = [
        f"Version {version}: whoever was acted upon is left out of the chart, since an action changes what is observed."
    ]
    if found.judged_on == "all" and found.complete:
        notes.append(
            f"Of the hold-out of version {version} too few outcomes are known to measure performance on it alone: it "
            "is measured on all, and whoever was saved makes the model look worse."
        )
    if found.effect is None:
        notes.append(f"Of the hold-out of version {version} too few outcomes are known to tell what acting changes.")
    return notes


def notes_on(
    spells: Spells, found: Sequence[VersionOutcomes], timing: Timing, window: Predictions, until: datetime
) -> list[str]:
    """What a reader of the outcomes must know, in sentences."""
    notes = []
    if window.end - until > DAY:
        notes.append(
            f"The data ends {(window.end - until).days} days before the window does: outcomes are known by "
            f"{until:%Y-%m-%d}."
        )
    if spells.without_entity:
        notes.append(
            f"{spells.without_entity:,} of {spells.predictions:,} predictions name no entity: nobody can know what "
            "became of them."
        )
    for version in found:
        notes += notes_on_acting(version)
        if version.unknown:
            notes.append(
                f"{version.unknown:,} of {version.spells:,} entities that version {version.version} predicted are none "
                "that the label query knows at the beginning of that day: their outcome is unknown. Keys that are "
                "logged hashed are never known, nor are those that the tables write otherwise, such as 7 and 007."
            )
    for flaw in spells.flaws:
        notes.append(f"Not readable: {flaw.file}: {flaw.reason}.")
    if timing.told == "at the horizon's end":
        notes.append("Labels change in both directions while time passes, so that only whole horizons count.")
    elif not timing.events:
        notes.append("Too few past events tell when, within the horizon, they happen: they are taken to be even.")
    return notes
