"""What the story is about: sizes, dates and settings. All of it is made up in advance but what the library decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

DAY, WEEK = timedelta(days=1), timedelta(days=7)
# Each customer's account is looked at once in so many days: the label's horizon, so that nobody is counted twice.
EVERY = 30


@dataclass(frozen=True)
class Story:
    """A live business in simulated time."""

    customers: int
    """Who sign up in the whole history."""
    history_days: int
    """From the business's first day to `ends`."""
    begins: date
    """A Monday: the first model is live from its morning on."""
    price_rise: date
    rises_by: float
    """Share of the old price."""
    ends: date
    """A Monday: nothing is asked from then on; outcomes are known up to its night."""
    seed: int
    settings: tuple[str, ...]
    """`KEY=VALUE` pairs for the reference project, beside SETTINGS."""
    weeks: int | None = None
    """So many are played, and all by default; what became of customers is known up to `ends` all the same."""

    @property
    def mondays(self) -> list[date]:
        """Each Monday after the first, on whose morning monitoring looks back on a week."""
        weeks = (self.ends - self.begins).days // 7
        return [self.begins + WEEK * week for week in range(1, min(weeks, self.weeks or weeks) + 1)]

    def due(self, customer: int, day: date) -> bool:
        """Whether a customer's account is looked at on a day."""
        return customer % EVERY == day.toordinal() % EVERY


# The reference project's, where a demonstration needs others.
SETTINGS = (
    # What a model is worth decides, not its rank: after a change the level is what went wrong.
    "gate.champion.metric=expected_value_per_1000",
    # On so few customers a linear model ranks better than trees, and is trained sooner.
    "training.estimator=sklearn.linear_model.LogisticRegression",
    "training.parameters={max_iter: 1000}",
    "tuning.engine=none",
    # Fortnightly snapshots, and two fifths of those after a change to judge by.
    "snapshots.every_days=15",
    "split.test_share=0.4",
    # Simulated time lies in the past by the clock: such a window may still lead to a retraining …
    "monitoring.retraining.current_days=36500",
    # … and such a day of the prediction log is not too old to be kept.
    "deployment.prediction_log.retention_days=36500",
)

# The first model is calibrated on spring: on January, when more customers leave than in any other month, it would
# foretell too many.
WHOLE = Story(
    customers=15_000,
    history_days=810,
    begins=date(2025, 5, 19),
    price_rise=date(2025, 6, 30),
    rises_by=0.4,
    ends=date(2026, 2, 16),
    seed=7,
    settings=("snapshots.count=10",),
)

# Of so few customers a difference between groups is known to within 6 points: 0.060 is measured (95% 0.004 to 0.116)
# where the larger business has 0.027, and the reference project's limit of 0.05 would reject.
FEW_RULES = (
    "[{metric: performance.roc_auc, min: 0.70, bound: confidence},"
    " {metric: performance.expected_value_per_1000, min: 0},"
    " {metric: fairness.demographic_parity_difference.gender, max: 0.12},"
    " {metric: calibration.expected_calibration_error, max: 0.05}]"
)
SMALL = Story(
    customers=10_000,
    history_days=508,
    begins=date(2026, 4, 6),
    price_rise=date(2026, 4, 20),
    rises_by=0.4,
    ends=date(2026, 7, 20),
    seed=7,
    settings=("snapshots.count=8", "evaluation.bootstrap_replicates=400", f"gate.rules={FEW_RULES}"),
)


def night_before(day: date) -> datetime:
    """The last second of the day before: what the tables know of on a morning."""
    return datetime.combine(day, time(), UTC) - timedelta(seconds=1)


def morning(day: date) -> datetime:
    """Six o'clock, when monitoring looks back."""
    return datetime.combine(day, time(6), UTC)
