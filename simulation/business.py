"""A subscription business, simulated: the event tables of its customers in one DuckDB file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from kfp_lifecycle.simulation.behaviour import live
from kfp_lifecycle.simulation.database import create_database
from kfp_lifecycle.simulation.faults import RENAMED_COLUMN, corrupt
from kfp_lifecycle.simulation.market import (
    HORIZON_DAYS,
    INJECTED_PRICE_RISE,
    RECENT_DAYS,
    Market,
    PriceRise,
    open_market,
)
from kfp_lifecycle.simulation.population import draw_population
from kfp_lifecycle.simulation.tables import Rows, write_tables

INJECTIONS: dict[str, str] = {
    "price_rise": "List prices rise by 25% for the last 60 days, or from the day that `price_rise@2026-03-01` names, "
    "or by the share that `price_rise@2026-03-01=0.4` gives: customers leave, downgrade and buy less. Good data.",
    "marketing_campaign": "A quarter more customers, who all sign up in the last 60 days: young, won by social media, "
    "at 40% off, and less keen. Good data.",
    "column_renamed": "A migration renames subscriptions.monthly_charge to monthly_fee.",
    "refund_bug": "Refunds are booked as purchases: the amount of 20% of the last 60 days' purchases is negative.",
    "columns_swapped": "A loader swaps plan and payment_method in 15% of the rows of subscriptions.",
    "outage": "No login is recorded for 7 days, which end 5 days before the data does.",
}
"""What can be injected, and what it does."""

CHUNK = 5_000
"""Customers simulated at once. Each chunk has its own random streams: memory is bounded, and the history of a chunk's
customers does not depend on how many chunks follow."""
CAMPAIGN_SHARE = 0.25
SHORTEST = 2 * RECENT_DAYS


@dataclass(frozen=True)
class SimulationSummary:
    """What was written."""

    output: Path
    first_day: date
    last_day: date
    customers: int
    """Everyone who ever signed up."""
    cancelled: int
    """How many of them left, as far as the database knows."""
    rows: dict[str, int]
    """Rows by table."""


@dataclass(frozen=True)
class _Chunk:
    first_id: int
    size: int
    campaign: bool


def simulate(
    output: Path,
    *,
    customers: int = 10_000,
    days: int = 1095,
    seed: int = 7,
    end: date = date(2026, 6, 30),
    until: date | None = None,
    inject: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> SimulationSummary:
    """Simulate the business and write its tables (`README.md`) to a DuckDB file, replacing what is there.

    The same arguments give the same bytes. The file appears when it is complete; an interruption leaves what was there.

    Args:
        output: The file. Missing folders are made.
        customers: How many sign up within the days; `marketing_campaign` brings a quarter more.
        days: Length of the history; the business opens on its first day.
        seed: Of all randomness, 0 or more.
        end: The last day.
        until: The day at whose end the database is read, by default the last. A later one gives the same rows and those
            that have come since, so that a business can be watched as it goes on.
        inject: Names from `INJECTIONS`; those that change rows change the newest ones.
        progress: Called with (customers done, customers in all) after each chunk.

    Raises:
        ValueError: an argument is out of range, an injection is unknown, or the output is a folder.
        OSError: the file cannot be written.
    """
    read = end if until is None else until
    rise, inject = _price_rise(inject, end)
    _check(output, customers=customers, days=days, seed=seed, end=end, until=read, inject=inject)
    market = open_market(end, days, price_rise=rise)
    last = days - 1 - (end - read).days
    truth_days = frozenset(range(last, -1, -HORIZON_DAYS))
    chunks = list(_chunks(customers, campaign="marketing_campaign" in inject))
    total = sum(chunk.size for chunk in chunks)
    with create_database(output) as database:
        for chunk in chunks:
            for table, rows in _simulate_chunk(market, chunk, seed, truth_days, inject, last).items():
                database.append(table, rows)
            if progress is not None:
                progress(chunk.first_id + chunk.size - 1, total)
        if "column_renamed" in inject:
            database.rename_column(*RENAMED_COLUMN)
    return SimulationSummary(
        output=output,
        first_day=end - timedelta(days=days - 1),
        last_day=read,
        customers=database.rows["customers"],
        cancelled=database.rows["cancellations"],
        rows=database.rows,
    )


def _simulate_chunk(
    market: Market, chunk: _Chunk, seed: int, truth_days: frozenset[int], inject: Sequence[str], last: int
) -> dict[str, Rows]:
    # Separate streams: what is recorded, and what goes wrong with it, must not change what happens.
    streams = np.random.SeedSequence(seed, spawn_key=(int(chunk.campaign), chunk.first_id)).spawn(4)
    births, lives, records, faults = (np.random.default_rng(stream) for stream in streams)
    population = draw_population(market, chunk.first_id, chunk.size, births, campaign=chunk.campaign)
    diary = live(market, population, lives, truth_days)
    tables = write_tables(market, population, diary, records, last)
    corrupt(tables, inject, market, faults, last)
    return tables


def _chunks(customers: int, *, campaign: bool) -> Iterator[_Chunk]:
    won = round(customers * CAMPAIGN_SHARE) if campaign else 0
    for first, last, by_campaign in ((1, customers, False), (customers + 1, customers + won, True)):
        for start in range(first, last + 1, CHUNK):
            yield _Chunk(start, min(CHUNK, last + 1 - start), by_campaign)


def _price_rise(inject: Sequence[str], end: date) -> tuple[PriceRise | None, list[str]]:
    """The price rise, if there is one, and the names without their days."""
    rise, names = None, []
    for item in inject:
        name, at, given = item.partition("@")
        if at and name != "price_rise":
            raise ValueError(f"{item}: only price_rise can have a day")
        if name == "price_rise":
            day, equals, share = given.partition("=")
            try:
                rise = PriceRise(
                    date.fromisoformat(day) if at else end - timedelta(days=RECENT_DAYS - 1),
                    float(share) if equals else INJECTED_PRICE_RISE,
                )
            except ValueError:
                raise ValueError(
                    f"{item}: its day must be like price_rise@2026-03-01, or like price_rise@2026-03-01=0.4 with the "
                    "share by which prices rise"
                ) from None
            if not 0 < rise.share <= 1:
                raise ValueError(f"{item}: prices rise by a share above 0, up to 1, not by {share}")
        names.append(name)
    return rise, names


def _check(
    output: Path, *, customers: int, days: int, seed: int, end: date, until: date, inject: Sequence[str]
) -> None:
    if output.is_dir():
        raise ValueError(f"{output} is a folder; name a file, such as {output / 'churn.duckdb'}")
    if customers < 1:
        raise ValueError(f"customers must be at least 1, not {customers}")
    if days < SHORTEST:
        raise ValueError(
            f"days must be at least {SHORTEST}, not {days}: customers are bound for their first 30 days, and "
            f"injections change the last {RECENT_DAYS}"
        )
    if days >= end.toordinal():
        raise ValueError(f"{days} days before {end} is before the year 1; choose fewer days")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    earliest = end - timedelta(days=days - SHORTEST)
    if not earliest <= until <= end:
        raise ValueError(
            f"until must be from {earliest} to {end}, not {until}: the database is read on a day of its own"
        )
    unknown = [name for name in inject if name not in INJECTIONS]
    if unknown:
        raise ValueError(f"unknown injection {', '.join(unknown)}; there are: {', '.join(INJECTIONS)}")
