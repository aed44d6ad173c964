"""Turn what happened into the rows that the business's systems wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.simulation.diary import Diary
from kfp_lifecycle.simulation.market import Market
from kfp_lifecycle.simulation.population import Population
from kfp_lifecycle.simulation.words import (
    DEVICES,
    MISSING,
    PAYMENT_STATUSES,
    PLANS,
    PURCHASE_CATEGORIES,
    REASONS,
    TICKET_CATEGORIES,
    choose,
    codes,
    forget,
    positions,
)

Rows = dict[str, NDArray[Any]]
"""Columns by name: shape (rows,) each; `words.Codes` for text, NaN and NaT for missing."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
GIVEN_UP_DAYS = 14

# Share of logins by hour of day, from midnight: evenings.
_HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 8, 10, 12, 13, 11, 8, 4], float)

NUMBER = "number"
"""Column that numbers the rows of a table, also those that have not arrived: a row's number is the same on each day."""
NUMBERS_A_CUSTOMER = 100_000
"""Numbers of a table that a customer has on average, so that no two chunks of customers share one."""


def write_tables(
    market: Market, population: Population, diary: Diary, rng: np.random.Generator, last: int
) -> dict[str, Rows]:
    """The rows of every table, as they stood at the end of a day.

    Keys that only number rows (`login_id` and the like) are left to whoever stores the rows, by `NUMBER`.

    Args:
        market: The days.
        population: The customers.
        diary: What `behaviour.live` noted of them.
        rng: Source of randomness for what no behaviour depends on: times of day, delays, devices, gaps.
        last: The day at whose end the tables are read, 0 to `market.days` - 1.
    """
    # Sign-ups are by day and evening; the first bill and the first login follow within the hour, on the same day.
    signup = population.signup_day * DAY + np.floor(rng.uniform(7 * HOUR, 22.5 * HOUR, len(population)))
    tables = {
        "customers": customers(population, signup, rng),
        "subscriptions": subscriptions(population, diary, signup, rng),
        "logins": logins(population, diary, signup, rng),
        "purchases": purchases(population, diary, rng),
        "support_tickets": support_tickets(population, diary, rng),
        "cancellations": cancellations(population, diary, rng),
    }
    first = NUMBERS_A_CUSTOMER * (int(population.customer_id[0]) - 1) + 1
    for rows in tables.values():
        rows[NUMBER] = first + np.arange(len(rows["recorded_at"]))
        arrived = rows["recorded_at"] < (last + 1) * DAY
        for name, values in rows.items():
            kept = values[arrived]
            rows[name] = _moments(market, kept) if name.endswith("_at") else kept
    happened = diary.read("truth")
    tables["truth"] = {
        NUMBER: first + np.arange(len(happened)),
        "customer_id": population.customer_id[happened.customer],
        "day": (market.first_day + happened.day).astype("datetime64[s]"),
        # Rounded, so that the last bit of a processor's exponential function cannot change the file.
        "probability": np.round(happened.details["probability"], 6),
    }
    return tables


def customers(population: Population, signup: NDArray[np.floating], rng: np.random.Generator) -> Rows:
    """One row for each sign-up."""
    return {
        "customer_id": population.customer_id,
        "signed_up_at": signup,
        "age_band": forget(rng, population.age_band, 0.08),
        "gender": forget(rng, population.gender, 0.06),
        "region": population.region,
        "channel": forget(rng, population.channel, 0.04),
        "recorded_at": signup + _delay(rng, len(signup)),
    }


def subscriptions(population: Population, diary: Diary, signup: NDArray[np.floating], rng: np.random.Generator) -> Rows:
    """One row for each bill: the first within 20 minutes of the sign-up, the others at night."""
    bills = diary.read("bills")
    first = bills.day == population.signup_day[bills.customer]
    night = bills.day * DAY + np.floor(rng.uniform(2 * HOUR, 5 * HOUR, len(bills)))
    at_signup = signup[bills.customer] + np.floor(rng.uniform(MINUTE, 20 * MINUTE, len(bills)))
    billed = np.where(first, at_signup, night)
    return {
        "customer_id": population.customer_id[bills.customer],
        "billed_at": billed,
        "account_age_days": bills.day - population.signup_day[bills.customer],
        "plan": codes(PLANS)[bills.details["plan"].astype(np.intp)],
        "monthly_charge": np.round(bills.details["charge"], 2),
        "discount": bills.details["discount"],
        "payment_method": population.payment_method[bills.customer],
        "payment_status": codes(PAYMENT_STATUSES)[bills.details["failed"].astype(np.intp)],
        "recorded_at": billed + _delay(rng, len(bills), late=0.02, days=5.0),
    }


