"""`lifecycle data`: the versions that runs stored are listed, and each can be had again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local import run_records
from kfp_lifecycle.local.run_records import EVENTS_FILE, RunRecord
from kfp_lifecycle.runtime.closure import ROOT

SNAPSHOT = (
    "import sys; from pathlib import Path; "
    "from kfp_lifecycle.components.data.version_dataset.versioning import save_version; "
    "print(save_version(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))"
)


def store_version(folder: Path, rows: int) -> str:
    """A dataset of one table, stored in `remote` below the folder as the pipeline's step does."""
    tables = folder / f"tables-{rows}"
    tables.mkdir()
    (tables / "orders.parquet").write_bytes(b"rows " * rows)
    summary = {"orders": {"rows": rows, "columns": {}}}
    (tables / "manifest.json").write_text(json.dumps({"format": 1, "as_of": "2026-06-30T12:00:00", "tables": summary}))
    command = [str(interpreter("validation")), "-c", SNAPSHOT, str(tables), str(folder / "remote"), f"{tables}-on"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def record_run(name: str, started_at: str, version: str, remote: Path, rows: int) -> None:
    """A run that came to its snapshot."""
    record = RunRecord(name, "training", "shop", "-", [], started_at=started_at)
    record.folder.mkdir(parents=True)
    record.save()
    # As kfp hands numbers on.
    metadata = {"version": version, "remote": str(remote), "rows": {"orders": float(rows)}, "as_of": "2026-06-30T12:00"}
    artifact = {"dataset": {"path": "-", "metadata": metadata}}
    events = [
        {"steps": ["snapshot-dataset"]},
        {"time": started_at, "step": "snapshot-dataset", "state": "done", "artifacts": artifact},
    ]
    (record.folder / EVENTS_FILE).write_text("\n".join(map(json.dumps, events)))


@pytest.mark.slow
def test_versions_are_listed_by_last_use_and_come_back_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_records, "RUNS", tmp_path / "runs")
    first, other = store_version(tmp_path, 3), store_version(tmp_path, 5)
    record_run("training-1", "2026-07-01T06:00:00+00:00", first, tmp_path / "remote", 3)
    record_run("training-2", "2026-07-02T06:00:00+00:00", other, tmp_path / "remote", 5)
    record_run("training-3", "2026-07-03T06:00:00+00:00", first, tmp_path / "remote", 3)
    cli = CliRunner()
    listed = json.loads(cli.invoke(app, ["data", "log", "--json"]).stdout)
    assert [(each["version"], each["rows"], each["runs"]) for each in listed] == [
        (first, {"orders": 3}, ["training-3", "training-1"]),
        (other, {"orders": 5}, ["training-2"]),
    ]
    back = tmp_path / "back"
    assert cli.invoke(app, ["data", "checkout", other[:8], "--output", str(back)]).exit_code == 0
    for file in (tmp_path / "tables-5").iterdir():
        assert (back / file.name).read_bytes() == file.read_bytes()
    lost = ["data", "checkout", other, "--remote", str(tmp_path / "empty"), "--output", str(tmp_path / "nothing")]
    assert cli.invoke(app, lost).exit_code == 1
    assert not (tmp_path / "nothing").exists()
