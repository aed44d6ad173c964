"""Join coverage: how many of the entities in question each of a project's flat tables has a row for."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.features.definitions import Definitions
from kfp_lifecycle.features.flat_table import refuse_repeated
from kfp_lifecycle.features.offline.point_in_time import session, show_table
from kfp_lifecycle.runtime.contract import ContractViolation

EXAMPLES = 3


def check_coverage(
    configuration: Configuration, definitions: Definitions, validated: Path, keys: pa.ChunkedArray, who: str
) -> list[str]:
    """Refuse a table of `features.tables` that knows too few of the entities in question.

    Args:
        configuration: Its `features`, `entity` and `label`.
        definitions: The project's feature definitions.
        validated: The validated tables.
        keys: The keys of these entities, each once.
        who: What they are, such as "with a label".

    Returns:
        What a reader has to know of each table that lacks some of them, or has rows of others, in a sentence.

    Raises:
        ContractViolation: a table has several rows of an entity, or a row for fewer of them than
            `features.min_match_share`.
    """
    notes: list[str] = []
    with session(validated) as connection:
        connection.register("wanted", pa.table({"key": keys}))
        for table in configuration.features.tables:
            show_table(connection, validated, table, until=[])
            refuse_repeated(connection, table, definitions.key)
            notes += _coverage(connection, configuration, definitions, table, who)
    return notes


def _coverage(
    connection: duckdb.DuckDBPyConnection, configuration: Configuration, definitions: Definitions, table: str, who: str
) -> list[str]:
    key, entity = definitions.key, configuration.entity.name
    present = f"(SELECT CAST({quoted(key)} AS {definitions.key_type}) AS key FROM {quoted(table)})"
    [(wanted, rows, without, without_some, others, others_some)] = connection.execute(
        "SELECT (SELECT count(*) FROM wanted), count(p.key), "
        f"count(*) FILTER (p.key IS NULL), list(w.key ORDER BY w.key) FILTER (p.key IS NULL)[:{EXAMPLES}], "
        f"count(*) FILTER (w.key IS NULL), list(p.key ORDER BY p.key) FILTER (w.key IS NULL)[:{EXAMPLES}] "
        f"FROM wanted AS w FULL JOIN {present} AS p ON w.key = p.key"
    ).fetchall()
    if not without and not others:
        return []
    lacks = f"{without:,} of {wanted:,} entities ({entity}) {who}, such as {_shown(without_some)}"
    unused = f"{others:,} of its {rows:,} rows are of nobody {who}, such as {_shown(others_some)}"
    matched = (wanted - without) / wanted
    if not wanted - without or matched < configuration.features.min_match_share:
        allowed = f", or set features.min_match_share below {matched:.3g} where so many rightly have none"
        raise ContractViolation(
            f"{table} has no row for {lacks}{f'; {unused}' if others else ''}. At least "
            f"{configuration.features.min_match_share:.1%} must have one (features.min_match_share): else most would "
            f"be without its features. See that {key} is written alike in both, mend it with the query of "
            f"source.tables.{table}{allowed if wanted - without else ''}."
        )
    notes = [f"{table} has no row for {lacks}: its features are missing there."] if without else []
    return [*notes, f"{table}: {unused}, and not used."] if others else notes


def _shown(keys: list[object] | None) -> str:
    return ", ".join(f"{key!r:.60}" for key in keys or ())
