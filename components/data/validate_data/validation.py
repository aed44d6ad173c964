"""Decide whether a snapshot can be trusted, and say why not."""

from __future__ import annotations

import json
from pathlib import Path

from kfp_lifecycle.components.data.validate_data.checks import as_json, failure_message, failures
from kfp_lifecycle.components.data.validate_data.examination import examine, statistics_of
from kfp_lifecycle.components.data.validate_data.quarantine import Quarantine, put_aside
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.stores import load_stores
from kfp_lifecycle.config.validation import OnBadRows
from kfp_lifecycle.data.tables import hand_on, new_folder, tables_database
from kfp_lifecycle.runtime.contract import ContractViolation

CHECKS_FILE = "validation.json"


def validate(project: Path, snapshot: Path, validated: Path, report: Path) -> Quarantine:
    """Check a snapshot in three layers: schema, statistics, business rules.

    Args:
        project: The project, with its expectations and stores.
        snapshot: The tables.
        validated: Folder for the tables that can be trusted, `validation.json`, and what was put aside. It does not
            exist after a failure.
        report: HTML file, written also when a check fails.

    Returns:
        All checks, warnings that failed among them, and what was put in quarantine.

    Raises:
        ContractViolation: a critical check failed, or the expectations or the snapshot cannot be read.
    """
    from kfp_lifecycle.components.data.validate_data.accepted import save_accepted
    from kfp_lifecycle.components.data.validate_data.report import render_report

    configuration = load_configuration(project)
    settings = configuration.validation
    remote = load_stores(project).dataset_remote
    with new_folder(validated):
        findings = examine(project, configuration, snapshot, remote)
        if settings.on_bad_rows == OnBadRows.quarantine and failures(findings.checks, "critical"):
            outcome = put_aside(
                snapshot,
                validated,
                findings.manifest,
                configuration.source.tables,
                findings.checks,
                findings.rules,
                settings.largest_bad_share,
                settings.examples,
            )
        else:
            outcome = Quarantine(findings.checks, {}, findings.manifest)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(render_report(configuration.title, findings, outcome), encoding="utf-8")
        if failures(outcome.checks, "critical"):
            raise ContractViolation(failure_message(outcome.checks))
        statistics = findings.statistics
        if outcome.rows:
            # What was put aside is not what the next snapshot should be compared with.
            with tables_database(validated, outcome.rows) as connection:
                kept = statistics_of(
                    connection, validated, outcome.manifest, configuration, list(outcome.rows), statistics
                )
            statistics = {**statistics, **kept}
        else:
            hand_on(snapshot, validated)
        content = {"checks": as_json(outcome.checks), "quarantined": outcome.rows}
        (validated / CHECKS_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_accepted(remote, statistics)
    return outcome
