"""Judgement of each version by its outcomes: chart, performance, its estimate, worth, and the effect of acting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.outcomes import OutcomeAlarm, OutcomeWeek, Segment, TreatmentEffect, VersionOutcomes
from kfp_lifecycle.components.monitoring.join_outcomes.cbpe import estimate_performance
from kfp_lifecycle.components.monitoring.join_outcomes.labels import DAY, Followed, midnight
from kfp_lifecycle.components.monitoring.join_outcomes.performance import (
    FEWEST_OF_A_CLASS,
    large_groups,
    measure_outcomes,
)
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.monitoring.business import Business
from kfp_lifecycle.monitoring.treatment import acted_upon, treatment_effect
from kfp_lifecycle.uncertainty.cusum import Chart, cusum

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Judging:
    """What became of all predictions that are followed.

    Attributes:
        settings: `monitoring`, `training`, `label`, `source.tables` and `entity`.
        rows: The spells, n of them.
        followed: What was known of them at each boundary.
        label: Of each, where it is settled, shape (n,).
        events: Of each in each week, shape (n, w).
        expected: Likewise, by its score.
        groups: Sensitive values of each.
        boundaries: Of the weeks, w + 1.
        connection: A session that shows the project's tables as they were known.
    """

    settings: Configuration
    rows: pd.DataFrame
    followed: Followed
    label: Floats
    events: Flags
    expected: Floats
    groups: Mapping[str, NDArray[np.object_]]
    boundaries: Sequence[datetime]
    connection: duckdb.DuckDBPyConnection

    def of(self, version: str) -> VersionOutcomes:
        """Judge one version.

        Raises:
            ContractViolation: an expression of `monitoring.business` fails.
        """
        chosen: Flags = (self.rows["version"] == version).to_numpy()
        seed = self.settings.training.seed
        complete = chosen & self._complete
        untreated = chosen & ~self._treated
        weeks, alarm = self._chart(version, untreated)
        alone = complete & self._held_out
        judged_on: Literal["all", "hold-out"] = "hold-out" if self._is_enough(alone) else "all"
        judged = alone if judged_on == "hold-out" else complete
        entity = self._entity
        # Whose outcome will come, and those that the estimate is held against.
        followed = judged | (chosen & ~self._complete & ~self._unknown)
        return VersionOutcomes(
            version=version,
            spells=int(chosen.sum()),
            unknown=int(np.isnan(self.followed.known[chosen, -1]).sum()),
            complete=int(complete.sum()),
            weeks=weeks,
            alarm=alarm,
            segments=self._segments(version, untreated),
            performance=measure_outcomes(
                self.label[judged],
                self._score[judged],
                entity[judged],
                {name: values[judged] for name, values in self.groups.items()},
                self.settings.monitoring.min_window,
            )
            if judged.any()
            else [],
            held_out=int((chosen & self._held_out).sum()),
            judged_on=judged_on,
            estimate=estimate_performance(
                self._score[followed], self._decision[followed], judged[followed], self.label[followed], seed
            ),
            business=self._business.of(chosen, entity, self._made, self.boundaries[-1], seed),
            effect=self._effect(complete, seed),
        )

    @cached_property
    def _score(self) -> Floats:
        score: Floats = self.rows["score"].to_numpy(np.float64)
        return score

    @cached_property
    def _decision(self) -> Flags:
        decision: Flags = self.rows["decision"].eq(True).to_numpy(np.bool_)
        return decision

    @cached_property
    def _held_out(self) -> Flags:
        held_out: Flags = self.rows["hold_out"].eq(True).to_numpy(np.bool_)
        return held_out

    @cached_property
    def _compared(self) -> Flags:
        """Whose version holds somebody out, so that it is known who was acted upon."""
        versions = self.rows["version"]
        compared: Flags = versions.isin(versions[self._held_out]).to_numpy()
        return compared

    @cached_property
    def _treated(self) -> Flags:
        return self._compared & acted_upon(self._decision, self._held_out)

    @cached_property
    def _unknown(self) -> Flags:
        return np.isnan(self.followed.known[:, -1])

    @cached_property
    def _complete(self) -> Flags:
        """A label is measured at its horizon, whether it was settled early or not: else the settled ones would be too
        many."""
        return (self.followed.elapsed[:, -1] >= 1) & ~self._unknown

    @cached_property
    def _entity(self) -> NDArray[np.int64]:
        entity: NDArray[np.int64] = pd.factorize(self.rows["entity"])[0].astype(np.int64)
        return entity

    @cached_property
    def _made(self) -> list[datetime]:
        return [midnight(day) for day in self.rows["day"]]

    @cached_property
    def _business(self) -> Business:
        label = np.where(self._complete, self.label, np.nan)
        moment = pa.timestamp("us", "UTC")
        horizon = (self.settings.label.horizon_days or 0) * DAY
        columns = {
            "score": pa.array(self._score),
            "decision": pa.array(self._decision),
            "outcome": pa.array(label, from_pandas=True),
            "version": pa.array(self.rows["version"], pa.string()),
            "entity": pa.array(self.rows["entity"], pa.string()),
            "time": pa.array(self.rows["time"], moment),
            "horizon_end": pa.array([made + horizon for made in self._made], moment),
            "hold_out": pa.array(self._held_out, mask=~self._compared),
            "treated": pa.array(self._treated, mask=~self._compared),
        }
        return Business(self.connection, self.settings, pa.table(columns))

    def _is_enough(self, rows: Flags) -> bool:
        events = self.label[rows].sum()
        return bool(
            rows.sum() >= self.settings.monitoring.min_window and min(events, rows.sum() - events) >= FEWEST_OF_A_CLASS
        )

    def _effect(self, complete: Flags, seed: int) -> TreatmentEffect | None:
        asked = complete & self._decision
        if not (asked & self._held_out).any():
            return None
        return treatment_effect(
            self._score[asked],
            self.label[asked],
            self._treated[asked],
            self._held_out[asked],
            self._entity[asked],
            self.settings.training.costs,
            seed,
        )

    def _chart(self, version: str, untreated: Flags) -> tuple[list[OutcomeWeek], OutcomeAlarm | None]:
        """The weeks of a version, by those whom nobody acted upon: what is observed less what is expected of them adds
        up to nothing where scores are calibrated, whoever they are."""
        observed, expected, chart = self._charted(untreated, 1)
        weeks = [
            OutcomeWeek(
                end=self.boundaries[number + 1],
                observed=int(observed[number]),
                expected=float(expected[number]),
                more=chart.more[number],
                fewer=chart.fewer[number],
            )
            for number in range(len(observed))
        ]
        return weeks, self._alarm(chart, observed, expected, f"version {version} foretells")

    def _segments(self, version: str, untreated: Flags) -> list[Segment]:
        """The same for each group of a sensitive column that is large enough. Together they alarm by mistake as seldom
        as the version's own chart does: each for itself so many times more seldom as there are groups (Bonferroni)."""
        groups = large_groups(self.groups, untreated, self.settings.monitoring.min_window)
        found = []
        for group, rows in groups.items():
            observed, expected, chart = self._charted(rows, len(groups))
            found.append(
                Segment(
                    group=group,
                    observed=int(observed.sum()),
                    expected=float(expected.sum()),
                    more=chart.more[-1],
                    fewer=chart.fewer[-1],
                    alarm=self._alarm(chart, observed, expected, f"version {version} foretells for {group}"),
                )
            )
        return found

    def _charted(self, rows: Flags, charts: int) -> tuple[NDArray[np.int64], Floats, Chart]:
        rule = self.settings.monitoring
        observed, expected = self.events[rows].sum(axis=0), self.expected[rows].sum(axis=0)
        run_length = rule.outcome_run_length * charts
        chart = cusum(observed.tolist(), expected.tolist(), rule.outcome_ratio, rule.outcome_variation, run_length)
        return observed, expected, chart

    def _alarm(self, chart: Chart, observed: NDArray[np.int64], expected: Floats, foretold: str) -> OutcomeAlarm | None:
        if chart.alarm is None:
            return None
        first = chart.alarm.since
        seen, expectation = int(observed[first:].sum()), float(expected[first:].sum())
        since, noticed = self.boundaries[first], self.boundaries[chart.alarm.at + 1]
        return OutcomeAlarm(
            direction=chart.alarm.direction,
            noticed=noticed,
            since=since,
            observed=seen,
            expected=expectation,
            sentence=f"{chart.alarm.direction} events than {foretold}: {seen:,} where {expectation:,.1f} were expected "
            f"since {since:%Y-%m-%d}, noticed in the week to {noticed:%Y-%m-%d}",
        )
