"""Tables that nobody here made: `init`, a first run, a question, monitoring; minutes, lines and AUC beside baselines.

    python -m benchmarks.own_tables [--tables NAME …]

Each goes the whole way without a hand-written line. Its model is compared, on the test part of its own split, with the
better of a logistic regression and boosted trees that were tuned longer and by themselves. Run in the platform
environment, after `make setup-tests`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import yaml

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import port_pair
from tests.platform.command_line import ROOT, lifecycle

TABLES = {
    "affairs": (["affairs.csv"], []),
    "purchases": (["purchases.csv"], ["--entity", "customer_id", "--time", "date"]),
    "visits": (["visits.csv"], ["--label", "heavy_use"]),
    "digits": (["digits.parquet"], ["--label", "is_eight"]),
    "tumours": (["sqlite:///clinic.db#findings", "sqlite:///clinic.db#measures"], ["--positive", "malignant"]),
}
NEAR = 0.005
COLUMNS = [
    *("table", "minutes", "lines by hand", "training", "monitoring", "this search", "logistic regression"),
    *("boosted trees, tuned", "behind the better (± standard error)"),
]
HEADER = f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|"


@dataclass(frozen=True)
class Way:
    """How a table fared."""

    name: str
    minutes: float
    lines: int
    state: str
    monitored: str
    model: float
    logistic: float
    boosted: float
    uncertain: float
    """The standard error of `boosted` less `model`, paired by row."""

    @property
    def behind(self) -> float:
        """How far the model is behind the better baseline."""
        return max(self.logistic, self.boosted) - self.model

    @property
    def row(self) -> str:
        """It as a row of the table in docs/tuning.md."""
        figures = (self.model, self.logistic, self.boosted)
        return (
            f"| {self.name} | {self.minutes:.1f} | 0 of {self.lines} | {self.state} | {self.monitored} | "
            f"{' | '.join(f'{figure:.3f}' for figure in figures)} | {self.behind:+.3f} (± {self.uncertain:.3f}) |"
        )


def first_command(name: str) -> list[str]:
    """The arguments by which a table becomes a project."""
    sources, answers = TABLES[name]
    return ["init", name, *(word for source in sources for word in ("--from", source)), *answers, "--yes"]


def go(folder: Path, name: str) -> Way:
    """From the table to monitoring.

    Raises:
        RuntimeError: a command failed.
    """
    began = time.monotonic()
    _command(folder, *first_command(name))
    project, port = folder / name, ["--set", f"deployment.http_port={port_pair()}"]
    try:
        run = json.loads(_command(project, "run", "training", "--json", *port))
        minutes = (time.monotonic() - began) / 60
        monitored = "nothing is served"
        if run["state"] == "done":
            _command(project, "predict", "--entity", _someone(project, run["id"]))
            monitored = json.loads(_command(project, "run", "monitoring", "--json", *port))["state"]
    finally:
        lifecycle(project, "down")
    listed = json.loads(_command(project, "artifacts", run["id"], "--json"))
    artifacts = {item["name"]: Path(item["uri"]) for item in listed}
    metrics = json.loads((artifacts["evaluation"] / "evaluation.json").read_text("utf-8"))["metrics"]
    arguments = [str(artifacts["training_set"]), str(project), str(artifacts["evaluation"])]
    tuned = json.loads(_in_modelling("tuned_boosting", *arguments))
    return Way(
        name,
        minutes,
        sum(len(file.read_text("utf-8").splitlines()) for file in _written(project)),
        run["state"],
        monitored,
        metrics["performance.roc_auc"]["value"],
        metrics["performance.logistic_roc_auc"]["value"],
        tuned["roc_auc"],
        tuned["standard_error"],
    )


def _someone(project: Path, run: str) -> str:
    """The key of somebody whom the first table knows."""
    key = yaml.safe_load((project / "pipeline.yaml").read_text("utf-8"))["entity"]["key"]
    listed = json.loads(_command(project, "artifacts", run, "--json"))
    folder = next(Path(item["uri"]) for item in listed if item["name"] == "tables")
    for file in sorted(folder.glob("*.parquet")):
        table = duckdb.read_parquet(str(file))
        if key in table.columns:
            return str(table.limit(1).fetchall()[0][table.columns.index(key)])
    raise RuntimeError(f"no table of {folder} has {key}")


def _written(project: Path) -> list[Path]:
    """What `init` wrote and people maintain."""
    return [file for suffix in ("yaml", "py", "sql") for file in project.rglob(f"*.{suffix}") if _is_own(file, project)]


def _is_own(file: Path, project: Path) -> bool:
    return ".lifecycle" not in file.relative_to(project).parts


def _command(folder: Path, *arguments: str) -> str:
    done = lifecycle(folder, *arguments)
    if done.returncode:
        raise RuntimeError(
            f"lifecycle {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout


def _in_modelling(module: str, *arguments: str) -> str:
    # Nothing gains from threads on so few rows, and threads that wait for a busy core lose minutes.
    variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [str(interpreter("modelling")), "-W", "ignore", "-m", f"benchmarks.own_tables.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """All tables, or those that are named."""
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=list(TABLES), help="all by default")
    arguments = parser.parse_args()
    ways = []
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory(prefix="own-tables-") as place:
        _in_modelling("public_tables", place)
        for name in arguments.tables:
            way = go(Path(place), name)
            ways.append(way)
            print(way.row, flush=True)
    save_ratios(
        [
            Ratio(
                f"{way.name}: ROC AUC of the first run / of the better baseline",
                way.model / max(way.logistic, way.boosted),
                f"at most {NEAR} of ROC AUC behind",
            )
            for way in ways
        ],
        arguments.ratios,
    )


if __name__ == "__main__":
    main()
