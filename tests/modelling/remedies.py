"""What drift detection and outcomes say of small worlds, made by the steps' own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.drift import Compared, Drift, DriftRule, Finding
from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, Outcomes, OutcomeWeek, TimingPoint, VersionOutcomes
from kfp_lifecycle.artifacts.skew import ServingSkew
from kfp_lifecycle.components.monitoring.decide_remedy.evidence import Evidence
from kfp_lifecycle.components.monitoring.join_outcomes.joining import verdict
from kfp_lifecycle.components.monitoring.join_outcomes.labels import Followed, Timing, midnight, settled, weekly_events
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.uncertainty.cusum import cusum, threshold_for

AS_COMPUTED = ServingSkew(
    model="churn", version="1", compared=200, features=26, sentence="What was served is computed."
)
UNTIL = datetime(2026, 6, 29, tzinfo=UTC)
WEEKS, HORIZON = 12, 30
START = UNTIL - timedelta(weeks=WEEKS)
Hazards = Callable[[pd.DataFrame, datetime], NDArray[np.float64]]
"""How many times as many events come as a prediction's score foretells, in the week that begins then."""


def world(
    hazards: Hazards,
    *,
    rows: int = 6_000,
    versions: Sequence[tuple[str, datetime, datetime]] = (("1", START - timedelta(days=HORIZON), UNTIL),),
    acts_from: float = 0.14,
    seed: int = 0,
) -> tuple[Outcomes, pd.DataFrame, pd.DataFrame]:
    """Predictions of a calibrated model, and events by weeks at so many times the rate that it foretells.

    Returns:
        The outcomes, their table, and a feature `x` of each row, in the table's order.
    """
    random = np.random.default_rng(seed)
    parts = []
    for version, first, last in versions:
        score = random.beta(1.2, 14, rows)
        days = [first.date() + timedelta(days=int(day)) for day in random.integers(0, (last - first).days, rows)]
        parts.append(pd.DataFrame({"version": version, "day": days, "score": score}))
    table = pd.concat(parts, ignore_index=True)
    table["entity"] = [str(number) for number in range(len(table))]
    table["time"] = [midnight(day) + timedelta(hours=9) for day in table["day"]]
    table["decision"] = table["score"] >= acts_from
    table["x"] = random.normal(size=len(table))
    table = table.sort_values(["version", "entity", "time"], ignore_index=True)
    boundaries = [UNTIL - timedelta(weeks=back) for back in reversed(range(WEEKS + 1))]
    grid = [boundaries[0] - timedelta(weeks=back) for back in range(20, 0, -1)] + boundaries
    begun = pd.to_datetime(table["day"], utc=True)

    def elapsed(moment: datetime) -> NDArray[np.float64]:
        return np.clip(((moment - begun) / timedelta(days=HORIZON)).to_numpy(np.float64), 0, 1)

    happened = np.zeros(len(table), bool)
    known = np.full((len(table), len(boundaries)), np.nan)
    for number, moment in enumerate(grid):
        if number:
            before, now = elapsed(grid[number - 1]), elapsed(moment)
            share = -np.log1p(-table["score"].to_numpy() * now) + np.log1p(-table["score"].to_numpy() * before)
            rate = hazards(table, grid[number - 1]) * share
            happened |= random.uniform(size=len(table)) < -np.expm1(-rate)
        place_in = number - (len(grid) - len(boundaries))
        if place_in >= 0:
            known[:, place_in] = np.where(midnight_before(table, moment), happened.astype(float), np.nan)
    followed = Followed(known, np.column_stack([elapsed(moment) for moment in boundaries]))
    timing = Timing("by the event", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0)
    events, expected = weekly_events(followed, timing, table["score"].to_numpy())
    label = settled(followed, timing)
    rule = Monitoring()
    event_by = [
        boundaries[week + 1] if any_ else None for week, any_ in zip(events.argmax(1), events.any(1), strict=True)
    ]
    table = table.assign(
        hold_out=None,
        known=~np.isnan(known[:, -1]),
        complete=followed.elapsed[:, -1] >= 1,
        label=label,
        event_by=pd.Series(event_by, dtype="datetime64[us, UTC]"),
    )
    found = [
        charted(version, (table["version"] == version).to_numpy(), table, events, expected, boundaries, rule)
        for version, _, _ in versions
    ]
    outcomes = Outcomes(
        model="churn", start=START - timedelta(days=HORIZON), until=UNTIL, horizon_days=HORIZON, told=timing.told,
        timing=[TimingPoint(elapsed=0, share=0), TimingPoint(elapsed=1, share=1)], timing_events=0,
        ratio=rule.outcome_ratio, threshold=threshold_for(rule.outcome_run_length), predictions=len(table),
        without_entity=0, versions=found, sentence=verdict(found),
    )  # fmt: skip
    return outcomes, table.drop(columns="x"), table[["x"]]


