"""A checkout of its own for tests that run pipelines: nothing of the real one's state is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler
from small_pipeline import small

from kfp_lifecycle.serving.ports import port_pair

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(
    ".venv", ".lifecycle", ".git", "build", "*.pyc.*", ".mypy_cache", ".ruff_cache", ".pytest_cache", "tests"
)

SMALL = ["--set", "tuning.trials=3", "--set", "evaluation.bootstrap_replicates=50", "--set", "snapshots.count=8"]
# A business of 2,000 customers is too small for the thresholds of one of 10,000.
LENIENT = ["--set", "gate.rules=[{metric: performance.roc_auc, min: 0.6}]"]


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout with the built environments, and no state."""

    folder: Path

    def lifecycle(
        self, *arguments: str, expect: int | None = 0, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in the copy; fails when it does not end with the exit code expected."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        # Its last words first: of a long message a summary shows the beginning.
        last = (done.stderr.strip() or done.stdout.strip())[-400:]
        assert expect is None or done.returncode == expect, (
            f"exit code {done.returncode}: {last}\n{arguments}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def command(self, *arguments: str) -> list[str]:
        return [str(self.folder / ".venv" / "bin" / "python"), "-m", "kfp_lifecycle.cli", *arguments]

    def variables(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder / "src"), "COLUMNS": "200", "NO_COLOR": "1"}

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.lifecycle("status", "--json").stdout)
        return status

    @property
    def state(self) -> Path:
        return self.folder / ".lifecycle"


def new_checkout(folder: Path) -> Checkout:
    """Copy the working tree and link the built environments into it."""
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED, symlinks=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / ".lifecycle").mkdir()
    (folder / ".lifecycle" / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    return Checkout(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests take long come first, so that two processes end at about the same time: those of whole runs,
    which have a time-out of their own, then those with the most slow tests."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    whole = {item.path for item in items if "whole_run" in getattr(item, "fixturenames", ())}
    seconds: dict[Path, float] = {}
    for item in items:
        if timeout := item.get_closest_marker("timeout"):
            seconds[item.path] = max(seconds.get(item.path, 0), timeout.args[0])
    items.sort(key=lambda item: (item.path not in whole, -seconds.get(item.path, 0), -slow[item.path], item.path))


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """An own checkout, in a path with a space; its servers are stopped at the end."""
    copy = new_checkout(tmp_path / "a checkout")
    yield copy
    if (copy.state / "serving").exists():
        copy.lifecycle("down")


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, dict[str, Any]]]:
    """A checkout in which the small business was simulated and its model released."""
    checkout = new_checkout(tmp_path_factory.mktemp("whole") / "a checkout of Müller 数据")
    port = ["--set", f"deployment.http_port={port_pair()}"]
    data = checkout.state / "data" / "churn.duckdb"
    checkout.lifecycle("simulate", "--output", str(data), "--customers", "2000", "--days", "500", "--seed", "3")
    run = checkout.lifecycle("run", "training", "--json", *SMALL, *LENIENT, *port)
    yield checkout, {**json.loads(run.stdout), "settings": [*SMALL, *LENIENT, *port], "progress": run.stderr}
    checkout.lifecycle("down", expect=None)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """How many rows the small pipeline may count; a step waits while it says so (`small_pipeline.allow`)."""
    file = tmp_path / "reference"
    file.write_text("10")
    return file


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """The small pipeline, compiled."""
    file = tmp_path / "small.yaml"
    compiler.Compiler().compile(small, str(file))
    return file
