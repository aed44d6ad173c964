"""Secrets of a source are in nobody's files, logs and messages; those in clear are refused before anything runs."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from shop import ORDERS, ingest, make_project

from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.connections.secrets import reveal
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.servers import PASSWORD, Server

ROOT = Path(__file__).resolve().parents[2]
FORMS = {PASSWORD, quote(PASSWORD, safe=""), quote_plus(PASSWORD), quote(PASSWORD), repr(PASSWORD)[1:-1]}
FORMS |= {base64.b64encode(PASSWORD.encode()).decode()}

# What the component's body does, for several projects.
STEPS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from kfp_lifecycle.runtime.contract import step
from kfp_lifecycle.components.data.ingest_data.ingestion import ingest
from tests.projects import read_project
for folder in sys.argv[1:]:
    tables = SimpleNamespace(metadata={})
    project = read_project(Path(folder))
    try:
        with step(tables):
            output = project.folder.parent / "tables"
            print(ingest(project.settings, project.locations, project.expectations, output))
        print("worked", tables.metadata)
    except SystemExit:
        print("stopped")
"""

URLS = {
    "works": "postgresql://postgres:${DB_PASSWORD}@127.0.0.1:%d/postgres",
    "no database": "postgresql://postgres:${DB_PASSWORD}@127.0.0.1:%d/nowhere",
    "no user": "postgresql://nobody:${DB_PASSWORD}@127.0.0.1:%d/postgres",
    "no such option": "postgresql://postgres:${DB_PASSWORD}@127.0.0.1:%d/postgres?sslmode=nonsense",
    "no server": "postgresql://postgres:${DB_PASSWORD}@127.0.0.1:1/%d",
    "another server": "mysql://root:${DB_PASSWORD}@127.0.0.1:%d/db",
    "secret in the host": "https://${DB_PASSWORD}@127.0.0.1:%d/orders.csv",
    "secret in the query": "http://127.0.0.1:%d/orders.csv?token=${DB_PASSWORD}",
    "secret in the bucket": "s3://${DB_PASSWORD}/%d/orders.csv",
}


@pytest.mark.slow
def test_a_step_shows_its_secret_nowhere_whether_it_works_or_fails(postgres: Server, tmp_path: Path) -> None:
    """In a process of its own: everything that it prints and writes is looked through."""
    projects = []
    for name, url in URLS.items():
        table = {**ORDERS, "extract": "SELECT 1 AS order_id, now() AS ordered_at"} if "sql:" in url else ORDERS
        folder = tmp_path / name / "shop"
        seconds = 60 if name == "works" else 5
        project = make_project(folder, url % postgres.port, {"orders": table}, attempts=2, timeout_seconds=seconds)
        projects.append(project)
    variables = {
        **os.environ,
        "DB_PASSWORD": PASSWORD,
        "TERMINATION_LOG": str(tmp_path / "termination.log"),
        "TMPDIR": str(tmp_path),
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    command = [sys.executable, "-c", STEPS, *map(str, projects)]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    outcomes = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("worked", "stopped"))]
    assert outcomes == ["worked"] + ["stopped"] * (len(URLS) - 1), done.stdout + done.stderr
    assert done.stderr.count("The run stops here") == len(URLS) - 1
    assert done.stderr.count("${DB_PASSWORD}") >= len(URLS) - 1
    assert "Traceback" not in done.stderr
    written = [file.read_bytes().decode("utf-8", "replace") for file in tmp_path.rglob("*") if file.is_file()]
    for text in [done.stdout, done.stderr, *written]:
        assert not [form for form in FORMS if form in text]


def test_a_secret_comes_from_the_environment_or_from_a_mounted_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "FROM_FILE").write_text("p@ss\n")
    monkeypatch.setenv("LIFECYCLE_SECRETS", str(tmp_path))
    monkeypatch.setenv("FROM_ENVIRONMENT", "u:1")
    revealed = reveal("postgresql://${FROM_ENVIRONMENT}:${FROM_FILE}@host/db")
    assert revealed.url == "postgresql://u%3A1:p%40ss@host/db"
    assert "p%40ss" not in repr(revealed)
    assert revealed.hide("no p@ss, nor p%40ss") == "no ${FROM_FILE}, nor ${FROM_FILE}"


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", "postgresql://me:${NO_SUCH_SECRET}@127.0.0.1/db")
    with pytest.raises(ContractViolation, match="needs NO_SUCH_SECRET, which the environment does not have"):
        ingest(project, tmp_path / "tables")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "mysql://me:hunt/er2@host/db",
        "snowflake://me:hunter2@account/db/schema",
        "https://me:hunter2@host/orders.csv",
        "https://host/orders.csv?sig=hunter2",
        "https://host/orders.csv?access_token=hunter2",
        "postgresql://host/db?password=hunter2",
        "secretdb://me:hunter2@host",
    ],
)
def test_a_secret_in_clear_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    project = make_project(tmp_path / "shop", url)
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(project)
    chain: BaseException | None = refusal.value
    while chain:
        assert "hunter2" not in str(chain)
        assert "er2" not in str(chain)
        chain = chain.__cause__ or chain.__context__
