"""Put rows that break a critical check aside, with their reasons, and hand on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb

from kfp_lifecycle.artifacts.tables import Manifest, parquet_file
from kfp_lifecycle.components.data.validate_data.rules import Rule, query_checks
from kfp_lifecycle.config.data import Table
from kfp_lifecycle.data.checks import NUMBERED, ROW, Check, failures, percent
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.data.tables import database, hand_on, newest_event

FOLDER = "quarantine"
REASONS = "quarantine_reasons"
"""The column that a quarantined row has beside the table's own: a list of the rules it breaks."""

# A list of every row put aside, in a schema of its own so that no table's name is taken.
LISTED = "quarantine.listed"
DEPENDENT = "(once other rows were put aside)"


@dataclass(frozen=True)
class Quarantine:
    """What was put aside."""

    checks: list[Check]
    """The checks, those whose rows were put aside marked, and what was found afterwards."""
    rows: dict[str, int]
    """Rows put aside by table, of tables that lost some. Empty where the run has to stop."""
    manifest: Manifest
    """Of what is left."""

    def metadata(self) -> dict[str, Any]:
        """What a person or the next step would ask first."""
        warnings, aside = len(failures(self.checks, "warning")), sum(self.rows.values())
        found = [f"{len(self.checks)} checks"]
        found += [f"{warnings} warnings"] if warnings else []
        found += [f"{aside:,} rows in quarantine"] if aside else []
        return {
            "summary": ", ".join(found),
            "checks": len(self.checks),
            "warnings": warnings,
            "quarantined": aside,
            "rows": {name: summary.rows for name, summary in self.manifest.tables.items()},
            "as_of": self.manifest.as_of_text,
        }


def put_aside(
    dataset: Path,
    validated: Path,
    manifest: Manifest,
    tables: Mapping[str, Table],
    checks: Sequence[Check],
    rules: Sequence[Rule],
    max_share: float,
    examples: int,
) -> Quarantine:
    """Write the tables without the rows that broke a critical check, and those rows to `quarantine/<table>.parquet`.

    Rows of other tables may depend on them: the critical rules in SQL are asked again of what is left, and what breaks
    them then is put aside too, until nothing does.

    Args:
        dataset: The tables.
        validated: Folder to write to; it stays empty where the run has to stop.
        manifest: Of the dataset.
        tables: Key and times of each table.
        checks: All checks of the dataset.
        rules: The project's rules.
        max_share: Largest share of a table's rows that may be put aside, 0 to 1.
        examples: How many offending rows to show.

    Returns:
        The rows put aside. A check that fails beyond that is critical and not marked: its rows are too many, or no row
        is to blame for it.
    """
    critical = [rule for rule in rules if rule.severity == "critical"]
    keys = {name: table.key for name, table in tables.items()}
    with _session(dataset, validated, manifest) as connection:
        marked = [_list(connection, check) if _stops(check) else check for check in checks]
        _hide_listed(connection, manifest)
        while found := [check for check in query_checks(connection, critical, keys, examples) if not check.passed]:
            after = [check.model_copy(update={"rule": f"{check.rule} {DEPENDENT}"}) for check in found]
            after = [_list(connection, check) for check in after]
            marked += after
            if failures(after, "critical"):
                break
        rows = _listed(connection)
        marked += _share_checks(rows, manifest, max_share)
        if failures(marked, "critical"):
            return Quarantine(marked, {}, manifest)
        left = _write(connection, dataset, validated, manifest, tables, rows)
    return Quarantine(marked, rows, left)


def _stops(check: Check) -> bool:
    return not check.passed and check.severity == "critical"


