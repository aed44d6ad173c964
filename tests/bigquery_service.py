"""A stand-in for BigQuery's REST interface, as far as queries and load jobs need it, for Google's real client library.

It keeps tables and runs what it is asked by `run`; what BigQuery itself would say of a statement it cannot know.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.json_service import Answer, Request, json_service

Rows = Sequence[tuple[Any, ...]]
Fields = Sequence[tuple[str, str]]
"""Names and BigQuery's types."""


@dataclass
class Loaded:
    """A table that was made and filled."""

    fields: Fields
    parquet: bytes = b""


@dataclass
class Service:
    """What it was asked, and what it says."""

    url: str = ""
    credentials: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    statement_type: str = "SELECT"
    tables: dict[str, Loaded] = field(default_factory=dict)
    """By `project.dataset.table`; those that were removed are gone."""
    expirations: dict[str, str] = field(default_factory=dict)
    """When each table that was ever made goes by itself, in milliseconds since 1970."""
    refusal: tuple[str, int, str] | None = None
    """Part of the path of the requests that are refused, the status, and why."""


@contextlib.contextmanager
def bigquery_service(run: Callable[[Service, str], tuple[Fields, Rows]]) -> Iterator[Service]:
    """Answer the client until the end.

    Args:
        run: Columns and rows of a statement. Raises ValueError with what is wrong with it.
    """
    service = Service()
    jobs: dict[str, dict[str, Any]] = {}
    uploads: dict[str, str] = {}
    numbers = itertools.count()

    def answer(request: Request) -> Answer | dict[str, Any]:
        path = unquote(urlsplit(request.path).path)
        if service.refusal is not None and service.refusal[0] in f"{request.method} {path}":
            return _error(*service.refusal[1:])
        for begins, ends, respond in (
            ("POST /token", "", lambda: {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}),
            ("POST /upload/", "", lambda: _begin_upload(service, request, uploads, jobs)),
            ("PUT /upload/", "", lambda: _take_upload(service, request, uploads, jobs)),
            ("POST", "/tables", lambda: _make_table(service, request)),
            ("DELETE", "", lambda: _remove_table(service, path)),
            ("POST", "", lambda: _start_query(service, request, jobs, f"job{next(numbers)}", run)),
            ("GET", "/data", lambda: jobs["data"]["results"]),
            ("GET", "", lambda: jobs[path.split("/")[-1]]["results" if "/queries/" in path else "resource"]),
        ):
            if f"{request.method} {path}".startswith(begins) and path.endswith(ends):
                return respond()
        return _error(404, path)

    with json_service(answer) as url:
        service.url, service.credentials = url, _credentials(url)
        yield service


def _start_query(
    service: Service,
    request: Request,
    jobs: dict[str, dict[str, Any]],
    job_id: str,
    run: Callable[[Service, str], tuple[Fields, Rows]],
) -> Answer | dict[str, Any]:
    asked = request.json()
    settings = asked.get("configuration", {})
    statement = settings.get("query", {}).get("query") or asked["query"]
    service.statements.append(statement)
    try:
        fields, rows = run(service, statement)
    except ValueError as error:
        return _error(400, str(error))
    reference = asked.get("jobReference") or {"projectId": "project", "jobId": job_id}
    reference = {"location": "EU", **reference}
    schema = {"fields": [{"name": name, "type": kind, "mode": "NULLABLE"} for name, kind in fields]}
    resource = {
        "jobReference": reference,
        "configuration": {
            "dryRun": bool(settings.get("dryRun")),
            "jobType": "QUERY",
            "query": {
                "query": statement,
                "destinationTable": {"projectId": "project", "datasetId": "shop", "tableId": "result"},
            },
        },
        "status": {"state": "DONE"},
        "statistics": {"query": {"statementType": service.statement_type, "schema": schema}},
    }
    results = {
        "kind": "bigquery#queryResponse",
        "schema": schema,
        "jobComplete": True,
        "totalRows": str(len(rows)),
        "rows": [{"f": [{"v": _written(value)} for value in row]} for row in rows],
        "jobReference": reference,
    }
    jobs[reference["jobId"]] = {"resource": resource, "results": results}
    # A result page is asked for by the name of the table that holds it.
    jobs["data"] = {"resource": results, "results": results}
    return resource


def _make_table(service: Service, request: Request) -> dict[str, Any]:
    table = request.json()
    reference = table["tableReference"]
    name = ".".join(reference[part] for part in ("projectId", "datasetId", "tableId"))
    fields = [(column["name"], column["type"]) for column in table["schema"]["fields"]]
    service.tables[name] = Loaded(fields)
    service.expirations[name] = table["expirationTime"]
    return {"kind": "bigquery#table", "id": name, **table}


def _remove_table(service: Service, path: str) -> Answer:
    service.tables.pop(".".join(re.fullmatch(r".*/projects/(.+)/datasets/(.+)/tables/(.+)", path).groups()), None)
    return Answer(status=204)


def _begin_upload(
    service: Service, request: Request, uploads: dict[str, str], jobs: dict[str, dict[str, Any]]
) -> Answer:
    """A resumable upload: a job is described, then its file comes, in one piece."""
    asked = request.json()
    job_id = asked["jobReference"]["jobId"]
    destination = asked["configuration"]["load"]["destinationTable"]
    uploads[job_id] = ".".join(destination[part] for part in ("projectId", "datasetId", "tableId"))
    resource = {
        "jobReference": {"location": "EU", **asked["jobReference"]},
        "configuration": {"jobType": "LOAD", **asked["configuration"]},
        "status": {"state": "DONE"},
    }
    jobs[job_id] = {"resource": resource}
    return Answer({}, headers={"Location": f"{service.url}/upload/{job_id}?upload_id={job_id}"})


def _take_upload(
    service: Service, request: Request, uploads: dict[str, str], jobs: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    job_id = parse_qs(urlsplit(request.path).query)["upload_id"][0]
    service.tables[uploads[job_id]].parquet += request.body
    resource: dict[str, Any] = jobs[job_id]["resource"]
    return resource


def _error(status: int, message: str) -> Answer:
    reason = {400: "invalidQuery", 403: "accessDenied"}.get(status, "backendError")
    return Answer({"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}, status)


def _written(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value).replace(" ", "T", 1)


def _credentials(url: str) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return {
        "type": "service_account",
        "project_id": "project",
        "client_email": "reader@project.example",
        "token_uri": f"{url}/token",
        "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
    }
