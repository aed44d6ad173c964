"""References to Secret Manager in a step's variables: resolved when it begins, by the account it works as."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest
from google.api_core.client_options import ClientOptions
from google.auth.compute_engine import _metadata
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager_v1

from kfp_lifecycle.connections.secrets import reveal
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.secret_manager import crc32c, resolve_references
from tests.secret_manager import SecretManager, secret_manager

NAME = "projects/churn-project/secrets/db-password"
SECRET = "päss/w@rd 1"
WORDS = "hunter2-not-to-be-seen"


@pytest.fixture(scope="module")
def running() -> Iterator[SecretManager]:
    with secret_manager() as running, pytest.MonkeyPatch.context() as monkeypatch:
        host = running.url.removeprefix("http://")
        # The account of a machine on Google Cloud, as a step's is on Vertex AI.
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        # Google's library reads the metadata server's address once, when it is imported.
        importlib.reload(_metadata)
        yield running
    importlib.reload(_metadata)


@pytest.fixture
def service(running: SecretManager, monkeypatch: pytest.MonkeyPatch) -> SecretManager:
    running.reset()
    monkeypatch.setenv("LIFECYCLE_SECRET_MANAGER", running.url)
    monkeypatch.setattr("kfp_lifecycle.runtime.asking.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("kfp_lifecycle.runtime.asking.PATIENCE", 3.0)
    return running


def resolved(reference: str) -> str:
    variables = {"DB_PASSWORD": reference, "OTHER": "as it is"}
    resolve_references(variables)
    assert variables["OTHER"] == "as it is"
    return variables["DB_PASSWORD"]


def refusal(reference: str) -> str:
    with pytest.raises(ContractViolation) as found:
        resolved(reference)
    assert str(found.value).startswith(f"DB_PASSWORD is {reference}"), found.value
    return str(found.value)


def test_a_reference_is_the_latest_version_or_the_one_that_is_named(service: SecretManager) -> None:
    reference = service.put(NAME, b"first", SECRET.encode())
    assert resolved(reference) == SECRET
    assert resolved(f"{reference}/versions/latest") == SECRET
    assert resolved(f"{reference}/versions/1") == "first"


def test_what_google_s_own_client_keeps_there_is_read(service: SecretManager) -> None:
    client = secretmanager_v1.SecretManagerServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options=ClientOptions(api_endpoint=service.url),
    )
    made = client.create_secret(parent="projects/churn-project", secret_id="hook", secret={})
    for payload in (b"https://hooks.example/1\n", b"https://hooks.example/2"):
        client.add_secret_version(parent=made.name, payload={"data": payload})
    # A newline at the end is the shell's, and belongs to no secret.
    assert resolved(f"secretmanager://{made.name}/versions/1") == "https://hooks.example/1"
    client.destroy_secret_version(name=f"{made.name}/versions/2")
    assert "is in DESTROYED state" in refusal(f"secretmanager://{made.name}")


def test_each_secret_is_asked_for_once_and_without_references_nothing_is(service: SecretManager) -> None:
    resolve_references({"PLAIN": "value"})
    assert service.accesses == []
    reference = service.put(NAME, b"first")
    variables = {"A": reference, "B": reference}
    resolve_references(variables)
    assert variables == {"A": "first", "B": "first"}
    assert len(service.accesses) == 1


def test_a_password_in_a_url_may_be_such_a_reference(service: SecretManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", service.put(NAME, SECRET.encode()))
    where = reveal("postgresql://me:${DB_PASSWORD}@host/db")
    assert where.url == "postgresql://me:p%C3%A4ss%2Fw%40rd%201@host/db"
    assert SECRET not in repr(where)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("absent", "gcloud secrets create db-password --project=churn-project"),
        ("version", r"Secret Version \[.*/versions/7\] not found"),
        ("denied", "--role=roles/secretmanager.secretAccessor"),
        ("disabled API", "gcloud services enable secretmanager.googleapis.com --project=churn-project"),
        ("disabled", r"is in DISABLED state"),
        ("destroyed", r"is destroyed or disabled gives nothing.*is in DESTROYED state"),
        ("down", r"\(503\): the service is down or busy: resume the run later"),
        ("cut short", "did not come whole: its checksum differs"),
        ("no base64", "did not come whole: its base64 cannot be read"),
        ("empty", "is empty. Add a version that holds it: gcloud secrets versions add db-password"),
        ("newline", "is empty"),
        ("no text", "is no text in UTF-8"),
        ("zero byte", "is no text in UTF-8"),
    ],
)
def test_what_cannot_be_had_is_said_with_its_remedy_and_without_the_secret(
    service: SecretManager, wrong: str, words: str
) -> None:
    payloads = {
        "empty": b"",
        "newline": b"\n",
        "no text": WORDS.encode() + b"\xff\xfe",
        "zero byte": WORDS.encode() + b"\0",
    }
    reference = service.put(NAME, payloads.get(wrong, WORDS.encode()))
    match wrong:
        case "absent":
            service.secrets.clear()
        case "version":
            reference += "/versions/7"
        case "denied":
            service.denied.add(NAME)
        case "disabled API":
            service.disabled = True
        case "disabled" | "destroyed":
            service.secrets[NAME][0]["state"] = wrong.upper()
        case "down":
            service.down = 1000
        case "cut short":
            service.damage = {"data": "aHVudGVy"}
        case "no base64":
            service.damage = {"data": "aHVudGVyMi1ub3Q"}
    said = refusal(reference)
    assert re.search(words, said), said
    assert WORDS not in said


def test_a_service_that_is_down_for_a_moment_is_asked_again(service: SecretManager) -> None:
    reference = service.put(NAME, b"first")
    service.down = 2
    assert resolved(reference) == "first"


def test_nobody_answers(service: SecretManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_SECRET_MANAGER", "http://127.0.0.1:9")
    said = refusal(f"secretmanager://{NAME}")
    assert "Secret Manager at http://127.0.0.1:9 does not answer" in said


def test_a_process_without_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ContractViolation, match=r"has no account of Google Cloud .*none\.json"):
        resolve_references({"DB_PASSWORD": f"secretmanager://{NAME}"})


def test_a_name_of_another_form(service: SecretManager) -> None:
    assert "write secretmanager://projects/PROJECT/secrets/SECRET" in refusal("secretmanager://db-password")


def test_the_checksum_is_google_s() -> None:
    for data in (b"", b"123456789", SECRET.encode() * 100):
        assert crc32c(data) == google_crc32c.value(data)


STEP = """
import os
from kfp_lifecycle.runtime.component import component
from kfp_lifecycle.runtime.contract import step

