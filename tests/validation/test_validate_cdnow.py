"""The example project's expectations: its real file passes, and a file that is not it stops the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from shop import ingest, validate

from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.data.checks import Check
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.projects import save_locations

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


class Cdnow:
    """The example project over the tables of its own file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        shutil.copytree(ROOT / "examples" / "cdnow", self.project)
        save_locations(local_locations(folder / "state", "cdnow"), self.project)
        ingest(self.project, folder / "tables")

    def validate(self) -> list[Check]:
        folder = self.folder
        return validate(self.project, folder / "tables", folder / "validated", folder / "report.html").checks

    def refusal_of(self, query: str) -> str:
        """What stops a run over other purchases than the file's."""
        file = self.folder / "tables" / "purchases.parquet"
        other = file.with_suffix(".other")
        duckdb.execute(f"COPY ({query.format(purchases=repr(str(file)))}) TO '{other}' (FORMAT parquet)")
        manifest = Manifest.read(self.folder / "tables")
        other.replace(file)
        rows = duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(file)]).fetchall()[0][0]
        purchases = manifest.tables["purchases"].model_copy(update={"rows": rows})
        manifest.model_copy(update={"tables": {"purchases": purchases}}).write(self.folder / "tables")
        with pytest.raises(ContractViolation) as violation:
            self.validate()
        return str(violation.value)


@pytest.fixture
def cdnow(tmp_path: Path) -> Cdnow:
    return Cdnow(tmp_path)


def test_the_real_purchases_pass_every_check(cdnow: Cdnow) -> None:
    checks = cdnow.validate()
    assert [check.sentence for check in checks if not check.passed] == []
    assert "it has at least 69,659 rows" in [check.rule for check in checks]


def test_a_file_that_was_cut_off_stops_the_run(cdnow: Cdnow) -> None:
    message = cdnow.refusal_of("SELECT * FROM {purchases} WHERE customer_id < 20000")
    assert "purchases: it has at least 69,659 rows; it has " in message


def test_amounts_in_cents_stop_the_run(cdnow: Cdnow) -> None:
    message = cdnow.refusal_of("SELECT * REPLACE (amount * 100 AS amount) FROM {purchases}")
    assert "so amounts are dollars and not cents" in message
