"""Spells: what a version foretold of an entity for the length of the label's horizon, each event foretold once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from kfp_lifecycle.artifacts.predictions import Flaw
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.data.sql import literal
from kfp_lifecycle.monitoring.log_window import OpenLog, read_log


@dataclass(frozen=True)
class Spells:
    """The spells of a log."""

    rows: pa.Table
    """`version`, `entity`, `time`, `day` (a date), `score`, `decision`, `hold_out` (null where the server knew of
    none); by version, entity and time."""
    predictions: int
    """Answers in the span."""
    without_entity: int
    """Of these, those that name none: nobody can know what became of them."""
    flaws: list[Flaw]
    """Files that are none of the log, or end within a batch."""


def spells_of(files: Sequence[Path], start: datetime, end: datetime, horizon_days: int, scratch: Path) -> Spells:
    """Read the spells of a span of time.

    The first prediction about an entity by a version begins a spell; those about it within the horizon tell of the same
    events, and the first one after it begins the next.

    Args:
        files: As `log_files` finds them.
        start: Of the span; included.
        end: Not included.
        horizon_days: Of the label.
        scratch: Folder for what does not fit in memory.

    Raises:
        ContractViolation: the log cannot be read.
    """

    def read(log: OpenLog) -> Spells:
        connection, sources, flaws = log.connection, log.sources, list(log.flaws)
        if not sources:
            return Spells(_nothing(), 0, 0, flaws)
        files_read = ", ".join(literal(str(source.file)) for source in sources)
        # Servers of earlier days logged none.
        hold_out = "hold_out" if any("hold_out" in source.schema.names for source in sources) else "NULL"
        # The first of a day stands for it: what is asked about an entity all day is asked about the same events.
        connection.execute(
            f"""
            CREATE TEMP TABLE asked AS
            SELECT
                version, entity, time::DATE AS day,
                arg_min((time, score, decision, hold_out), (time, request_id, score)) AS first,
                count(*) AS predictions,
            FROM (
                SELECT
                    try_cast(time AS TIMESTAMPTZ) AS time,
                    request_id::VARCHAR AS request_id,
                    version::VARCHAR AS version,
                    entity::VARCHAR AS entity,
                    try_cast(score AS DOUBLE) AS score,
                    try_cast(decision AS BOOLEAN) AS decision,
                    try_cast({hold_out} AS BOOLEAN) AS hold_out,
                    try_cast(shadow AS BOOLEAN) AS shadow,
                FROM read_parquet([{files_read}], union_by_name = true)
            )
            WHERE time >= $start AND time < $end AND version IS NOT NULL AND NOT isnan(score) AND score BETWEEN 0 AND 1
              AND NOT coalesce(shadow, false)
            GROUP BY ALL
            """,
            {"start": start, "end": end},
        )
        [(predictions, without)] = connection.execute(
            "SELECT coalesce(sum(predictions), 0)::BIGINT, "
            "coalesce(sum(predictions) FILTER (entity IS NULL), 0)::BIGINT FROM asked"
        ).fetchall()
        connection.execute("CREATE TEMP TABLE spells (version VARCHAR, entity VARCHAR, day DATE)")
        for _ in range(math.ceil((end - start) / timedelta(days=horizon_days)) + 1):
            connection.execute(
                f"""
                INSERT INTO spells
                SELECT asked.version, asked.entity, min(asked.day)
                FROM asked
                LEFT JOIN (SELECT version, entity, max(day) AS day FROM spells GROUP BY ALL) AS latest
                  ON asked.version = latest.version AND asked.entity = latest.entity
                WHERE asked.entity IS NOT NULL
                  AND (latest.day IS NULL OR asked.day >= latest.day + {horizon_days})
                GROUP BY ALL
                """
            )
        rows = connection.sql(
            "SELECT version, entity, first[1] AS time, day, first[2] AS score, first[3] AS decision, "
            "first[4] AS hold_out "
            "FROM spells JOIN asked USING (version, entity, day) ORDER BY version, entity, day"
        ).to_arrow_table()
        return Spells(rows.cast(_nothing().schema), predictions, without, flaws)

    return read_log(files, scratch, read)


def _nothing() -> pa.Table:
    return pa.schema(
        [
            ("version", pa.string()),
            ("entity", pa.string()),
            ("time", pa.timestamp("us", "UTC")),
            ("day", pa.date32()),
            ("score", pa.float64()),
            ("decision", pa.bool_()),
            ("hold_out", pa.bool_()),
        ]
    ).empty_table()
