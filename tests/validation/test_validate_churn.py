"""The churn project's expectations: every fault is caught by the layer that should, and good data pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
import yaml
from shop import ingest, validate

from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.data.checks import Check, failures
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.simulation.business import simulate
from tests.projects import save_locations

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def churn_project(folder: Path, **simulation: object) -> Path:
    """The churn project over its own simulated database."""
    simulate(folder / "churn.duckdb", **simulation)  # type: ignore[arg-type]
    project = folder / "project"
    project.mkdir()
    configuration = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    configuration["source"]["url"] = f"duckdb:///{folder / 'churn.duckdb'}"
    (project / "pipeline.yaml").write_text(yaml.safe_dump(configuration))
    shutil.copytree(ROOT / "expectations", project / "expectations")
    save_locations(local_locations(folder / "state", "churn"), project)
    return project


def run(folder: Path, **simulation: object) -> list[Check]:
    project = churn_project(folder, **simulation)
    ingest(project, folder / "tables")
    return validate(project, folder / "tables", folder / "validated", folder / "report.html").checks


def refusal(folder: Path, fault: str) -> str:
    """What stops a run over data with a fault; the report must be there, and nothing to go on with."""
    with pytest.raises(ContractViolation) as violation:
        run(folder, customers=400, days=300, seed=11, inject=[fault])
    assert not (folder / "validated").exists()
    assert "The run stops here" in (folder / "report.html").read_text()
    return str(violation.value)


@pytest.mark.parametrize(("customers", "days", "seed"), [(300, 200, 1), (300, 1095, 2), (2000, 365, 3)])
def test_good_data_of_any_size_and_seed_raise_nothing(tmp_path: Path, customers: int, days: int, seed: int) -> None:
    checks = run(tmp_path, customers=customers, days=days, seed=seed)
    assert [check.sentence for check in checks if not check.passed] == []
    written = json.loads((tmp_path / "validated/validation.json").read_text())["checks"]
    assert len(written) == len(checks)
    assert {check["layer"] for check in written} == {"schema", "statistics", "rules"}


@pytest.mark.parametrize("change", ["price_rise", "marketing_campaign"])
def test_a_change_of_the_business_does_not_stop_the_run(tmp_path: Path, change: str) -> None:
    checks = run(tmp_path, customers=400, days=300, seed=11, inject=[change])
    assert failures(checks, "critical") == []


def test_a_refund_bug_stops_the_run_and_names_the_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, "refund_bug")
    (line,) = message.splitlines()[1:]
    assert "purchases.amount: an amount is above 0." in line
    assert "rows (" in line
    assert line.count("-", line.index("such as")) >= 3, "three negative amounts as examples"
    assert "Refunds may have been booked as purchases" in line


def test_swapped_columns_stop_the_run_with_the_values_that_do_not_belong(tmp_path: Path) -> None:
    message = refusal(tmp_path, "columns_swapped")
    assert "subscriptions.plan: it is one of basic, premium, standard." in message
    assert "'card'; 'direct_debit'; 'wallet'" in message
    assert "subscriptions.payment_method" in message


def test_a_renamed_column_stops_the_run_and_names_the_new_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, "column_renamed")
    assert "subscriptions.monthly_charge: the column exists." in message
    assert "New in the table: monthly_fee" in message


def test_an_account_age_that_does_not_match_the_registration_stops_the_run(tmp_path: Path) -> None:
    project = churn_project(tmp_path, customers=300, days=200, seed=4)
    with duckdb.connect(str(tmp_path / "churn.duckdb")) as connection:
        connection.execute("UPDATE subscriptions SET account_age_days = 0 WHERE subscription_id % 10 = 0")
    ingest(project, tmp_path / "tables")
    with pytest.raises(ContractViolation) as violation:
        validate(project, tmp_path / "tables", tmp_path / "validated", tmp_path / "report.html")
    (line,) = str(violation.value).splitlines()[1:]
    assert "subscriptions.account_age_days: the account age matches the registration date." in line
    assert "look for a migration that took its own for it" in line


def test_an_outage_stops_the_run_and_names_the_days(tmp_path: Path) -> None:
    message = refusal(tmp_path, "outage")
    (line,) = message.splitlines()[1:]
    assert "logins come in every day" in line
    assert "7 found, such as day 2026-06-19, logins 0" in line
