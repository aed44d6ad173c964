"""Validation page: one HTML file that needs nothing else, failures first."""

from __future__ import annotations

import base64
from pathlib import Path

from kfp_lifecycle.components.data.validate_data.examination import Findings
from kfp_lifecycle.components.data.validate_data.profile import ColumnProfile, profile_table
from kfp_lifecycle.components.data.validate_data.quarantine import FOLDER, Quarantine
from kfp_lifecycle.data.checks import Check, failures
from kfp_lifecycle.reports.templates import templates

LAYERS = {
    "schema": "Types, presence, domains and ranges of each column",
    "statistics": "Keys, times, finite numbers, bounds, and the last accepted dataset",
    "rules": "The project's business rules",
}
# Of a table with more columns, the first are drawn, and those that are bad.
MOST_COLUMNS = 60
# A larger file is no link in a page.
MOST_LINKED_BYTES = 2_000_000


def render_report(title: str, findings: Findings, outcome: Quarantine) -> str:
    """The report as HTML. Whatever the data hold is shown as text, never taken for markup.

    Args:
        title: The project's title.
        findings: What was found in the dataset.
        outcome: Its checks, and what was put in quarantine.
    """
    whole, recent = (_profiles(findings, part) for part in ("whole", "recent"))
    critical, warnings = (failures(outcome.checks, severity) for severity in ("critical", "warning"))
    aside = [check for check in outcome.checks if check.quarantined]
    failed = {(check.table, check.column) for check in [*critical, *aside]}

    def plot(check: Check) -> tuple[ColumnProfile, bool] | None:
        """The column of a check, and whether it is drawn for the newest days alone."""
        now = whole[check.table].get(check.column or "")
        lately = recent[check.table].get(check.column or "")
        if now is None or not (now.bars or (lately and lately.bars)):
            return None
        # A gap of a few days is nothing in years.
        return (lately, True) if lately and lately.bars and (check.recent or now.is_time) else (now, False)

    return (
        templates(Path(__file__).parent)
        .get_template("report.html.j2")
        .render(
            title=title,
            manifest=findings.manifest,
            checks=outcome.checks,
            critical=critical,
            warnings=warnings,
            aside=aside,
            quarantine=outcome.rows,
            quarantine_folder=FOLDER,
            plot=plot,
            passed={
                layer: [check for check in outcome.checks if check.passed and check.layer == layer] for layer in LAYERS
            },
            layers=LAYERS,
            profiles={
                table: [
                    profile
                    for number, profile in enumerate(profiles.values())
                    if number < MOST_COLUMNS or (table, profile.name) in failed
                ]
                for table, profiles in whole.items()
            },
            columns={table: len(profiles) for table, profiles in whole.items()},
            has_reference=bool(findings.accepted),
            recent_days=findings.recent_days,
            sampled=findings.sampled,
            expectations_sampled=findings.expectations_sampled,
            statistics=_links(findings),
            expectations=[
                (outcome.table, outcome.data_docs, _link(outcome.results.encode(), "application/json"))
                for outcome in findings.expectations
            ],
        )
    )


def _profiles(findings: Findings, part: str) -> dict[str, dict[str, ColumnProfile]]:
    return {
        name: profile_table(
            summary,
            getattr(findings.statistics[name], part),
            getattr(findings.accepted[name], part) if name in findings.accepted else None,
            findings.schemas[name],
        )
        for name, summary in findings.manifest.tables.items()
    }


def _links(findings: Findings) -> list[tuple[str, str]]:
    """TFDV's own statistics of each table, as links that hold the file."""
    files = {name: values.whole.SerializeToString() for name, values in findings.statistics.items()}
    return [
        (name, _link(content, "application/octet-stream"))
        for name, content in files.items()
        if len(content) <= MOST_LINKED_BYTES
    ]


def _link(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
