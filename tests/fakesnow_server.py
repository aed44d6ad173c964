"""fakesnow's server, in its own environment: `python fakesnow_server.py PORT`.

What it lacks of Snowflake is mended here: it sets no parameters of a session, copies into no temporary table, and gives
times that are unknown as 1970. So a temporary table is an ordinary one that goes with its session. Every statement is
written to the file `statements` in the working folder.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import uvicorn
from fakesnow import arrow
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.fakes import FakeSnowflakeConnection

TEMPORARY = re.compile(r"(?i)^\s*CREATE TEMPORARY TABLE (\S+)")

with_structs = arrow.timestamp_to_sf_struct


def with_nulls(times: pa.ChunkedArray) -> pa.StructArray:
    whole = with_structs(times)
    unknown = times.combine_chunks().is_null()
    return pa.StructArray.from_arrays(whole.flatten(), fields=list(whole.type), mask=unknown)


temporary: dict[int, list[str]] = {}
execute = FakeSnowflakeCursor.execute


def execute_here(cursor: FakeSnowflakeCursor, command: str, *arguments: Any, **options: Any) -> FakeSnowflakeCursor:
    with Path("statements").open("a", encoding="utf-8") as log:
        log.write(command.replace("\n", " ") + "\n")
    found = TEMPORARY.match(command)
    if found:
        temporary.setdefault(id(cursor._conn), []).append(found[1])
        command = command.replace("TEMPORARY ", "", 1)
    return execute(cursor, command, *arguments, **options)


class Sessions(dict[str, FakeSnowflakeConnection]):
    """A session that ends takes its temporary tables with it."""

    def __delitem__(self, token: str) -> None:
        connection = self[token]
        for table in temporary.pop(id(connection), []):
            connection.cursor().execute(f"DROP TABLE {table}")
        super().__delitem__(token)


if __name__ == "__main__":
    # The package has a function of the same name.
    server = importlib.import_module("fakesnow.server")
    FakeSnowflakeCursor.execute = execute_here
    arrow.timestamp_to_sf_struct = with_nulls
    server.sessions = Sessions()
    server.shared_fs.nop_regexes = ["ALTER SESSION SET"]
    uvicorn.run(server.app, port=int(sys.argv[1]), log_level="info")
