"""`lifecycle add`: a feature, a rule, a table of the source or a schedule, written into a project's files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import Project, naming, out, project_folder, refuse
from kfp_lifecycle.cli.init import read_source

if TYPE_CHECKING:
    from kfp_lifecycle.config.configuration import Configuration

add = typer.Typer(help="Scaffold a part of a project that is there already.", no_args_is_help=True)

Table = Annotated[str | None, typer.Option("--table", help="The table it is about; not needed where there is one.")]


@add.command()
def feature(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The feature's name.")],
    sql: Annotated[str, typer.Option("--sql", help="An aggregate of the entity's rows, in DuckDB's SQL.")] = "count(*)",
    kind: Annotated[str, typer.Option("--type", help="Int64, Float64 or String.")] = "Float64",
    table: Table = None,
    project: Project = None,
) -> None:
    """Add a feature: its SQL, its definition, its place in the feature service.

    Example: `lifecycle add feature largest_order --sql "max(amount)" --table orders`

    Exit codes: 0 written, 2 it cannot be added, and the message says why.
    """
    from kfp_lifecycle.projects.additions import TYPES, add_feature

    if not name.isidentifier():
        refuse(
            f"{name!r:.60} cannot be a feature's name: it is of letters, digits and underscores, with a letter first"
        )
    if kind not in TYPES:
        refuse(f"--type {kind!r:.40}: a feature is one of {', '.join(TYPES)}")
    folder, configuration = _project(project)
    written = add_feature(folder, configuration, _table(configuration, table), name, sql, kind)
    _say(folder, *written)


@add.command()
def rule(
    text: Annotated[str, typer.Argument(metavar="RULE", help="The rule in words.")],
    sql: Annotated[str, typer.Option("--sql", help="SQL that gives the rows which break it.")] = "",
    remedy: Annotated[str, typer.Option("--remedy", help="What to do about such rows.")] = "",
    table: Table = None,
    project: Project = None,
) -> None:
    """Add a rule of the business, a warning at first.

    Example: `lifecycle add rule "no order is free" --table orders --sql "SELECT * FROM orders WHERE amount = 0"`

    Exit codes: 0 written, 2 it cannot be added, and the message says why.
    """
    from kfp_lifecycle.projects.additions import add_rule

    folder, configuration = _project(project)
    _say(folder, add_rule(folder, configuration, _table(configuration, table), text, sql, remedy))


@add.command()
def source(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name in the source.")],
    key: Annotated[str, typer.Option("--key", help="Columns that tell its rows apart, with commas.")],
    event_time: Annotated[
        str, typer.Option("--event-time", help="When a row happened; by default its rows have no time.")
    ] = "",
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="FILE|URL[#TABLE]", help="Where it is; by default where `source.url` leads."),
    ] = None,
    project: Project = None,
) -> None:
    """Add a table of the source; `lifecycle schema infer` proposes its schema after the next run.

    How a file is read (separator, decimal sign, encoding, marks of missing values) is found as `lifecycle init` does.

    Example: `lifecycle add source payments --key payment_id --event-time paid_at`

    Example: `lifecycle add source refunds --key refund_id --event-time refunded_at --url refunds.csv`

    Exit codes: 0 written, 2 it cannot be added, and the message says why.
    """
    from kfp_lifecycle.projects.additions import add_source
    from kfp_lifecycle.projects.place import place_of

    folder, configuration = _project(project)
    place, settings = None, {}
    if url:
        place = replace(place_of(url, Path.cwd()), table=table)
        with tempfile.TemporaryDirectory(prefix="add-") as work:
            settings = read_source(place, url, Path(work))["settings"]
    columns = [column.strip() for column in key.split(",")]
    _say(folder, add_source(folder, configuration, table, columns, event_time, place, settings))
    if configuration.features.tables:
        out.say(f"To learn from its columns, name {table} in features.tables, too; it has one row for an entity then")


@add.command()
def schedule(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline that is to recur.")],
    cron: Annotated[str, typer.Argument(metavar="CRON", help="Minute, hour, day of month, month, day of week, UTC.")],
    project: Project = None,
) -> None:
    """Let a pipeline recur; `lifecycle schedule apply` brings it to a cluster or to this machine's timers.

    Example: `lifecycle add schedule training "0 5 * * 1"`

    Exit codes: 0 written, 2 it cannot be added, and the message says why.
    """
    from kfp_lifecycle.projects.additions import add_schedule

    folder, _ = _project(project)
    _say(folder, add_schedule(folder, pipeline, cron))


def _project(chosen: Path | None) -> tuple[Path, Configuration]:
    from kfp_lifecycle.config.loading import load_configuration

    folder = project_folder(chosen)
    return folder, load_configuration(folder)


def _table(configuration: Configuration, chosen: str | None) -> str:
    tables = list(configuration.source.tables)
    if chosen is None and len(tables) > 1:
        refuse(f"name the table with --table: there are {', '.join(tables)}")
    return chosen or tables[0]


def _say(project: Path, *files: Path) -> None:
    told = naming("review it, then `lifecycle check`", project)
    out.say(f"wrote {', '.join(map(str, files))}: {told}")
