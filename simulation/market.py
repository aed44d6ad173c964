"""What all customers share: the seasons, the list prices and the campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

HORIZON_DAYS = 30
"""How long a customer takes to act on an experience, and the horizon of `truth`. See `behaviour.live`."""
RECENT_DAYS = 60
"""The newest part of the data, where what is injected happens."""
INJECTED_PRICE_RISE = 0.25
YEARLY_PRICE_RISE = 0.04
CAMPAIGN_DISCOUNT = 0.2


@dataclass(frozen=True)
class Market:
    """One entry for each day; day 0 is `first_day`. `leaving` reaches `HORIZON_DAYS` further, so that the near future
    can be foreseen."""

    first_day: np.datetime64
    """Shape (), unit day."""
    days: int
    signups: NDArray[np.float64]
    """Share of all customers who sign up on each day; sums to 1."""
    activity: NDArray[np.float64]
    """Factor on logins, about 1."""
    buying: NDArray[np.float64]
    """Factor on purchases, about 1."""
    leaving: NDArray[np.float64]
    """Added to the logarithm of the rate of leaving, about 0."""
    price_index: NDArray[np.float64]
    """List price relative to day 0."""
    rises: tuple[tuple[int, float], ...]
    """(day, logarithm of the new price by the old) of each price rise."""
    discounts: NDArray[np.float64]
    """Discount, 0 to 1, that the day's campaign offers to new customers."""


@dataclass(frozen=True)
class PriceRise:
    """A rise of list prices that nobody planned for."""

    day: date
    share: float
    """Of the old price, above 0."""


def open_market(end: date, days: int, *, price_rise: PriceRise | None = None) -> Market:
    """The market of the `days` days that end with `end`.

    Args:
        end: The last day.
        days: Number of days.
        price_rise: Beside the yearly ones, if there is one.
    """
    first = end - timedelta(days=days - 1)
    calendar = np.datetime64(first, "D") + np.arange(days + HORIZON_DAYS)
    day_of_year = (calendar - calendar.astype("datetime64[Y]")).astype(np.int64)
    month = calendar.astype("datetime64[M]").astype(np.int64) % 12 + 1
    weekend = (calendar.astype(np.int64) + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    winter = np.cos(2 * np.pi * (day_of_year - 15) / 365.25)

    rises = {_day(first, date(year, 2, 1)): YEARLY_PRICE_RISE for year in range(first.year, end.year + 1)}
    if price_rise is not None:
        rises[_day(first, price_rise.day)] = price_rise.share
    rises = {day: share for day, share in sorted(rises.items()) if 0 < day < days}
    price_index = np.ones(days)
    for day, share in rises.items():
        price_index[day:] *= 1 + share

    in_campaign = ((month == 3) & (day_of_year < 74)) | ((month == 10) & (day_of_year < 294))
    launch = 1 + 6 * np.exp(-np.arange(days) / 45)
    signups = launch * (1 + 0.2 * winter + 0.15 * weekend + 1.0 * in_campaign)[:days]
    return Market(
        first_day=np.datetime64(first, "D"),
        days=days,
        signups=signups / signups.sum(),
        activity=((1 + 0.12 * winter) * np.where(weekend, 1.25, 0.9))[:days],
        buying=((1 + 0.6 * (month == 12) + 0.1 * winter) * np.where(weekend, 1.3, 0.88))[:days],
        # The new year's resolutions, and summer.
        leaving=0.3 * (month == 1) + 0.2 * np.isin(month, (7, 8)),
        price_index=price_index,
        rises=tuple((day, float(np.log1p(share))) for day, share in rises.items()),
        discounts=np.where(in_campaign[:days], CAMPAIGN_DISCOUNT, 0.0),
    )


def _day(first: date, when: date) -> int:
    return (when - first).days
