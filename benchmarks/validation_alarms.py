"""How often validation alarms: by mistake, and when something is wrong. Run in the validation environment.

    python -m benchmarks.validation_alarms [--batches N]

Each batch is a small simulated business of its own seed, size and last day, under the reference project's expectations.
It is compared with an accepted one of another seed that opened on the same day and ended a week before. Every batch is
validated clean, where any failed check is a false alarm, and then with one of the simulation's injections, which has to
be named by the layer, the table and the column that it is about.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import yaml

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.components.data.ingest_data.ingestion import ingest
from kfp_lifecycle.components.data.validate_data.examination import examine
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.data.accepted import newest_accepted, save_accepted
from kfp_lifecycle.data.checks import Check
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.simulation.business import INJECTIONS, simulate
from tests.projects import Project, read_project, save_locations

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Expected:
    """Where an injection has to be seen."""

    layer: str
    severity: str
    subjects: tuple[str, ...]
    """Of these checks at least one fails."""


EXPECTED = {
    "price_rise": Expected("statistics", "warning", ("subscriptions.monthly_charge",)),
    "marketing_campaign": Expected("statistics", "warning", ("customers.channel", "customers.age_band", "customers")),
    "column_renamed": Expected("schema", "critical", ("subscriptions.monthly_charge",)),
    "refund_bug": Expected("rules", "critical", ("purchases.amount",)),
    "columns_swapped": Expected("schema", "critical", ("subscriptions.plan", "subscriptions.payment_method")),
    "outage": Expected("rules", "critical", ("logins.logged_in_at",)),
}


@dataclass(frozen=True)
class Batch:
    """One small business."""

    seed: int
    customers: int
    days: int
    end: date


def batches(count: int) -> list[Batch]:
    """Businesses of 500 to 3,000 customers and 200 to 700 days, which end anywhere from April to January.

    On 1 February list prices rise each year: a warning in the weeks after it is right, and no false alarm.
    """
    random = np.random.default_rng(2026)
    return [
        Batch(
            seed=seed,
            customers=int(random.integers(500, 3001)),
            days=int(random.integers(200, 701)),
            end=date(2025, 4, 1) + timedelta(days=int(random.integers(0, 301))),
        )
        for seed in range(count)
    ]


def make_project(folder: Path) -> Project:
    """The reference project over a database in the folder."""
    project = folder / "project"
    project.mkdir()
    configuration = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))
    configuration["source"] |= {"url": f"duckdb:///{folder / 'business.duckdb'}", "format": "duckdb"}
    (project / "pipeline.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    shutil.copytree(ROOT / "expectations", project / "expectations")
    save_locations(local_locations(folder / "state", "churn"), project)
    return read_project(project)


def failed_checks(folder: Path, project: Project, batch: Batch, inject: list[str], accept: bool = False) -> list[Check]:
    """Simulate, ingest and examine; the checks that fail."""
    simulate(
        folder / "business.duckdb",
        customers=batch.customers,
        days=batch.days,
        seed=batch.seed,
        end=batch.end,
        inject=inject,
    )
    given = project.settings, project.locations, project.expectations
    ingest(*given, folder / "tables")
    findings = examine(*given, folder / "tables", newest_accepted(project.locations.dataset_remote).name)
    if accept:
        save_accepted(project.locations.dataset_remote, findings.statistics)
    return [check for check in findings.checks if not check.passed]


def named(failed: list[Check], expected: Expected) -> bool:
    """Whether the right layer says what is wrong, as loudly as it should."""
    return any(
        (check.layer, check.severity) == (expected.layer, expected.severity) and check.subject in expected.subjects
        for check in failed
    )


def main() -> None:
    """Print the table, and every false alarm and miss."""
    parser = argument_parser(__doc__)
    parser.add_argument("--batches", type=int, default=200, help="clean batches, and as many with an injection")
    arguments = parser.parse_args()
    started = time.monotonic()
    alarms: Counter[str] = Counter()
    tried, found, stopped = Counter[str](), Counter[str](), Counter[str]()
    noisy = 0
    injections = list(INJECTIONS)
    for number, batch in enumerate(batches(arguments.batches)):
        print(f"batch {number + 1} of {arguments.batches}, {time.monotonic() - started:.0f} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="alarms-") as place:
            folder = Path(place)
            project = make_project(folder)
            earlier = Batch(batch.seed + 100_000, batch.customers, batch.days - 7, batch.end - timedelta(days=7))
            try:
                failed_checks(folder, project, earlier, [], accept=True)
                clean = failed_checks(folder, project, batch, [])
            except ContractViolation as violation:
                raise SystemExit(f"{batch}: {violation}") from violation
            noisy += bool(clean)
            alarms.update(f"{check.severity} {check.layer} {check.subject}" for check in clean)
            for check in clean:
                print(f"false alarm in {batch}: {check.severity}, {check.sentence}", flush=True)
            injection = injections[number % len(injections)]
            failed = failed_checks(folder, project, batch, [injection])
            tried[injection] += 1
            stopped[injection] += any(check.severity == "critical" for check in failed)
            if named(failed, EXPECTED[injection]):
                found[injection] += 1
            else:
                seen = ", ".join(sorted({f"{check.layer} {check.subject}" for check in failed})) or "nothing"
                print(f"missed: {injection} in {batch}; seen: {seen}", flush=True)
    count = arguments.batches
    print(f"\nclean batches: {count}, with a false alarm: {noisy}")
    for what, times in alarms.most_common():
        print(f"  {what}: {times}")
    print("injection            layer       batches  named  stopped the run")
    ratios = [Ratio(f"clean batches with a false alarm / {count} clean batches", noisy / count, "0")]
    for injection, expected in EXPECTED.items():
        if tried[injection]:
            print(
                f"{injection:20} {expected.layer:10} {tried[injection]:8} {found[injection]:6} {stopped[injection]:8}"
            )
            share = found[injection] / tried[injection]
            ratios.append(Ratio(f"{injection} named by {expected.layer} / {tried[injection]} batches", share, "1"))
    print(f"{time.monotonic() - started:.0f} s")
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
