"""Feature quality: how fresh features are, how often they are missing, and how their values are spread."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from kfp_lifecycle.artifacts.document import Part


class FrequentValue(Part):
    """One of the most frequent values of a categorical feature."""

    value: str
    """The value, as text."""
    share: float
    """Of the known values, 0 to 1."""


class FeatureQuality(Part):
    """What the values of one feature are like."""

    feature: str
    """Its name."""
    missing: float | None
    """Share without a value, 0 to 1; null where there are no rows."""
    mean: float | None = None
    """Of the known values of a numeric feature."""
    quantiles: list[float | None] = Field(default=[])
    """Of the known values of a numeric feature: smallest, quartiles, largest."""
    distinct: int | None = None
    """How many values a categorical feature has."""
    most_frequent: list[FrequentValue] = Field(default=[])
    """Of a categorical feature, ten at the most."""


class ViewQuality(Part):
    """What the features of one view are like."""

    view: str
    """Its name."""
    newest_row: datetime | None
    """Time of the newest row in any table that its SQL reads; null for an on-demand view."""
    age_days: float | None = None
    """From there to the moment that the features are as of; null in an online store, whose moment moves on."""
    features: list[FeatureQuality]
    """In the order of their definition."""
