"""Configuration of monitoring: the window, and when production has drifted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kfp_lifecycle.config.business import BusinessMetric
from kfp_lifecycle.config.retraining import Retraining
from kfp_lifecycle.config.section import Name, Probability, Section

DriftTest = Literal["usual_variation", "ks_p_value"]


class Monitoring(Section):
    """When production has moved away from what the model knows."""

    window_days: int = Field(default=7, gt=0)
    """Age of the oldest prediction that is looked at."""
    min_window: int = Field(default=100, gt=0)
    """Fewer predictions than this decide nothing, and the report says so."""
    drift_rule: DriftTest = "usual_variation"
    """`usual_variation`: a column drifts when it differs from the newest training date by more than training dates
    differ among themselves; `ks_p_value`: when a Kolmogorov-Smirnov test (chi-square for categories) has p < 0.05,
    uncorrected, which alarms nearly every week where features are many."""
    significance: Probability = 0.01
    """By `usual_variation`, a column drifts when its p-value, corrected for all comparisons (Holm), is below this …"""
    min_effect: float = Field(default=0.1, gt=0)
    """… and it moved by more than this, in standard deviations (of shares: Cohen's h)."""
    max_drifted_share: Probability = 0.3
    """Retraining is asked for when more than this share of the features drifts, or the score does."""
    max_caller_share: float = Field(default=0.25, gt=0, le=0.5)
    """Who asked for at most this share of what is compared decides nothing alone: a verdict that is another one without
    its rows is given without them, and says so. Whoever asked for more, such as the one service in front of all
    customers, is the population that the window is about."""
    outcome_weeks: int = Field(default=12, ge=2, le=104)
    """Weeks of which outcomes are compared with what was predicted, the newest last."""
    outcome_ratio: float = Field(default=1.5, gt=1)
    """That many times as many events as the scores foretell, or as few, are to be noticed as soon as possible."""
    outcome_variation: float = Field(default=0.05, ge=0, le=1)
    """By so much of itself the level of a week's events is usually off from what scores foretell, up or down, beyond
    chance (a coefficient of variation): what many events say of a single week is worth no more than that."""
    outcome_run_length: int = Field(default=520, ge=10)
    """Weeks between two false alarms about how many events come, at least, for a version with calibrated scores."""
    ranking_run_length: int = Field(default=104, ge=10)
    """Weeks between two false alarms about whom events come to, at least, for a version whose scores rank as they
    promise."""
    business: dict[Name, BusinessMetric] = Field(default={})
    """What predictions were worth, by name, beside the rates by decision and the value by `training.costs` that are
    always told; one of the same name takes the place of one of these (`acted_upon`, `events_where_acted`,
    `events_where_not`, `value`)."""
    retraining: Retraining = Retraining()
    """When a retraining that is due is started."""
