"""What can go wrong on the way into the database: each changes rows of the newest part, and nothing else."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from kfp_lifecycle.simulation.market import RECENT_DAYS, Market
from kfp_lifecycle.simulation.tables import Rows

RENAMED_COLUMN = ("subscriptions", "monthly_charge", "monthly_fee")
SWAPPED_COLUMNS = ("subscriptions", "plan", "payment_method")
SWAPPED_SHARE = 0.15
REFUNDED_SHARE = 0.2
OUTAGE_DAYS = 7
OUTAGE_ENDS_BEFORE = 5
"""Days between the end of the outage and the end of the data."""


def corrupt(
    tables: dict[str, Rows], faults: Collection[str], market: Market, rng: np.random.Generator, last: int
) -> None:
    """Apply the faults of rows to the tables, in place. A renamed column is the database's, not a row's.

    Args:
        tables: Rows by table.
        faults: Names, of `business.INJECTIONS`; those that are no faults of rows are left alone.
        market: Says when its days begin.
        rng: Decides which rows are hit, independently of which faults there are.
        last: The day at whose end the tables were read.
    """
    refunds, swaps = rng.spawn(2)
    if "refund_bug" in faults:
        rows = tables["purchases"]
        recent = rows["purchased_at"] >= market.first_day + (last + 1 - RECENT_DAYS)
        hit = recent & (refunds.random(len(recent)) < REFUNDED_SHARE)
        rows["amount"] = np.where(hit, -rows["amount"], rows["amount"])
    if "columns_swapped" in faults:
        table, one, other = SWAPPED_COLUMNS
        rows = tables[table]
        hit = swaps.random(len(rows[one])) < SWAPPED_SHARE
        rows[one], rows[other] = np.where(hit, rows[other], rows[one]), np.where(hit, rows[one], rows[other])
    if "outage" in faults:
        rows = tables["logins"]
        ends = market.first_day + (last + 1 - OUTAGE_ENDS_BEFORE)
        lost = (rows["logged_in_at"] >= ends - OUTAGE_DAYS) & (rows["logged_in_at"] < ends)
        for name, values in rows.items():
            rows[name] = values[~lost]
