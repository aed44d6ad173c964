"""Secrets of a source are in nobody's files, logs and messages; those in clear are refused before anything runs."""

from __future__ import annotations

import base64
import html
import json
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
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
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
        "postgresql://me:hun[ter2@db/shop?x=hunter2",
        "https://me:hunter2@[host/orders.csv",
        "postgresql://me@host:hunter2/db",
        "https://host/orders.csv?passcode=hunter2",
        "https://host/orders.csv?code=hunter2",
        "https://host/orders.csv?a=1;Sas=hunter2",
        "https://host/orders.csv?X-Amz-Credential=hunter2",
        "https://host/orders.csv?%70assword=hunter2",
        "https://host/orders.csv#access_token=hunter2",
        "https://hunter2@host/orders.csv",
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
        assert "hun[" not in str(chain)
        chain = chain.__cause__ or chain.__context__


@pytest.mark.parametrize(
    "secret", ["a!b#c", "aB+c/d==&x y", "pä&ss\"w'o\\rd", "p%40ss", "hunter2 und mehr", "${x}", "sig/=+%2B"]
)
def test_a_secret_is_hidden_in_every_spelling_of_it(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", secret)
    where = reveal("postgresql://me:${DB_PASSWORD}@host/db?sig=${DB_PASSWORD}")
    once = quote(secret, safe="")
    spellings = [
        secret,
        once,
        once.lower(),
        quote(secret, safe="!/+="),
        quote(secret, safe="#&"),
        quote_plus(secret),
        quote(once),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        html.escape(secret),
        f"Basic {base64.b64encode(f'me:{secret}'.encode()).decode()}",
        base64.urlsafe_b64encode(f"x{secret}y".encode()).decode(),
        where.url,
        "".join(f"%{byte:02x}" for byte in secret.encode()),
    ]
    for text in spellings:
        shown = where.hide(f"connection to [{text}] failed: {text!r}")
        assert "DB_PASSWORD" in shown or "***" in shown
        remains = shown.replace("${DB_PASSWORD}", "")
        assert secret not in remains
        assert once not in remains
        assert text not in remains


def test_what_stands_where_a_secret_would_is_hidden_whatever_it_is() -> None:
    where = reveal("https://host/orders.csv")
    text = "GET https://me:other@proxy/x?format=csv&X-Amz-Signature=abc%2Bdef&code=1234 (sig=kept); s3://bucket/key"
    shown = where.hide(text)
    assert shown == ("GET https://me:***@proxy/x?format=csv&X-Amz-Signature=***&code=*** (sig=kept); s3://bucket/key")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:${DB_PASSWORD}@host:5432/db?sslmode=require&passfile=/run/pgpass",
        "https://host/orders.csv?format=csv&keyword=x&day=2025-01-01",
        "snowflake://me:${P}@account/db/schema?warehouse=w&role=r&authenticator=snowflake",
        "mysql://me:${P}@host/db?ssl_key=/run/key.pem",
        "https://${TOKEN}@host/orders.csv",
        "file:///data/a b/ü&x.csv",
    ],
)
def test_what_is_no_secret_may_stand_in_a_url(tmp_path: Path, url: str) -> None:
    assert load_configuration(make_project(tmp_path / "shop", url)).source.url == url
