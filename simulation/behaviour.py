"""What customers do, day by day, and when they leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.simulation.diary import Diary
from kfp_lifecycle.simulation.market import HORIZON_DAYS, Market
from kfp_lifecycle.simulation.population import DISCOUNTED_BILLS, Floats, Population

BILLING_DAYS = 30
PRICE_MEMORY_DAYS = 60.0
BASE_RATE = np.log(0.0006)
"""Logarithm of the daily rate of leaving of a settled, typical customer."""
TYPICAL_INTEREST = -0.9
LARGEST_RATE = 0.1
# What weighs how much in the logarithm of the rate of leaving.
BOREDOM_WEIGHT, GRIEVANCE_WEIGHT, TROUBLE_WEIGHT, PRICE_WEIGHT = 1.05, 0.7, 1.3, 4.0
PLAN_EFFECT = np.array([0.15, 0.0, -0.2])
"""Of basic, standard and premium on the same."""
LIST_PRICES = np.array([9.99, 14.99, 19.99])
"""Dollars a month of basic, standard and premium on day 0."""

# A day of a customer's life.
LOGINS_AT_MOST = np.exp(1.5)
PURCHASES_A_DAY = 0.03
INTEREST_RETURNS, INTEREST_WAVERS = 0.03, 0.13
LOSES_INTEREST, GAINS_INTEREST = 1 / 280, 1 / 600
GRIEVANCE_LASTS, TROUBLE_LASTS = 0.97, 0.975

Ints = NDArray[np.int64]


def live(market: Market, population: Population, rng: np.random.Generator, truth_days: frozenset[int]) -> Diary:
    """Let customers live through the market's days.

    A customer leaves by a Poisson event whose rate on day d is
    `exp(BASE_RATE + season(d) + tenure(d) + price(d) + experience(d - 30))`, and zero in the first 30 days, which are
    paid. Season, tenure and announced prices are known ahead. `experience` sums what the customer went through (low
    interest, open grievances, payment trouble, plan, restlessness); people act on it 30 days later, as they would at
    the end of a month of notice.

    So at the end of day t the rates of the days t + 1 … t + 30 are already decided, and the probability of leaving in
    them is exactly `1 - exp(-(sum of these rates))`, given everything, seen or not, that has happened to this customer
    by then, including not having left. Nothing that any table shows by then adds to that, since behaviour depends on
    `patience`, the one number still unknown, only through having left. A model that sees only tables predicts at best
    the average of these probabilities over all customers who look alike, so none has a better expected AUC, log loss or
    Brier score than the probabilities themselves. There is no approximation in it but its rounding.

    Args:
        market: The days.
        population: The customers.
        rng: Source of randomness.
        truth_days: Days at whose end the probability is kept.

    Returns:
        `bills` (`plan`, `charge`, `discount`, `failed`), `logins` (`interest`, `count`), `purchases`, `tickets`
        (`severity`, 0 to 1), `cancellations` (what weighed: `price`, `service`, `not_used`, `payment`) and `truth`
        (`probability`). On the day of sign-up a customer has a first bill and nothing else; on the day of leaving, the
        cancellation and nothing else.
    """
    size = len(population)
    diary = Diary()
    interest, centre = population.interest.copy(), population.interest.copy()
    grievance, trouble, spent_patience = np.zeros(size), np.zeros(size), np.zeros(size)
    plan = population.plan.copy()
    alive = np.ones(size, bool)
    # The row of day d holds the experience of day d - 30 until day d overwrites it.
    experience = np.zeros((HORIZON_DAYS, size))

    for day in range(market.days):
        tenure = day - population.signup_day
        pressure = price_pressure(market, population, day)
        spent_patience += leaving_rate(market, tenure, pressure, experience[day % HORIZON_DAYS], day)
        leavers = np.flatnonzero(alive & (spent_patience > population.patience))
        alive[leavers] = False
        diary.note(
            "cancellations",
            day,
            leavers,
            price=pressure[leavers],
            service=grievance[leavers],
            not_used=TYPICAL_INTEREST - interest[leavers],
            payment=trouble[leavers],
        )

        here = alive & (tenure > 0)
        chance = rng.random((4, size))
        # Interest wavers about the customer's own level, which sometimes falls (a new job, another hobby) or rises.
        interest += here * (INTEREST_RETURNS * (centre - interest) + INTEREST_WAVERS * rng.standard_normal(size))
        lost = np.flatnonzero(here & (chance[0] < LOSES_INTEREST))
        won = np.flatnonzero(here & (chance[0] > 1 - GAINS_INTEREST))
        centre[lost] -= rng.exponential(0.9, len(lost))
        centre[won] += rng.exponential(0.5, len(won))

        count = rng.poisson(here * np.minimum(np.exp(interest), LOGINS_AT_MOST) * market.activity[day])
        active = np.flatnonzero(count)
        diary.note("logins", day, active, interest=interest[active], count=count[active])

        rate = PURCHASES_A_DAY * population.taste * np.exp(0.5 * (interest - TYPICAL_INTEREST) - 0.5 * pressure)
        buyers = np.flatnonzero(here & (chance[1] < rate * market.buying[day]))
        diary.note("purchases", day, buyers)

        upset = np.flatnonzero(here & (chance[2] < population.proneness * (1 + 2 * trouble)))
        severity = rng.random(len(upset))
        grievance[upset] += 0.3 + 1.7 * severity
        diary.note("tickets", day, upset, severity=severity)

        due = np.flatnonzero(alive & (tenure >= 0) & (tenure % BILLING_DAYS == 0))
        renewing = due[tenure[due] > 0]
        plan[renewing] = reconsider_plan(plan[renewing], interest[renewing], pressure[renewing], chance[3, renewing])
        failed = rng.random(len(due)) < np.minimum(population.payment_risk[due] * (1 + 8 * trouble[due]), 0.6)
        trouble[due] += failed
        discount = np.where(tenure[due] < BILLING_DAYS * DISCOUNTED_BILLS, population.discount[due], 0.0)
        charge = LIST_PRICES[plan[due]] * market.price_index[day] * (1 - discount)
        diary.note("bills", day, due, plan=plan[due], charge=charge, discount=discount, failed=failed)

        experience[day % HORIZON_DAYS] = (
            BOREDOM_WEIGHT * (TYPICAL_INTEREST - interest)
            + GRIEVANCE_WEIGHT * grievance
            + TROUBLE_WEIGHT * trouble
            + PLAN_EFFECT[plan]
            + population.restlessness
        )
        grievance *= GRIEVANCE_LASTS
        trouble *= TROUBLE_LASTS
        if day in truth_days:
            customers = np.flatnonzero(alive & (tenure >= 0))
            probability = foresee(market, population, experience, day)[customers]
            diary.note("truth", day, customers, probability=probability)
    return diary


def price_pressure(market: Market, population: Population, day: int) -> Floats:
    """How much a higher price weighs on customers on a day, 0 or more: shape (customers,).

    Each rise since sign-up, and the end of a discount, weighs its logarithm, fading over `PRICE_MEMORY_DAYS`.
    """
    weight = np.zeros(len(population))
    for risen, logarithm in market.rises:
        if 0 <= day - risen < 6 * PRICE_MEMORY_DAYS:
            weight += np.where(
                population.signup_day < risen, logarithm * np.exp((risen - day) / PRICE_MEMORY_DAYS), 0.0
            )
    since_discount = day - population.signup_day - BILLING_DAYS * DISCOUNTED_BILLS
    weight += np.where(
        since_discount >= 0,
        -np.log1p(-population.discount) * np.exp(-np.maximum(since_discount, 0) / PRICE_MEMORY_DAYS),
        0.0,
    )
    return PRICE_WEIGHT * population.price_sensitivity * weight


def leaving_rate(market: Market, tenure: Ints, pressure: Floats, experience: Floats, day: int) -> Floats:
    """Rate of leaving on a day, 0 to `LARGEST_RATE`: shape (customers,).

    Args:
        market: Gives the season.
        tenure: Days since sign-up on that day.
        pressure: `price_pressure` on that day.
        experience: Of the day `HORIZON_DAYS` earlier.
        day: The day; up to `HORIZON_DAYS` after the market's last.
    """
    settled = tenure >= HORIZON_DAYS
    newcomer = 0.6 * np.exp(-np.maximum(tenure, 0) / 120)
    rate = np.exp(BASE_RATE + market.leaving[day] + newcomer + pressure + experience)
    return np.where(settled, np.minimum(rate, LARGEST_RATE), 0.0)


def foresee(market: Market, population: Population, experience: Floats, day: int) -> Floats:
    """Probability of leaving within the `HORIZON_DAYS` days after `day`, given all until its end: shape (customers,).

    Args:
        market: The days.
        population: The customers.
        experience: Shape (HORIZON_DAYS, customers): row d % HORIZON_DAYS for each day d of the last HORIZON_DAYS.
        day: The day.
    """
    total = np.zeros(len(population))
    for ahead in range(day + 1, day + 1 + HORIZON_DAYS):
        pressure = price_pressure(market, population, ahead)
        tenure = ahead - population.signup_day
        total += leaving_rate(market, tenure, pressure, experience[ahead % HORIZON_DAYS], ahead)
    return -np.expm1(-total)


def reconsider_plan(plan: NDArray[np.intp], interest: Floats, pressure: Floats, chance: Floats) -> NDArray[np.intp]:
    """The plans that customers choose at a renewal: the bored and the squeezed go down, the keen go up."""
    down = 0.02 * np.exp(0.8 * (TYPICAL_INTEREST - interest) + 1.5 * pressure)
    up = 0.02 * np.exp(0.8 * (interest - TYPICAL_INTEREST) - 1.5 * pressure)
    step = np.where(chance < np.minimum(down, 0.3), -1, np.where(chance > 1 - np.minimum(up, 0.3), 1, 0))
    return np.clip(plan + step, 0, len(LIST_PRICES) - 1)
