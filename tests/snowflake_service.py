"""A stand-in for Snowflake's REST interface, as far as a query needs it, for the real ADBC driver."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tests.json_service import Request, json_service

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

    service = Service(0, password)

    def answer(request: Request) -> dict[str, Any]:
        if request.path.startswith("/session/v1/login-request"):
            known = request.json()["data"]["PASSWORD"] == service.password
            return _session() if known else _refused()
        if request.path.startswith("/queries/v1/query-request"):
            service.statements.append(request.json()["sqlText"])
            return _result(rows)
        return {"success": True, "data": {}}

    with json_service(answer) as url:
        service.port = int(url.rpartition(":")[2])
        yield service


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
