"""Who the customers are: what a table shows of them, and what no table shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.simulation.market import RECENT_DAYS, Market
from kfp_lifecycle.simulation.words import (
    AGE_BANDS,
    CHANNELS,
    GENDERS,
    PAYMENT_METHODS,
    REGIONS,
    Codes,
    choose,
    codes,
    positions,
)

Floats = NDArray[np.float64]

INJECTED_CAMPAIGN_DISCOUNT = 0.4
DISCOUNTED_BILLS = 3
"""How many bills of a customer won by a campaign are cheaper."""


@dataclass(frozen=True)
class Population:
    """Some customers, one entry each: shape (customers,) everywhere."""

    customer_id: NDArray[np.int64]
    signup_day: NDArray[np.int64]
    age_band: Codes
    gender: Codes
    region: Codes
    channel: Codes
    payment_method: Codes
    plan: NDArray[np.intp]
    """First plan: position in `words.PLANS`."""
    discount: Floats
    """Of the first `DISCOUNTED_BILLS` bills, 0 to 1."""
    interest: Floats
    """Logarithm of logins a day that the customer tends to. Seen only through what the customer does."""
    taste: Floats
    """Factor on purchases, about 1."""
    proneness: Floats
    """Support tickets a day."""
    payment_risk: Floats
    """Probability that a payment fails without earlier trouble."""
    price_sensitivity: Floats
    """Factor on what a higher price does, about 1. No table shows it."""
    restlessness: Floats
    """Added to the logarithm of the rate of leaving, about 0. No table shows it, nor anything that depends on it."""
    patience: Floats
    """Sum of the rates of leaving at which the customer leaves: exponential with mean 1, so that leaving is a Poisson
    event of exactly that rate. Nothing else depends on it."""

    def __len__(self) -> int:
        return len(self.customer_id)


def draw_population(
    market: Market, first_id: int, size: int, rng: np.random.Generator, *, campaign: bool = False
) -> Population:
    """Draw `size` customers.

    Args:
        market: Decides when customers sign up and which campaign they meet.
        first_id: Id of the first; the others count on.
        size: How many.
        rng: Source of randomness.
        campaign: Whether the injected campaign won them: newest days, young, by social media, cheaper and cooler.
    """
    signup_day = np.searchsorted(np.cumsum(market.signups)[:-1], rng.random(size), side="right")
    offered = np.where(rng.random(size) < 0.6, market.discounts[signup_day], 0.0)
    ages = (0.16, 0.24, 0.21, 0.17, 0.12, 0.10)
    channels = (0.34, 0.22, 0.18, 0.14, 0.12)
    if campaign:
        # The last day is left out: a customer is seen for a day before the data ends.
        signup_day = market.days - 1 - rng.integers(1, RECENT_DAYS, size)
        offered = np.full(size, INJECTED_CAMPAIGN_DISCOUNT)
        ages = (0.46, 0.30, 0.11, 0.07, 0.04, 0.02)
        channels = (0.08, 0.78, 0.04, 0.06, 0.04)
    age = positions(rng, ages, size)
    region = choose(rng, REGIONS, (0.26, 0.22, 0.19, 0.18, 0.15), size)
    method = positions(rng, (0.62, 0.25, 0.13), size)
    # The older the steadier; the young come and go with what their friends watch.
    interest = rng.normal(-0.95, 0.65, size) + 0.06 * age - 0.35 * campaign
    in_east = region == codes(("east",))[0]  # where the network is poor
    return Population(
        customer_id=np.arange(first_id, first_id + size, dtype=np.int64),
        signup_day=signup_day.astype(np.int64),
        age_band=codes(AGE_BANDS)[age],
        gender=choose(rng, GENDERS, (0.49, 0.48, 0.03), size),
        region=region,
        channel=choose(rng, CHANNELS, channels, size),
        payment_method=codes(PAYMENT_METHODS)[method],
        plan=np.minimum(positions(rng, (0.4, 0.4, 0.2), size) + ((interest > -0.2) & (rng.random(size) < 0.3)), 2),
        discount=offered,
        interest=interest,
        taste=rng.lognormal(0, 0.7, size),
        proneness=rng.lognormal(np.log(0.0035), 0.6, size) * np.where(in_east, 1.5, 1.0),
        payment_risk=np.array([0.02, 0.035, 0.012])[method] * rng.lognormal(0, 0.8, size),
        price_sensitivity=rng.lognormal(0, 0.5, size),
        restlessness=rng.normal(0, 0.45, size),
        patience=rng.exponential(1, size),
    )
