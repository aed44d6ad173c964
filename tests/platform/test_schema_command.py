"""`lifecycle schema`: propose, show, compare and accept what a project's tables must be like."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from kfp_lifecycle.environments.locks import interpreter

ROOT = Path(__file__).resolve().parents[2]

CONFIGURATION = {
    "name": "shop",
    "title": "A shop",
    "entity": {"name": "customer", "key": "customer_id"},
    "source": {
        "url": "duckdb:///shop.duckdb",
        "tables": {"orders": {"key": ["order_id"], "event_time": "ordered_at"}},
    },
    "label": {"name": "left", "title": "leaves", "horizon_days": 30},
    "features": {"service": "shop"},
    "gate": {"rules": [{"metric": "performance.roc_auc", "min": 0.5}]},
    "deployment": {"model": "shop"},
}

ORDERS = """
    SELECT i AS order_id, i % 50 AS customer_id, TIMESTAMP '2025-01-01' + i * INTERVAL 1 HOUR AS ordered_at,
        ['card', 'cash'][1 + i % 2] AS paid_by
    FROM range(200) numbers(i)
"""


def write_orders(folder: Path, query: str) -> None:
    """A folder of tables, as a step writes it."""
    program = "import sys; from pathlib import Path; from datasets import write_dataset; "
    program += "write_dataset(Path(sys.argv[1]), orders=sys.argv[2])"
    subprocess.run(
        [interpreter("validation"), "-c", program, folder, query],
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{ROOT / 'tests' / 'validation'}"},
        check=True,
    )


def schema(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command, nobody at the keyboard."""
    command = [ROOT / ".venv" / "bin" / "lifecycle", "schema", *arguments]
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    return folder


@pytest.mark.slow
def test_a_schema_is_proposed_compared_and_changed_only_with_a_yes(project: Path, tmp_path: Path) -> None:
    data, file = tmp_path / "data", project / "expectations" / "orders.pbtxt"
    write_orders(data, ORDERS)
    named = ("--project", project, "--data", data)

    proposed = schema("infer", *named)
    assert proposed.returncode == 0, proposed.stderr
    assert "paid_by: text, in every row, one of card, cash" in proposed.stdout
    again = schema("infer", "orders", *named)
    assert (again.returncode, file.exists()) == (2, True)
    assert "there is a schema already" in again.stderr

    file.write_text(f"# Agreed with the shop.\n{file.read_text()}")
    write_orders(data, ORDERS.replace("'cash'", "'barter'"))
    different = schema("diff", *named)
    assert different.returncode == 1
    assert "orders.paid_by: it is one of card, cash. 100 rows (50.0%), such as 'barter'." in different.stdout

    before = file.read_text()
    unanswered = schema("accept", *named)
    assert (unanswered.returncode, file.read_text()) == (2, before)
    assert "add --yes" in unanswered.stderr

    accepted = schema("accept", "--yes", *named)
    assert accepted.returncode == 0
    assert file.read_text().startswith("# Agreed with the shop.\n")
    assert '"barter"' in file.read_text()


def test_what_cannot_be_looked_at_is_refused_with_the_remedy(project: Path, tmp_path: Path) -> None:
    nothing_read = schema("diff", "--project", project)
    assert nothing_read.returncode == 2
    assert "no run of this project has read its source yet" in nothing_read.stderr
    (tmp_path / "empty").mkdir()
    no_tables = schema("infer", "--project", project, "--data", tmp_path / "empty")
    assert no_tables.returncode == 2
    assert "no finished folder of tables" in no_tables.stderr
