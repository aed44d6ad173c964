"""The words that the tables hold. Inside the simulation a word is a small number: millions of rows stay cheap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
GENDERS = ("female", "male", "other")
REGIONS = ("north", "south", "east", "west", "central")
CHANNELS = ("search", "social", "referral", "email", "partner")
PLANS = ("basic", "standard", "premium")
PAYMENT_METHODS = ("card", "direct_debit", "wallet")
PAYMENT_STATUSES = ("paid", "failed")
DEVICES = ("mobile", "web", "tv")
PURCHASE_CATEGORIES = ("film", "series", "live", "merchandise")
TICKET_CATEGORIES = ("billing", "technical", "account", "content")
REASONS = ("price", "service", "not_used", "payment", "other")

# A word's code is its position here, counted from 1; a word that two columns share has one code.
VOCABULARY = tuple(
    dict.fromkeys(
        AGE_BANDS
        + GENDERS
        + REGIONS
        + CHANNELS
        + PLANS
        + PAYMENT_METHODS
        + PAYMENT_STATUSES
        + DEVICES
        + PURCHASE_CATEGORIES
        + TICKET_CATEGORIES
        + REASONS
    )
)
MISSING = np.uint8(0)
"""The code of no word: NULL in the table."""


def codes(words: tuple[str, ...]) -> Codes:
    """The codes of some words, in their order: shape (words,), for indexing by position."""
    return np.array([VOCABULARY.index(word) + 1 for word in words], np.uint8)


def choose(rng: np.random.Generator, words: tuple[str, ...], shares: tuple[float, ...], size: int) -> Codes:
    """`size` codes drawn from `words` by their shares (which sum to 1): shape (size,)."""
    return codes(words)[positions(rng, shares, size)]


def positions(rng: np.random.Generator, shares: tuple[float, ...], size: int) -> NDArray[np.intp]:
    """`size` positions, 0 to len(shares) - 1, drawn by their shares: shape (size,)."""
    return np.searchsorted(np.cumsum(shares)[:-1], rng.random(size), side="right")


def forget(rng: np.random.Generator, column: Codes, share: float) -> Codes:
    """The column with a random share of its values missing."""
    return np.where(rng.random(len(column)) < share, MISSING, column)