def charted(
    version: str,
    chosen: NDArray[np.bool_],
    table: pd.DataFrame,
    events: NDArray[np.bool_],
    expected: NDArray[np.float64],
    boundaries: Sequence[datetime],
    rule: Monitoring,
) -> VersionOutcomes:
    """The chart of one version."""
    seen, foretold = events[chosen].sum(axis=0), expected[chosen].sum(axis=0)
    limits = rule.outcome_ratio, rule.outcome_variation, rule.outcome_run_length
    chart = cusum(seen.tolist(), foretold.tolist(), *limits)
    alarm = None
    if chart.alarm is not None:
        since, noticed = boundaries[chart.alarm.since], boundaries[chart.alarm.at + 1]
        alarm = OutcomeAlarm(
            direction=chart.alarm.direction, noticed=noticed, since=since,
            observed=int(seen[chart.alarm.since :].sum()), expected=float(foretold[chart.alarm.since :].sum()),
            sentence=f"{chart.alarm.direction} events than version {version} foretells",
        )  # fmt: skip
    return VersionOutcomes(
        version=version, spells=int(chosen.sum()), unknown=0, complete=int((chosen & table["complete"]).sum()),
        weeks=[
            OutcomeWeek(end=boundaries[number + 1], observed=int(seen[number]), expected=float(foretold[number]),
                        more=chart.more[number], fewer=chart.fewer[number])
            for number in range(len(seen))
        ],
        alarm=alarm, performance=[],
    )  # fmt: skip


def midnight_before(table: pd.DataFrame, moment: datetime) -> NDArray[np.bool_]:
    """Whose prediction had begun by a moment."""
    return np.array([midnight(day) < moment for day in table["day"]])


def drift(verdict: Any = "keep", decision: Any = "keep", version: str = "1", **column: Any) -> Drift:
    """What drift detection says; with a `sentence` of a finding it is of the column `charge`, which drifted."""
    measured: dict[str, Any] = {
        "measure": "level", "test": "prediction interval", "p_value": 1e-9, "corrected_p_value": 2e-9, "effect": 0.9,
        "distance": 0.4, "aspect": "values",
    }  # fmt: skip
    columns = [Finding(column="charge", drifted=True, **{**measured, **column})] if column else []
    sentence = {
        "keep": "Keep: none of 26 features nor the score moved by more than is usual.",
        "undecided": "Undecided: 12 predictions are too few to decide anything; monitoring.min_window is 100.",
    }.get(verdict, "Broken data: charge is missing: 0.0% → 100.0%. Repair the source of charge.")
    return Drift(
        verdict=verdict, decision=decision, sentence=sentence, model="churn", version=version,
        start=UNTIL - timedelta(days=7), end=UNTIL,
        predictions=Compared(window=300, champion=300, compared=300), reference_rows=2000, reference_dates=8,
        rule=DriftRule(
            drift_rule="usual_variation", significance=0.01, min_effect=0.1, max_drifted_share=0.3, min_window=100
        ),
        drifted_share=0.1 if column else 0.0, drifted=["charge"] if column else [], columns=columns,
    )  # fmt: skip


def evidence(
    found: tuple[Outcomes, pd.DataFrame, pd.DataFrame],
    said: Drift,
    *,
    features: bool = False,
    skew: ServingSkew | None = None,
    before: NDArray[np.bool_] | None = None,
) -> Evidence:
    """What `decide` is given; `before` is whom the version before would have acted upon."""
    outcomes, table, logged = found
    return Evidence(
        drift=said, skew=skew or AS_COMPUTED, outcomes=outcomes, table=table, label="churned", ratio=1.5,
        run_length=104, seed=42,
        costs=Costs(saved=240, action=6, success_rate=0.3), features=lambda places: logged if features else None,
        decisions=lambda version: before,
    )  # fmt: skip


def times(ratio: float, since: datetime | date) -> Hazards:
    """As foretold until a moment, then so many times as much."""
    return lambda table, week: np.full(len(table), ratio if week >= since else 1.0)