@component(environment="validation")
def told() -> str:
    import os
    with step():
        return str(len(os.environ["DB_PASSWORD"]))
"""


@pytest.mark.parametrize("library", [True, False], ids=["by Google's library", "without it"])
def test_a_step_is_told_the_secret_and_says_nothing_of_it(
    service: SecretManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bool
) -> None:
    (tmp_path / "own_step.py").write_text(STEP)
    if not library:
        # As in an exit handler, which has nothing but Python and kfp.
        (tmp_path / "google").mkdir()
        (tmp_path / "google" / "__init__.py").write_text("")
        (tmp_path / "google" / "auth.py").write_text("raise ModuleNotFoundError('google.auth')")
    monkeypatch.setenv("DB_PASSWORD", service.put(NAME, WORDS.encode()))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "last-words"))
    output = tmp_path / "Output"
    executor_input = {
        "inputs": {},
        "outputs": {"outputFile": str(tmp_path / "out.json"), "parameters": {"Output": {"outputFile": str(output)}}},
    }
    command = [sys.executable, "-m", "kfp_lifecycle.runtime.executor", "own_step", "--executor_input"]
    command += [json.dumps(executor_input), "--function_to_execute", "told"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["parameterValues"] == {"Output": str(len(WORDS))}
    assert WORDS not in done.stdout + done.stderr
    service.denied.add(NAME)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1
    assert "roles/secretmanager.secretAccessor" in (tmp_path / "last-words").read_text()
    assert "roles/secretmanager.secretAccessor" in done.stderr