def logins(population: Population, diary: Diary, signup: NDArray[np.floating], rng: np.random.Generator) -> Rows:
    """One row for each session: one at sign-up, the others by the clock. Keen customers stay longer."""
    seen = diary.read("logins")
    sessions = np.repeat(np.arange(len(seen)), seen.details["count"].astype(np.intp))
    hour = positions(rng, tuple(_HOURS / _HOURS.sum()), len(sessions))
    later = seen.day[sessions] * DAY + np.floor((hour + rng.random(len(sessions))) * HOUR)
    customer = np.concatenate([np.arange(len(population)), seen.customer[sessions]])
    at = np.concatenate([signup + np.floor(rng.uniform(MINUTE, 30 * MINUTE, len(signup))), later])
    interest = np.concatenate([population.interest, seen.details["interest"][sessions]])
    minutes = np.exp(np.log(28.0) + 0.35 * (interest + 0.9) + rng.normal(0, 0.7, len(at)))
    minutes = np.clip(np.round(minutes, 1), 0.5, 600.0)
    shown = np.where(rng.random(len(at)) < 0.05, np.nan, minutes)
    return {
        "customer_id": population.customer_id[customer],
        "logged_in_at": at,
        "device": forget(rng, choose(rng, DEVICES, (0.48, 0.3, 0.22), len(at)), 0.02),
        "session_minutes": shown,
        "recorded_at": at + np.floor(minutes * MINUTE) + _delay(rng, len(at), late=0.03, days=3.0),
    }


def purchases(population: Population, diary: Diary, rng: np.random.Generator) -> Rows:
    """One row for each purchase."""
    bought = diary.read("purchases")
    size = len(bought)
    at = bought.day * DAY + np.floor(rng.uniform(9 * HOUR, 23.5 * HOUR, size))
    category = positions(rng, (0.46, 0.26, 0.12, 0.16), size)
    quantity = np.minimum(rng.geometric(0.68, size), 9).astype(np.int32)
    price = np.array([4.5, 9.0, 16.0, 21.0])[category] * rng.lognormal(0, 0.35, size)
    return {
        "customer_id": population.customer_id[bought.customer],
        "purchased_at": at,
        "category": codes(PURCHASE_CATEGORIES)[category],
        "quantity": quantity,
        "amount": np.maximum(np.round(price * quantity, 2), 0.5),
        "recorded_at": at + _delay(rng, size, late=0.05, days=2.0),
    }


def support_tickets(population: Population, diary: Diary, rng: np.random.Generator) -> Rows:
    """One row for each ticket, recorded when it is closed: the worse the matter, the later and the less pleased."""
    opened = diary.read("tickets")
    size, severity = len(opened), opened.details["severity"]
    at = opened.day * DAY + np.floor(rng.uniform(7 * HOUR, 23 * HOUR, size))
    taken = np.floor(np.exp(np.log(5.0) + 2.6 * severity + rng.normal(0, 0.9, size)) * HOUR)
    given_up = taken > GIVEN_UP_DAYS * DAY
    answer = np.clip(np.round(5.2 - 3.8 * severity + rng.normal(0, 0.7, size)), 1, 5)
    silent = (rng.random(size) < 0.45) | given_up
    return {
        "customer_id": population.customer_id[opened.customer],
        "opened_at": at,
        "category": choose(rng, TICKET_CATEGORIES, (0.27, 0.38, 0.16, 0.19), size),
        "resolved_at": np.where(given_up, np.nan, at + taken),
        "satisfaction": np.where(silent, np.nan, answer),
        "recorded_at": at + np.minimum(taken, GIVEN_UP_DAYS * DAY) + _delay(rng, size),
    }


def cancellations(population: Population, diary: Diary, rng: np.random.Generator) -> Rows:
    """One row for each customer who left; the reason is what weighed most, or so the customer says."""
    left = diary.read("cancellations")
    at = left.day * DAY + np.floor(rng.uniform(0, DAY, len(left)))
    weights = np.stack([left.details[reason] for reason in REASONS[:-1]] + [np.full(len(left), 0.3)])
    told = codes(REASONS)[np.argmax(weights + rng.gumbel(0, 0.4, weights.shape), axis=0)]
    return {
        "customer_id": population.customer_id[left.customer],
        "cancelled_at": at,
        "reason": np.where(rng.random(len(left)) < 0.35, MISSING, told),
        "recorded_at": at + _delay(rng, len(left), late=0.1, days=3.0),
    }


def _delay(rng: np.random.Generator, size: int, *, late: float = 0.0, days: float = 1.0) -> NDArray[np.floating]:
    """Seconds until a row arrives, whole: up to 10 minutes, and for a share `late` of the rows up to `days` days."""
    usual = rng.uniform(1, 10 * MINUTE, size)
    return np.floor(np.where(rng.random(size) < late, rng.uniform(HOUR, days * DAY, size), usual))


def _moments(market: Market, seconds: NDArray[Any]) -> NDArray[np.datetime64]:
    """Seconds since the market's first midnight as times; NaN as NaT."""
    known = ~np.isnan(seconds)
    whole = np.where(known, seconds, 0).astype("timedelta64[s]")
    moments: NDArray[np.datetime64] = market.first_day.astype("datetime64[s]") + whole
    moments[~known] = np.datetime64("NaT")
    return moments
