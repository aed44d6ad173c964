"""Ingest and features of a large business: rows a second and peak memory, beside those of a small one.

    python -m benchmarks.scale [--customers N] [--days N] [--small N]

Both are simulated in a temporary folder, which holds the database, the tables and what spills. Memory is bounded when
its ratio stays near 1 while the rows' ratio does not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.config.loading import CONFIGURATION_FILE, load_configuration
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local.variables import STEP_VARIABLES
from tests.projects import save_locations

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = {"simulate": "platform", "ingest": "validation", "features": "modelling"}


@dataclass(frozen=True)
class Figures:
    """What one part took."""

    rows: dict[str, int]
    seconds: float
    peak_mb: float
    imports_mb: float


def write_project(folder: Path) -> None:
    """The reference project, its source replaced by the one in the folder."""
    project = folder / "project"
    project.mkdir()
    configuration = yaml.safe_load((ROOT / CONFIGURATION_FILE).read_text("utf-8"))
    configuration["source"]["url"] = f"duckdb:///{folder / 'source.duckdb'}"
    (project / CONFIGURATION_FILE).write_text(yaml.safe_dump(configuration, sort_keys=False), "utf-8")
    loaded = load_configuration(project)
    for name in (loaded.features.repository, loaded.validation.expectations):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    save_locations(local_locations(folder / "state", loaded.name), project)


def run_part(part: str, folder: Path, *arguments: int) -> Figures:
    """Run one part in a process of its environment."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [interpreter(ENVIRONMENTS[part]), "-m", "benchmarks.scale_step", part, folder, *map(str, arguments)],
        cwd=ROOT,
        # What does not fit in memory is spilled beside the data.
        env={**kept, **STEP_VARIABLES, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def measure(customers: int, days: int) -> tuple[int, dict[str, Figures]]:
    """Rows of the source, and the figures of ingest and features, for a business of this size."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        write_project(folder)
        source = run_part("simulate", folder, customers, days)
        rows = sum(source.rows.values())
        print(
            f"{customers:,} customers, {days:,} days: {rows:,} rows, simulated in {source.seconds:.0f} s, "
            f"peak {source.peak_mb:,.0f} MB",
            flush=True,
        )
        found: dict[str, Figures] = {}
        for part in ("ingest", "features"):
            found[part] = run_part(part, folder)
            print(_line(part, rows, found[part]), flush=True)
    return rows, found


def _line(part: str, rows: int, figures: Figures) -> str:
    line = (
        f"  {part:10} {figures.seconds:7.1f} s  {rows / figures.seconds:12,.0f} source rows/s   "
        f"peak {figures.peak_mb:7,.0f} MB ({figures.imports_mb:,.0f} after its imports)"
    )
    return f"{line}, {sum(figures.rows.values()):,} rows written" if part == "features" else line


def main() -> None:
    """Measure both sizes, and compare them."""
    parser = argument_parser(__doc__)
    parser.add_argument("--customers", type=int, default=100_000, help="of the large business")
    parser.add_argument("--days", type=int, default=1095, help="of history of both")
    parser.add_argument("--small", type=int, default=10_000, help="customers of the small business")
    arguments = parser.parse_args()
    small_rows, small = measure(arguments.small, arguments.days)
    large_rows, large = measure(arguments.customers, arguments.days)
    growth = large_rows / small_rows
    ratios = [Ratio("rows, large business / small one", growth)]
    for part, figures in large.items():
        speed = (large_rows / figures.seconds) / (small_rows / small[part].seconds)
        memory = figures.peak_mb / small[part].peak_mb
        print(f"  {part:10} {growth:.1f} × the rows: {speed:.2f} × the rows/s, {memory:.2f} × the memory", flush=True)
        ratios.append(Ratio(f"rows/s of {part}, large / small", speed))
        ratios.append(Ratio(f"peak memory of {part}, large / small", memory, f"bounded: far below {growth:.1f}"))
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
