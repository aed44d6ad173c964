"""A stand-in for BigQuery's REST interface, as far as a query needs it, for Google's real client library."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = {
    "fields": [
        {"name": "order_id", "type": "INTEGER", "mode": "NULLABLE"},
        {"name": "ordered_at", "type": "DATETIME", "mode": "NULLABLE"},
        {"name": "note", "type": "STRING", "mode": "NULLABLE"},
    ]
}


@dataclass
class Service:
    """What it was asked, and what it says."""

    url: str
    credentials: dict[str, str]
    statements: list[str] = field(default_factory=list)
    statement_type: str = "SELECT"


@contextlib.contextmanager
def bigquery_service(rows: Sequence[tuple[Any, ...]]) -> Iterator[Service]:
    """Answer every query with these rows of an order's id, time and note."""
    result = {
        "kind": "bigquery#queryResponse",
        "schema": SCHEMA,
        "jobComplete": True,
        "totalRows": str(len(rows)),
        "rows": [{"f": [{"v": str(value).replace(" ", "T", 1)} for value in row]} for row in rows],
        "jobReference": {"projectId": "project", "jobId": "job", "location": "EU"},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if "/queries/" in self.path or "/data" in self.path:
                return self._answer(result)
            return self._answer(_job(service, dry_run=False))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/token"):
                return self._answer({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})
            request = json.loads(body)
            settings = request.get("configuration", {})
            service.statements.append(settings.get("query", {}).get("query") or request["query"])
            return self._answer(_job(service, dry_run=bool(settings.get("dryRun"))))

        def _answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        service = Service(url, _credentials(url))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service
        server.shutdown()


def _job(service: Service, dry_run: bool) -> dict[str, Any]:
    destination = {"projectId": "project", "datasetId": "shop", "tableId": "result"}
    return {
        "jobReference": {"projectId": "project", "jobId": "job", "location": "EU"},
        "configuration": {
            "dryRun": dry_run,
            "jobType": "QUERY",
            "query": {"query": service.statements[-1], "destinationTable": destination},
        },
        "status": {"state": "DONE"},
        "statistics": {"query": {"statementType": service.statement_type, "schema": SCHEMA}},
    }


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
