"""The validation report: one HTML file that needs nothing else, failures first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.data.tables import Manifest
from components.data.validate_data.checks import Check, failures, percent
from components.data.validate_data.profile import profile_table
from components.data.validate_data.table_statistics import Statistics

LAYERS = {
    "schema": "Types, presence, domains and ranges of each column",
    "statistics": "Keys, times, finite numbers, drift",
    "rules": "The project's business rules",
}


def render_report(
    title: str,
    manifest: Manifest,
    checks: Sequence[Check],
    statistics: Mapping[str, Statistics],
    accepted: Mapping[str, Statistics],
    samples: Mapping[str, str | None],
) -> str:
    """The report as HTML. Whatever the data hold is shown as text, never taken for markup.

    Args:
        title: The project's title.
        manifest: Rows and columns of the tables.
        checks: All checks.
        statistics: Of each table.
        accepted: Of each table in the last accepted snapshot, where there is one.
        samples: Not None for a table of which a sample was looked at.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters["percent"] = percent
    return templates.get_template("report.html.j2").render(
        title=title,
        manifest=manifest,
        checks=checks,
        critical=failures(checks, "critical"),
        warnings=failures(checks, "warning"),
        passed={layer: [check for check in checks if check.passed and check.layer == layer] for layer in LAYERS},
        layers=LAYERS,
        profiles={
            name: profile_table(summary, statistics[name], accepted.get(name))
            for name, summary in manifest.tables.items()
        },
        has_reference=bool(accepted),
        sampled=[name for name, condition in samples.items() if condition],
    )
