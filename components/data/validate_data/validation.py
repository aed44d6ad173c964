"""Decide whether a snapshot can be trusted, and say why not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.contract import ContractViolation
from components.data.tables import hand_on, new_folder, read_manifest, tables_database
from components.data.validate_data.accepted import load_accepted, save_accepted
from components.data.validate_data.checks import Check, failure_message, failures
from components.data.validate_data.integrity import integrity_checks
from components.data.validate_data.report import render_report
from components.data.validate_data.rules import load_rules, rule_checks
from components.data.validate_data.schema import drift_checks, load_schemas, schema_checks
from components.data.validate_data.table_statistics import Statistics, sampling, table_statistics
from project.loading import load_configuration
from project.stores import load_stores

CHECKS_FILE = "validation.json"


def validate(project: Path, snapshot: Path, validated: Path, report: Path) -> list[Check]:
    """Check a snapshot against keys and times, schema, last accepted snapshot and business rules.

    Args:
        project: The project, with its expectations and stores.
        snapshot: The tables.
        validated: Folder for the same tables and `validation.json`, when nothing critical failed. It does not exist
            after a failure.
        report: HTML file, written also when a check fails.

    Returns:
        All checks, warnings that failed among them.

    Raises:
        ContractViolation: a critical check failed, or the expectations or the snapshot cannot be read.
    """
    remote = load_stores(project).dataset_remote
    with new_folder(validated):
        findings = examine(project, snapshot, remote)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(findings.report, encoding="utf-8")
        if failures(findings.checks, "critical"):
            raise ContractViolation(failure_message(findings.checks))
        hand_on(snapshot, validated)
        content = {"checks": [asdict(check) for check in findings.checks]}
        (validated / CHECKS_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_accepted(remote, findings.statistics)
    return findings.checks


@dataclass(frozen=True)
class Findings:
    """What was found in a snapshot."""

    checks: list[Check]
    statistics: dict[str, Statistics]
    report: str
    """HTML."""


def examine(project: Path, snapshot: Path, remote: str) -> Findings:
    """Make every check of a snapshot, and the report.

    Args:
        project: The project, with its expectations.
        snapshot: The tables.
        remote: The DVC remote, which also keeps the statistics of the last accepted snapshot.

    Raises:
        ContractViolation: the expectations or the snapshot cannot be read.
    """
    configuration = load_configuration(project)
    settings, tables = configuration.validation, configuration.source.tables
    manifest = read_manifest(snapshot)
    schemas = load_schemas(project / settings.expectations, manifest.tables)
    rules = load_rules(project / settings.expectations, manifest.tables)
    accepted = load_accepted(remote, manifest.tables)
    samples = {
        name: sampling(tables[name].key, summary.rows, settings.sample_rows)
        for name, summary in manifest.tables.items()
    }
    now = datetime.now(UTC).replace(tzinfo=None)

    checks: list[Check] = []
    statistics = {}
    with tables_database(snapshot, manifest.tables) as connection:
        for name, summary in manifest.tables.items():
            table, schema = tables[name], schemas[name]
            statistics[name] = table_statistics(connection, name, summary, samples[name])
            checks += integrity_checks(connection, name, table, summary, now, settings.examples)
            checks += schema_checks(connection, name, summary, schema, statistics[name], settings.examples)
            if name in accepted:
                identifiers = {*table.key, configuration.entity.key}
                checks += drift_checks(
                    name, schema, statistics[name], accepted[name], settings.drift_threshold, identifiers
                )
        checks += rule_checks(connection, rules, manifest.tables, samples, settings.examples)
    report = render_report(configuration.title, manifest, checks, statistics, accepted, samples)
    return Findings(checks, statistics, report)
