"""Secrets of Google's Secret Manager: references in a process's variables, resolved when it begins.

Vertex AI gives steps no secrets. So a variable holds `secretmanager://projects/P/secrets/S`, which a compiled pipeline
may show, and the step asks for what it stands for by its own account. Asked is by REST and the standard library: exit
handlers have no other, and no environment needs another client.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from http.client import HTTPException
from typing import Any, NoReturn

from kfp_lifecycle.runtime.asking import RETRIED, ask_again
from kfp_lifecycle.runtime.contract import ContractViolation, report_failure
from kfp_lifecycle.runtime.executor import REFERENCE

# Where Secret Manager is reached, if that is not its public address.
ENDPOINT_VARIABLE = "LIFECYCLE_SECRET_MANAGER"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT = 10.0


def resolve_references(variables: MutableMapping[str, str] = os.environ) -> None:
    """Put secrets in the place of the references that variables hold.

    Raises:
        ContractViolation: one cannot be had. The message names variable and reference, and no secret.
    """
    waiting = {name: value for name, value in variables.items() if value.startswith(REFERENCE)}
    if not waiting:
        return
    token = _token()
    # Each once, though several variables mean it.
    named = {reference: name for name, reference in waiting.items()}
    found = {reference: _secret(name, reference, token) for reference, name in named.items()}
    variables.update({name: found[reference] for name, reference in waiting.items()})


def resolve_or_stop() -> None:
    """Resolve them for a step, which ends with the reason where one cannot be had."""
    try:
        resolve_references()
    except ContractViolation as violation:
        report_failure(str(violation))
        raise SystemExit(1) from violation


def _secret(name: str, reference: str, token: str) -> str:
    secret, _, version = reference.removeprefix(REFERENCE).partition("/versions/")
    parts = secret.split("/")
    if len(parts) not in (4, 6) or parts[0] != "projects" or parts[-2] != "secrets":
        raise ContractViolation(
            f"{name} is {reference}, which is no secret's name: write secretmanager://projects/PROJECT/secrets/SECRET, "
            "and /versions/VERSION where not the latest is meant"
        )
    # A secret that is kept in one region is asked for there.
    host = "secretmanager" if len(parts) == 4 else f"secretmanager.{parts[3]}.rep"
    endpoint = os.environ.get(ENDPOINT_VARIABLE, f"https://{host}.googleapis.com").rstrip("/")
    url = f"{endpoint}/v1/{secret}/versions/{version or 'latest'}:access"
    try:
        answer = _ask(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}))
    except urllib.error.HTTPError as error:
        _refuse(name, reference, secret, error)
    except (OSError, HTTPException, ValueError) as error:
        raise ContractViolation(
            f"{name} is {reference}, and Secret Manager at {endpoint} does not answer: "
            f"{getattr(error, 'reason', error)}. See that this step reaches it (Private Google Access, where it has no "
            "public address), and resume the run."
        ) from error
    return _text(f"{name} is {reference}, which", secret, answer)


def _text(what: str, secret: str, answer: dict[str, Any]) -> str:
    """The secret in an answer, if it came whole.

    Raises:
        ContractViolation: it did not, or is no text.
    """
    payload = answer.get("payload", {})
    add = f"gcloud secrets versions add {secret.rpartition('/')[2]} --project={secret.split('/')[1]} --data-file=FILE"
    try:
        data = base64.b64decode(payload.get("data", ""), validate=True)
    except binascii.Error:
        raise ContractViolation(f"{what} did not come whole: its base64 cannot be read. Resume the run.") from None
    if "dataCrc32c" in payload and int(payload["dataCrc32c"]) != crc32c(data):
        raise ContractViolation(f"{what} did not come whole: its checksum differs. Resume the run.")
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ContractViolation(f"{what} is no text in UTF-8, which a variable has to be. Store it as such: {add}")
    if not text:
        raise ContractViolation(f"{what} is empty. Add a version that holds it: {add}")
    return text


def _refuse(name: str, reference: str, secret: str, error: urllib.error.HTTPError) -> NoReturn:
    """Say in plain words why a secret cannot be had."""
    said = _said(error)
    project, last = secret.split("/")[1], secret.rpartition("/")[2]
    remedy = "see the service's words"
    if error.code == 401:
        remedy = "the account of this step is not known there; name one in targets.vertex.service_account"
    elif error.code == 403 and ("SERVICE_DISABLED" in said or "has not been used" in said):
        remedy = f"enable its API: gcloud services enable secretmanager.googleapis.com --project={project}"
    elif error.code == 403:
        remedy = (
            "let the account of the steps (targets.vertex.service_account) read it: gcloud secrets "
            f"add-iam-policy-binding {last} --project={project} --role=roles/secretmanager.secretAccessor "
            "--member=serviceAccount:ACCOUNT"
        )
    elif error.code == 404:
        remedy = (
            f"make it, and a version of it: gcloud secrets create {last} --project={project} --data-file=FILE; "
            "what is there is listed by gcloud secrets list"
        )
    elif error.code == 400:
        remedy = (
            "a version that is destroyed or disabled gives nothing: name another, or add one by "
            f"gcloud secrets versions add {last} --project={project} --data-file=FILE"
        )
    elif error.code in RETRIED:
        remedy = "the service is down or busy: resume the run later"
    raise ContractViolation(
        f"{name} is {reference}, which cannot be had ({error.code}): {remedy}. Secret Manager says: {said}"
    ) from None


def _said(error: urllib.error.HTTPError) -> str:
    body = error.read()
    try:
        return " ".join(str(json.loads(body)["error"]["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _ask(request: urllib.request.Request) -> dict[str, Any]:
    """Ask, again where nobody answers."""
    return ask_again(lambda: _once(request), _passes)


def _passes(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in RETRIED
    return isinstance(error, (OSError, HTTPException, ValueError))


def _once(request: urllib.request.Request) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        found = json.load(answer)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


def _token() -> str:
    """A token of the account that this process works as: of whatever Google's library finds, where it is installed,
    else of the machine's own account, as it is on Vertex AI."""
    try:
        import google.auth
        from google.auth import exceptions
        from google.auth.transport.requests import Request
    except ModuleNotFoundError:
        host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        try:
            return str(_ask(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"}))["access_token"])
        except (OSError, HTTPException, ValueError, KeyError) as error:
            raise _no_account(error) from error
    try:
        credentials, _ = google.auth.default(scopes=list(SCOPES))
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
        return str(credentials.token)
    except exceptions.GoogleAuthError as error:
        raise _no_account(error) from error


def _no_account(error: Exception) -> ContractViolation:
    return ContractViolation(
        f"secrets are to be read from Secret Manager, and this process has no account of Google Cloud ({error}). On "
        "Vertex AI name targets.vertex.service_account; elsewhere log in by gcloud auth application-default login."
    )


def crc32c(data: bytes) -> int:
    """Checksum of Castagnoli, as Secret Manager gives it (RFC 3720, appendix B.4)."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF
