"""`lifecycle simulate`: the event tables of a business that does not exist."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import err, out, refuse


def simulate(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="The DuckDB file to write, or a .csv.")
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="Customers who ever sign up.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, help="Days of business.")] = 1095,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day of business.")] = datetime(
        2026, 6, 30
    ),
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Read the database at the end of this day; by default, the last."),
    ] = None,
    inject: Annotated[
        list[str] | None, typer.Option("--inject", metavar="NAME", help="Something that happens; may be repeated.")
    ] = None,
    list_injections: Annotated[bool, typer.Option("--list", help="List what can be injected.")] = False,
) -> None:
    """Write the event tables of a simulated subscription business.

    A file that ends in .csv becomes one flat table, as somebody would export it: a row for each customer of a day, and
    whether they left within the next 30 days.

    Example: `lifecycle simulate --output bad.duckdb --customers 2000 --inject refund_bug`

    Example: `lifecycle simulate --output customers.csv --customers 20000 --days 730`
    """
    from kfp_lifecycle.simulation.business import INJECTIONS
    from kfp_lifecycle.simulation.business import simulate as write_business

    if list_injections:
        for name, effect in INJECTIONS.items():
            sys.stdout.write(f"{name}  {effect}\n")
        return
    if output is None:
        refuse("name the file to write: --output FILE")
    if output.suffix == ".csv" and (inject or until):
        refuse("--inject and --until are of event tables: write a .duckdb file")
    try:
        with err.status("simulating …") as progress:
            if output.suffix == ".csv":
                from kfp_lifecycle.simulation.one_table import write_one_table

                rows = write_one_table(output, customers=customers, days=days, seed=seed, end=end.date())
                out.say(f"{output}: {rows:,} customers, a row for each")
                return
            summary = write_business(
                output,
                customers=customers,
                days=days,
                seed=seed,
                end=end.date(),
                until=until.date() if until else None,
                inject=inject or [],
                progress=lambda done, whole: progress.update(f"simulating customers: {done:,} of {whole:,}"),
            )
    except ValueError as error:
        refuse(str(error))
    tables = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in summary.rows.items())
    out.say(f"{output}: {summary.first_day} to {summary.last_day}, {tables}")
