"""A stand-in for Snowflake's REST interface, as far as a query needs it, for the real ADBC driver."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

# Snowflake keeps names that were not quoted in capitals.
COLUMNS: list[dict[str, Any]] = [
    {"name": "ORDER_ID", "type": "fixed", "scale": 0, "precision": 38, "nullable": True},
    {"name": "ORDERED_AT", "type": "timestamp_ntz", "scale": 6, "precision": 0, "nullable": True},
    {"name": "NOTE", "type": "text", "length": 100, "nullable": True},
]


@dataclass
class Service:
    """What it was asked, and what it says."""

    port: int
    password: str
    statements: list[str] = field(default_factory=list)


@contextlib.contextmanager
def snowflake_service(rows: dict[str, pa.Array], password: str) -> Iterator[Service]:
    """Let those in who know the password, and answer every SELECT with these columns."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = json.loads(body or b"{}")
            if self.path.startswith("/session/v1/login-request"):
                known = request["data"]["PASSWORD"] == service.password
                return self._answer(_session() if known else _refused())
            if self.path.startswith("/queries/v1/query-request"):
                service.statements.append(request["sqlText"])
                return self._answer(_result(rows))
            return self._answer({"success": True, "data": {}})

        def _answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = Service(server.server_port, password)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service
        server.shutdown()


def _session() -> dict[str, Any]:
    return {
        "success": True,
        "data": {
            "token": "session",
            "masterToken": "master",
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400,
            "sessionId": 1,
            "parameters": [],
            "sessionInfo": {"databaseName": "SHOP", "schemaName": "PUBLIC", "warehouseName": "", "roleName": ""},
        },
    }


def _refused() -> dict[str, Any]:
    return {
        "success": False,
        "code": "390100",
        "message": "Incorrect username or password was specified.",
        "data": None,
    }


def _result(rows: dict[str, pa.Array]) -> dict[str, Any]:
    kinds = {"fixed": "FIXED", "timestamp_ntz": "TIMESTAMP_NTZ", "text": "TEXT"}
    fields = [
        pa.field(
            column["name"],
            rows[column["name"]].type,
            metadata={
                "logicalType": kinds[column["type"]],
                "scale": str(column.get("scale", 0)),
                "precision": str(column.get("precision", 0)),
            },
        )
        for column in COLUMNS
    ]
    schema = pa.schema(fields)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([rows[column["name"]] for column in COLUMNS], schema=schema))
    count = len(rows["NOTE"])
    return {
        "success": True,
        "data": {
            "queryId": "q",
            "rowtype": COLUMNS,
            "queryResultFormat": "arrow",
            "rowsetBase64": base64.b64encode(sink.getvalue().to_pybytes()).decode(),
            "total": count,
            "returned": count,
            "statementTypeId": 4096,
            "parameters": [],
            "finalDatabaseName": "SHOP",
            "finalSchemaName": "PUBLIC",
        },
    }
