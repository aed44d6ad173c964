"""Label completeness: which tables tell what became of an entity, and until when they do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.offline.point_in_time import run_query, session, show_table, show_tables, tables_of

# A table is taken to lag when it is silent for longer than this, and for more than so many times its longest pause.
LONGEST_SILENCE = timedelta(days=1)
PAUSES = 2
# Where in a table's history it is tried whether labels depend on its later rows: quantiles of its times.
PROBES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class LabelSpan:
    """Until when labels are known."""

    until: datetime
    """No later than the newest row of all tables."""
    notes: list[str]
    """What a reader must know of it, in sentences; none where all tables reach to the newest row."""


def label_span(
    settings: Configuration,
    definitions: Definitions,
    label_query: Path,
    validated: Path,
    as_of: datetime,
) -> LabelSpan:
    """Find out until when the label's own tables reach.

    A table is the label's own when labels of past snapshots change as soon as its later rows are taken away; other
    tables that the query reads only say who was there. Such a table that has fallen silent, longer than ever before,
    was not loaded: what it would have said is no label yet.

    Args:
        settings: `source.tables`, `label` and `entity`.
        definitions: The project's feature definitions.
        label_query: The SQL file that labels entities.
        validated: The validated tables.
        as_of: Time of the newest row of all tables.
    """
    until, notes = as_of, []
    with session(validated) as connection:
        show_tables(connection, validated, settings.source.tables, as_of=None)
        mentioned = tables_of(label_query, settings.label.query)
        times = {name: table.event_time for name, table in settings.source.tables.items() if table.event_time}
        for name in [name for name in times if name in mentioned]:
            newest, longest_pause = rhythm_of(connection, name, times[name])
            silence = as_of - newest
            # Whether a table is the label's own takes the label's query to find out, and matters of a silent one only.
            if silence > max(LONGEST_SILENCE, PAUSES * longest_pause) and is_own_table(
                name, connection, settings, definitions, label_query, validated
            ):
                until = min(until, newest)
                notes.append(
                    f"The table {name}, which {settings.label.query} reads the label from, ends at "
                    f"{newest:%Y-%m-%d %H:%M}, {_days(silence)} before the newest row of all tables, and was never "
                    f"silent for more than {_days(longest_pause)} before: it lags, so that labels are known until then "
                    "only, and later snapshots are left out."
                )
    return LabelSpan(until, notes)


def is_own_table(
    name: str,
    connection: duckdb.DuckDBPyConnection,
    settings: Configuration,
    definitions: Definitions,
    label_query: Path,
    validated: Path,
) -> bool:
    """Whether a table's rows after a moment change the labels of that moment.

    Args:
        name: The table.
        connection: A session that shows all tables, whole; it does so again afterwards.
        settings: As `label_span`, and so the others.
    """

    def labels(snapshot: datetime) -> pa.Table:
        moments = {"snapshot": snapshot, "horizon": snapshot + settings.label.horizon}
        columns, title = {settings.label.name: "DOUBLE"}, settings.label.query
        return run_query(connection, definitions, label_query, moments, columns, snapshot, name=title).read_all()

    time = settings.source.tables[name].event_time
    if time is None:
        return False
    quantiles = f"quantile_disc({quoted(time)}::TIMESTAMP, {list(PROBES)})"
    [(moments,)] = connection.execute(f"SELECT {quantiles} FROM {quoted(name)}").fetchall()
    for moment in dict.fromkeys(found.replace(tzinfo=UTC) for found in moments or []):
        known = labels(moment)
        show_table(connection, validated, name, [(time, moment)])
        changed = labels(moment) != known
        show_table(connection, validated, name, [])
        if changed:
            return True
    return False


def rhythm_of(connection: duckdb.DuckDBPyConnection, table: str, event_time: str) -> tuple[datetime, timedelta]:
    """Time of a table's newest row, and the longest that it was silent between two of its rows, to the hour."""
    hours = f"SELECT DISTINCT date_trunc('hour', {quoted(event_time)}::TIMESTAMP) AS hour FROM {quoted(table)}"
    [(newest, longest)] = connection.execute(
        f"SELECT (SELECT max({quoted(event_time)})::TIMESTAMP FROM {quoted(table)}), max(pause) "
        f"FROM (SELECT hour - lag(hour) OVER (ORDER BY hour) AS pause FROM ({hours}))"
    ).fetchall()
    return newest.replace(tzinfo=UTC), longest or timedelta()


def _days(time: timedelta) -> str:
    days = time.total_seconds() / 86_400
    return f"{days:.1f} days" if days < 10 else f"{days:.0f} days"
