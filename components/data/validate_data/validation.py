"""Decide whether a dataset can be trusted, and say why not."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.artifacts.validation import ValidationResults
from kfp_lifecycle.components.data.validate_data.examination import examine, statistics_of
from kfp_lifecycle.components.data.validate_data.quarantine import Quarantine, put_aside
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.validation import OnBadRows
from kfp_lifecycle.data.checks import failure_message, failures
from kfp_lifecycle.data.tables import hand_on, tables_database
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder


def validate(
    settings: Configuration,
    locations: Locations,
    expectations: Path,
    dataset: Path,
    validated: Path,
    report: Path,
    source_version: str = "",
    reference: str = "",
) -> Quarantine:
    """Check a dataset in three layers: schema, statistics, business rules.

    Args:
        settings: `title`, `entity`, `source.tables` and `validation`.
        locations: `dataset_remote`, which keeps the statistics of the last accepted dataset.
        expectations: Folder with the tables' schemas and the rules.
        dataset: The tables.
        validated: Folder for the tables that can be trusted, `validation.json`, and what was put aside. It does not
            exist after a failure.
        report: HTML file, written also when a check fails.
        source_version: The source's, when the dataset was read.
        reference: What to compare with, as `fingerprint_source` says it; by default the last accepted dataset.

    Returns:
        All checks, warnings that failed among them, and what was put in quarantine.

    Raises:
        ContractViolation: a critical check failed, or the expectations or the dataset cannot be read.
    """
    from kfp_lifecycle.components.data.validate_data.report import render_report
    from kfp_lifecycle.data.accepted import compared_with, save_accepted

    limits = settings.validation
    before = compared_with(locations.dataset_remote, reference)
    with complete_folder(validated) as result:
        findings = examine(settings, locations, expectations, dataset, before)
        if limits.on_bad_rows == OnBadRows.quarantine and failures(findings.checks, "critical"):
            outcome = put_aside(
                dataset,
                result,
                findings.manifest,
                settings.source.tables,
                findings.checks,
                findings.rules,
                limits.max_bad_share,
                limits.examples,
            )
        else:
            outcome = Quarantine(findings.checks, {}, findings.manifest)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(render_report(settings.title, findings, outcome), encoding="utf-8")
        if failures(outcome.checks, "critical"):
            raise ContractViolation(failure_message(outcome.checks))
        statistics = findings.statistics
        if outcome.rows:
            # What was put aside is not what the next dataset should be compared with.
            with tables_database(result, outcome.rows) as connection:
                kept = statistics_of(connection, result, outcome.manifest, settings, list(outcome.rows), statistics)
            statistics = {**statistics, **kept}
        else:
            hand_on(dataset, result)
        ValidationResults(checks=[*outcome.checks], quarantined=outcome.rows).write(result)
    save_accepted(locations.dataset_remote, statistics, source_version, before)
    return outcome
