"""Every check of a dataset, and what they found."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.components.data.validate_data.bounds import bounds_checks
from kfp_lifecycle.components.data.validate_data.integrity import integrity_checks
from kfp_lifecycle.components.data.validate_data.rules import ExpectationOutcome, Rule, load_rules, query_checks
from kfp_lifecycle.components.data.validate_data.selection import sampling, within
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.validation import Bounds, OnBadRows
from kfp_lifecycle.data.checks import Check
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.data.workers import workers
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

    from kfp_lifecycle.data.table_statistics import TableStatistics


@dataclass(frozen=True)
class Findings:
    """What was found in a dataset."""

    manifest: Manifest
    rules: Sequence[Rule]
    checks: list[Check]
    statistics: Mapping[str, TableStatistics]
    accepted: Mapping[str, TableStatistics]
    """Of the tables in the last accepted dataset."""
    sampled: Sequence[str]
    """Tables of which the statistics are of a sample."""
    expectations_sampled: Sequence[str]
    """Tables of which the expectations saw a sample."""
    expectations: Sequence[ExpectationOutcome]
    schemas: Mapping[str, schema_pb2.Schema]
    recent_days: int


def examine(
    configuration: Configuration, locations: Locations, expectations: Path, dataset: Path, reference: str
) -> Findings:
    """Make every check of a dataset.

    Args:
        configuration: `entity`, `source.tables` and `validation`.
        locations: `dataset_remote`, which keeps the statistics of the last accepted dataset.
        expectations: Folder with the tables' schemas and the rules.
        dataset: The tables.
        reference: The name of the accepted dataset to compare with; empty for none.

    Raises:
        ContractViolation: the expectations or the dataset cannot be read.
    """
    settings, tables = configuration.validation, configuration.source.tables
    manifest = Manifest.read(dataset)
    rules = load_rules(expectations, manifest.tables)
    _check_bounds_are_of_tables(settings.bounds, manifest)
    judged = _start_expectations(dataset, rules, manifest, configuration)

    # Imported once the other process is at work: TFDV and Great Expectations take seconds each.
    from kfp_lifecycle.components.data.validate_data.comparison import comparison_checks
    from kfp_lifecycle.components.data.validate_data.schema import load_schemas, schema_checks
    from kfp_lifecycle.data.accepted import load_accepted

    schemas = load_schemas(expectations, manifest.tables)
    accepted = load_accepted(locations.dataset_remote, manifest.tables, reference)
    samples = _samples_for_statistics(manifest, configuration)
    now = datetime.now(UTC).replace(tzinfo=None)

    checks: list[Check] = []
    with tables_database(dataset, manifest.tables) as connection:
        newest = newest_events(connection, manifest, configuration, now)
        as_of = max((moment for moment in newest.values() if moment), default=now)
        statistics = statistics_of(connection, dataset, manifest, configuration, list(manifest.tables), accepted, as_of)
        for name, summary in manifest.tables.items():
            table, values = tables[name], statistics[name]
            bounds = settings.bounds.get(name, Bounds())
            checks += integrity_checks(connection, name, table, summary, now, settings.examples)
            checks += bounds_checks(name, bounds, summary.rows, newest[name], as_of, now)
            checks += schema_checks(
                connection, name, summary, schemas[name], values.whole, settings.examples, samples[name] is not None
            )
            if name in accepted:
                identifiers = {*table.key, configuration.entity.key}
                checks += comparison_checks(connection, name, summary, values, accepted[name], identifiers, settings)
        keys = {name: table.key for name, table in tables.items()}
        queries = query_checks(connection, rules, keys, settings.examples)
    outcomes = judged.result()
    checks += [check for outcome in outcomes for check in outcome.checks] + queries
    sampled = [name for name, condition in samples.items() if condition]
    asked = {rule.table for rule in rules if rule.expectation} if settings.on_bad_rows == OnBadRows.stop else set()
    expectations_sampled = [name for name in sorted(asked) if manifest.tables[name].rows > settings.expectation_rows]
    return Findings(
        manifest,
        rules,
        checks,
        statistics,
        accepted,
        sampled,
        expectations_sampled,
        outcomes,
        schemas,
        settings.recent_days,
    )


def _check_bounds_are_of_tables(bounds: Collection[str], manifest: Manifest) -> None:
    for name in bounds:
        if name not in manifest.tables:
            close = difflib.get_close_matches(name, manifest.tables, n=1) or list(manifest.tables)
            raise ContractViolation(
                f"validation.bounds names the table {name}, which is unknown. Did you mean {' or '.join(close)}?"
            )


def samples_of(manifest: Manifest, configuration: Configuration, rows: int) -> dict[str, str | None]:
    """SQL condition that keeps about so many rows of each table; None where all are looked at."""
    tables = configuration.source.tables
    return {name: sampling(tables[name].key, summary.rows, rows) for name, summary in manifest.tables.items()}


def _samples_for_statistics(manifest: Manifest, configuration: Configuration) -> dict[str, str | None]:
    if configuration.validation.beam is not None:
        return dict.fromkeys(manifest.tables)
    return samples_of(manifest, configuration, configuration.validation.sample_rows)


def newest_events(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, configuration: Configuration, now: datetime
) -> dict[str, datetime | None]:
    """When the newest row of each table happened that is not in the future; UTC without a zone."""
    newest: dict[str, datetime | None] = {}
    for name in manifest.tables:
        event_time = configuration.source.tables[name].event_time
        newest[name] = None
        if event_time is not None:
            time = quoted(event_time)
            query = f"SELECT max({time}) FROM {quoted(name)} WHERE isfinite({time}) AND {time} <= ?"
            newest[name] = connection.execute(query, [now]).fetchall()[0][0]
    return newest


def statistics_of(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    manifest: Manifest,
    configuration: Configuration,
    names: Sequence[str],
    earlier: Mapping[str, TableStatistics],
    as_of: datetime | None = None,
) -> dict[str, TableStatistics]:
    """Statistics of some tables, of all their rows and of those of the newest days (all again where rows have no time).

    Args:
        connection: A session with a view for each table.
        folder: The folder of tables.
        manifest: Their rows and column types.
        configuration: The project's.
        names: The tables.
        earlier: Statistics to be compared with, by table.
        as_of: The end of the newest days, UTC without a zone; by default the newest event.
    """
    from kfp_lifecycle.data.table_statistics import (
        Selection,
        TableStatistics,
        few_valued,
        table_statistics,
        text_columns,
    )

    settings = configuration.validation
    samples = _samples_for_statistics(manifest, configuration)
    selections, recent_rows = [], {}
    for name in names:
        columns, sample = manifest.tables[name].columns, samples[name]
        end = as_of or manifest.as_of.replace(tzinfo=None)
        recent = within(configuration.source.tables[name].event_time, end, settings.recent_days)
        counted = connection.execute(f"SELECT count(*) FROM {quoted(name)} WHERE {recent}").fetchall()
        recent_rows[name] = counted[0][0]
        condition = f"{recent} AND {sample}" if sample else recent
        # As in the dataset that they will be compared with, or the two would be of different kinds.
        categories = (
            text_columns(earlier[name].recent) if name in earlier else few_valued(connection, name, columns, condition)
        )
        as_compared = {column: "VARCHAR" if column in categories else kind for column, kind in columns.items()}
        selections += [Selection(name, columns, sample), Selection(name, as_compared, condition)]
    if settings.beam is not None:
        from kfp_lifecycle.components.data.validate_data.beam_statistics import beam_statistics

        computed = beam_statistics(folder, selections, settings.beam)
    else:
        computed = [
            table_statistics(connection, folder, selection, manifest.tables[selection.table].rows)
            for selection in selections
        ]
    return {
        name: TableStatistics(manifest.tables[name].rows, whole, recent_rows[name], newest)
        for name, whole, newest in zip(names, computed[::2], computed[1::2], strict=True)
    }


def _start_expectations(
    dataset: Path, rules: Sequence[Rule], manifest: Manifest, configuration: Configuration
) -> Future[list[ExpectationOutcome]]:
    """Have the expectations checked beside everything else; by another process where that saves importing here."""
    settings = configuration.validation
    asked = [rule for rule in rules if rule.expectation]
    nothing_to_import = not asked or "great_expectations" in sys.modules
    executor: Executor = ThreadPoolExecutor(max_workers=1) if nothing_to_import else workers()
    blame = settings.on_bad_rows == OnBadRows.quarantine
    samples = samples_of(manifest, configuration, settings.expectation_rows)
    return executor.submit(_expectations, dataset, asked, manifest.tables, samples, settings.examples, blame)


def _expectations(
    dataset: Path,
    rules: list[Rule],
    tables: Mapping[str, TableSummary],
    samples: Mapping[str, str | None],
    examples: int,
    blame: bool,
) -> list[ExpectationOutcome]:
    if not rules:
        return []
    from kfp_lifecycle.components.data.validate_data.expectations import expectation_outcomes

    return expectation_outcomes(dataset, rules, tables, samples, examples, blame)
