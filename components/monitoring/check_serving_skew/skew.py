"""Training-serving skew: the features of a training set beside those in the prediction log, by TFDV."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.markdown import markdown_cell
from kfp_lifecycle.artifacts.tables import parquet_file
from kfp_lifecycle.artifacts.titles import Titles, title_of
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.data.checks import Check, failures
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.monitoring.log_files import log_files, window_ending
from kfp_lifecycle.monitoring.log_window import read_log, write_table

TRAINING, SERVING = "training", "serving"
DUCKDB_TYPES = {"numeric": "DOUBLE", "categorical": "VARCHAR"}


def compare_with_production(
    settings: Configuration, locations: Locations, training_set: Path, report: Path, now: datetime | None = None
) -> dict[str, Any]:
    """Compare a training set's newest features with those that were served, and say so in a report.

    Args:
        settings: `deployment.model`, `monitoring` and `validation.drift_threshold`.
        locations: `prediction_log` says where predictions are.
        training_set: The folder of a training set.
        report: Markdown file to write.
        now: The time on this machine, with a zone; by default what its clock says.

    Returns:
        `predictions`, `checks`, `warnings` (numbers) and a `summary`.

    Raises:
        ContractViolation: the prediction log cannot be read.
    """
    monitoring = settings.monitoring
    window = window_ending("", monitoring.window_days, now or datetime.now(UTC))
    description = TrainingSetDescription.read(training_set)
    features = description.features
    with tempfile.TemporaryDirectory(prefix="skew-") as name:
        folder = Path(name)
        files = log_files(locations.prediction_log, settings.deployment.model, window, folder)
        predictions = folder / "predictions.parquet"
        found = read_log(files, folder, lambda log: write_table(log, features, window, predictions), writable=folder)
        served = found.rows
        enough = served >= monitoring.min_window
        checks = (
            skew_checks(folder, training_set, predictions, features, settings.validation.drift_threshold)
            if enough
            else []
        )
    asked = f"{served:,} predictions in {monitoring.window_days} days"
    if enough:
        warnings = failures(checks, "warning")
        summary = f"{len(warnings)} of {len(checks)} features differ from what is served, by {asked}"
    else:
        warnings = []
        summary = f"{asked}, too few to compare (monitoring.min_window is {monitoring.min_window:,})"
    print(summary)
    for check in warnings:
        print(f"  {check.sentence}")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(_page(summary, checks, description.titles), encoding="utf-8")
    return {"summary": summary, "predictions": served, "checks": len(checks), "warnings": len(warnings)}


def skew_checks(
    folder: Path, training_set: Path, predictions: Path, features: Sequence[Feature], threshold: float
) -> list[Check]:
    """Compare each feature that has values on both sides by TFDV's skew comparator, the farthest apart first.

    Args:
        folder: An empty place for the two tables.
        training_set: The folder of a training set; the newest snapshot of its test rows is compared.
        predictions: The table of predictions, with the served features as a struct.
        features: The model's inputs.
        threshold: Largest allowed distance, 0 to 1, beyond what chance explains.
    """
    from kfp_lifecycle.data.comparison import distances
    from kfp_lifecycle.data.table_statistics import Selection, few_valued, table_statistics

    kinds = {feature.name: DUCKDB_TYPES[feature.type] for feature in features}
    sources = {
        TRAINING: f"FROM {_rows_of(training_set / 'test.parquet')}",
        SERVING: f"FROM (SELECT unnest(features) FROM {_rows_of(predictions)})",
    }
    rows = {
        table: _write_features(folder, table, kinds, source, newest=table == TRAINING)
        for table, source in sources.items()
    }
    with tables_database(folder, rows) as connection:
        # The same columns have to be categories in both, or they could not be compared.
        few = set.intersection(*(few_valued(connection, table, kinds, "true") for table in rows))
        seen = {name: "VARCHAR" if name in few else kind for name, kind in kinds.items()}
        training, serving = (
            table_statistics(connection, folder, Selection(table, seen), count) for table, count in rows.items()
        )
    measured = distances(kinds, training, serving, threshold, "skew")
    return [
        Check(
            table="features",
            column=name,
            layer="statistics",
            rule=f"it is distributed as what is served (distance {distance:.3f}, at most {allowed:.3g})",
            severity="warning",
            passed=distance <= allowed,
            remedy="See whether the customers that are asked about are those that are learned from, and whether "
            "requests bring the feature themselves.",
        )
        for name, (distance, allowed) in sorted(measured.items(), key=lambda item: item[1][1] - item[1][0])
    ]


def _rows_of(file: Path) -> str:
    return f"read_parquet({literal(str(file.resolve()))})"


def _write_features(folder: Path, table: str, kinds: dict[str, str], rows: str, newest: bool) -> int:
    """Write the features of some rows as a table, typed; what is missing is NULL, as it is in the log. How many."""
    cells = ", ".join(
        f"nullif({quoted(name)}::DOUBLE, 'nan'::DOUBLE) AS {quoted(name)}"
        if kind == "DOUBLE"
        else f"nullif({quoted(name)}::VARCHAR, '') AS {quoted(name)}"
        for name, kind in kinds.items()
    )
    where = f" WHERE event_timestamp = (SELECT max(event_timestamp) {rows})" if newest else ""
    with duckdb.connect() as connection:
        copied = connection.execute(
            f"COPY (SELECT {cells} {rows}{where}) TO {literal(str(parquet_file(folder, table)))} (FORMAT parquet)"
        )
        return int(copied.fetchall()[0][0])


def _page(summary: str, checks: Sequence[Check], titles: Titles) -> str:
    lines = ["# Training and serving", "", f"{summary[0].upper()}{summary[1:]}.", ""]
    if checks:
        lines += ["| feature | verdict | what was asked |", "| --- | --- | --- |"]
        lines += [
            f"| {_cell(check.column or '', titles)} | {'as served' if check.passed else '**differs**'} | {check.rule} |"
            for check in checks
        ]
    return "\n".join(lines) + "\n"


def _cell(name: str, titles: Titles) -> str:
    """A feature in a table of Markdown."""
    title = f"{markdown_cell(title_of(name, titles))} " if name in titles else ""
    return f"{title}`{name}`"