@contextmanager
def _session(dataset: Path, validated: Path, manifest: Manifest) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session that sees every table under its name and, with numbered rows, in the schema `numbered`."""
    with database(readable=[dataset], writable=validated) as connection:
        connection.execute(f"CREATE SCHEMA {NUMBERED}")
        connection.execute("CREATE SCHEMA quarantine")
        connection.execute(f'CREATE TABLE {LISTED} ("table" VARCHAR, "row" BIGINT, reason VARCHAR)')
        for name in manifest.tables:
            file = literal(str(parquet_file(dataset.resolve(), name)))
            numbered = f"{NUMBERED}.{quoted(name)}"
            connection.execute(f"CREATE VIEW {numbered} AS SELECT * FROM read_parquet({file}, file_row_number = true)")
            connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT * EXCLUDE ({ROW}) FROM {numbered}")
        yield connection


def _list(connection: duckdb.DuckDBPyConnection, check: Check) -> Check:
    """Note the rows that a failed check blames; the check, marked if there are any."""
    if isinstance(check.blamed, tuple):
        rows = connection.execute(
            f"INSERT INTO {LISTED} SELECT ?, unnest(?), ?", [check.table, list(check.blamed), check.condition]
        )
    elif check.blamed:
        rows = connection.execute(
            f"INSERT INTO {LISTED} SELECT ?, {ROW}, ? FROM {NUMBERED}.{quoted(check.table)} WHERE {check.blamed}",
            [check.table, check.condition],
        )
    else:
        return check
    return check.model_copy(update={"quarantined": rows.fetchall()[0][0] > 0})


def _hide_listed(connection: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
    """From here on the tables are without the rows that were noted, and without those noted later."""
    for name in manifest.tables:
        connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * EXCLUDE ({ROW}) FROM {_left(name)}")


def _left(name: str) -> str:
    listed = f'SELECT "row" FROM {LISTED} WHERE "table" = {literal(name)}'
    return f"{NUMBERED}.{quoted(name)} WHERE {ROW} NOT IN ({listed})"


def _listed(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    counted = connection.execute(f'SELECT "table", count(DISTINCT "row") FROM {LISTED} GROUP BY ALL ORDER BY ALL')
    return dict(counted.fetchall())


def _share_checks(rows: Mapping[str, int], manifest: Manifest, max_share: float) -> list[Check]:
    checks = []
    for name, count in rows.items():
        total = manifest.tables[name].rows
        checks.append(
            Check(
                table=name,
                column=None,
                layer="statistics",
                rule=f"at most {percent(max_share)} of its rows are put in quarantine, and not all",
                severity="critical",
                passed=count <= max_share * total and count < total,
                rows=count,
                share=count / total,
                remedy="Mend the source, or raise validation.max_bad_share.",
            )
        )
    return checks


def _write(
    connection: duckdb.DuckDBPyConnection,
    dataset: Path,
    validated: Path,
    manifest: Manifest,
    tables: Mapping[str, Table],
    rows: Mapping[str, int],
) -> Manifest:
    hand_on(dataset, validated)
    if not rows:
        return manifest
    (validated / FOLDER).mkdir()
    for name in rows:
        file = parquet_file(validated, name)
        # What was handed on is the dataset's own file under another name; it must not be written into.
        file.unlink()
        _copy(connection, f"SELECT * EXCLUDE ({ROW}) FROM {_left(name)} ORDER BY {ROW}", file)
        reasons = (
            f'SELECT "row", list(DISTINCT reason ORDER BY reason) AS {REASONS} FROM {LISTED} '
            f'WHERE "table" = {literal(name)} GROUP BY ALL'
        )
        _copy(
            connection,
            f'SELECT t.* EXCLUDE ({ROW}), {REASONS} FROM {NUMBERED}.{quoted(name)} t JOIN ({reasons}) ON {ROW} = "row" '
            f"ORDER BY {ROW}",
            parquet_file(validated / FOLDER, name),
        )
    newest = [
        connection.execute(f"SELECT {newest_event(tables[name].event_time)} FROM {quoted(name)}").fetchall()[0][0]
        for name in manifest.tables
    ]
    left = Manifest(
        as_of=max(moment for moment in newest if moment is not None).replace(tzinfo=UTC),
        tables={
            name: summary.model_copy(update={"rows": summary.rows - rows.get(name, 0)})
            for name, summary in manifest.tables.items()
        },
    )
    left.write(validated)
    return left


def _copy(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    connection.execute(f"COPY ({query}) TO {literal(str(file.resolve()))} (FORMAT parquet, COMPRESSION zstd)")
