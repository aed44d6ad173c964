"""A stand-in for Secret Manager's REST interface with its IAM, as far as versions need it, and for the metadata server
and the token address that Google's libraries ask for an account's token.

Google's own client fills it (`tests/validation/test_secret_manager.py`), so that it speaks as that one expects.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.json_service import Answer, Request, json_service

TOKEN = "ya29.of-the-step"
SECRET = r"projects/[^/]+(?:/locations/[^/]+)?/secrets/[^/:]+"


@dataclass
class SecretManager:
    """What it keeps, and how it misbehaves."""

    url: str = ""
    secrets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Versions of each secret, the first is version 1."""
    denied: set[str] = field(default_factory=set)
    disabled: bool = False
    down: int = 0
    """How many more requests it answers with 503."""
    damage: dict[str, Any] = field(default_factory=dict)
    """What is put into the payload of the next answers."""
    accesses: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything but the address."""
        self.__init__(self.url)  # type: ignore[misc]

    def put(self, name: str, *payloads: bytes) -> str:
        """Keep versions of a secret; its reference."""
        for payload in payloads:
            self.secrets.setdefault(name, []).append({"data": payload, "state": "ENABLED"})
        return f"secretmanager://{name}"


@contextlib.contextmanager
def secret_manager() -> Iterator[SecretManager]:
    """Answer until the end."""
    service = SecretManager()
    with json_service(lambda request: _answer(service, request)) as url:
        service.url = url
        yield service


def _answer(service: SecretManager, request: Request) -> Answer | dict[str, Any]:
    path = urlsplit(request.path).path
    if path == "/token" or path.endswith("/service-accounts/default/token"):
        return Answer({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}, headers=_FLAVOR)
    if path.startswith("/computeMetadata") or path == "/":
        account = {"email": "steps@churn-project.iam.gserviceaccount.com", "scopes": ["all"], "aliases": ["default"]}
        return Answer(account, headers=_FLAVOR)
    if service.down:
        service.down -= 1
        return _refusal(503, "UNAVAILABLE", "The service is currently unavailable.")
    if request.headers.get("Authorization") not in (f"Bearer {TOKEN}", None):
        return _refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
    if match := re.fullmatch(rf"/v1/({SECRET})/versions/([^/:]+):access", path):
        service.accesses.append(path)
        return _access(service, match[1], match[2])
    return _managed(service, request, path)


def _access(service: SecretManager, name: str, version: str) -> Answer | dict[str, Any]:
    if service.disabled:
        return _refusal(
            403,
            "PERMISSION_DENIED",
            "Secret Manager API has not been used in project 1 before or it is disabled. Enable it and retry.",
        )
    if name in service.denied:
        return _refusal(
            403,
            "PERMISSION_DENIED",
            f"Permission 'secretmanager.versions.access' denied for resource '{name}/versions/{version}' (or it may "
            "not exist).",
        )
    versions = service.secrets.get(name)
    if versions is None:
        return _refusal(404, "NOT_FOUND", f"Secret [{name}] not found or has no versions.")
    number = len(versions) if version == "latest" else int(version)
    if not 1 <= number <= len(versions):
        return _refusal(404, "NOT_FOUND", f"Secret Version [{name}/versions/{version}] not found.")
    found = versions[number - 1]
    if found["state"] != "ENABLED":
        return _refusal(
            400,
            "FAILED_PRECONDITION",
            f"Secret Version [{name}/versions/{number}] is in {found['state']} state.",
        )
    payload = {"data": base64.b64encode(found["data"]).decode(), "dataCrc32c": str(_checksum(found["data"]))}
    return {"name": f"{name}/versions/{number}", "payload": {**payload, **service.damage}}


def _managed(service: SecretManager, request: Request, path: str) -> Answer | dict[str, Any]:
    """What Google's client asks to make secrets and versions, and to destroy them."""
    query = parse_qs(urlsplit(request.path).query)
    if match := re.fullmatch(r"/v1/(projects/[^/]+)/secrets", path):
        name = f"{match[1]}/secrets/{query['secretId'][0]}"
        service.secrets[name] = []
        return {"name": name}
    if match := re.fullmatch(rf"/v1/({SECRET}):addVersion", path):
        service.put(match[1], base64.b64decode(request.json()["payload"]["data"]))
        return {"name": f"{match[1]}/versions/{len(service.secrets[match[1]])}", "state": "ENABLED"}
    if match := re.fullmatch(rf"/v1/({SECRET})/versions/(\d+):(destroy|disable)", path):
        state = {"destroy": "DESTROYED", "disable": "DISABLED"}[match[3]]
        service.secrets[match[1]][int(match[2]) - 1]["state"] = state
        return {"name": f"{match[1]}/versions/{match[2]}", "state": state}
    return _refusal(404, "NOT_FOUND", f"{request.method} {path}")


def _refusal(code: int, status: str, message: str) -> Answer:
    return Answer({"error": {"code": code, "status": status, "message": message}}, code)


def _checksum(data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(data))


_FLAVOR = {"Metadata-Flavor": "Google"}
