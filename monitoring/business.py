"""Business metrics: what predictions were worth, by expressions over the outcome table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import BusinessOutcome, BusinessWeek
from kfp_lifecycle.config.business import BusinessMetric
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.connections.errors import first_line
from kfp_lifecycle.data.sql import quoted
from kfp_lifecycle.monitoring.business_terms import COLUMNS, metrics_of, tables_by_entity
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, entity_sums, interval
from kfp_lifecycle.uncertainty.contributions import normal_interval

Floats = NDArray[np.float64]

ROWS = "outcome rows"
REPLICATES = 500
MANY_ROWS = 100_000
WEEK = timedelta(days=7)
# A week with fewer predictions is not drawn.
FEWEST_OF_A_WEEK = 10


class Business:
    """The metrics of all predictions that are followed, each asked once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: Configuration, rows: pa.Table) -> None:
        """Ask every expression of every row.

        Args:
            connection: A session that shows the project's tables as they were known.
            settings: `monitoring.business`, `training.costs`, `source.tables` and `entity.key`.
            rows: `COLUMNS` but for the costs, in the order of the predictions.

        Raises:
            ContractViolation: an expression fails; the message names it and the columns there are.
        """
        self._metrics = metrics_of(settings)
        costs = settings.training.costs
        known = {"saved": costs.saved, "action": costs.action, "success_rate": costs.success_rate}
        for name, value in known.items():
            rows = rows.append_column(name, pa.array(np.full(len(rows), value)))
        numbered = rows.append_column("row number", pa.array(np.arange(len(rows))))
        connection.register(ROWS, numbered)
        joins = "".join(
            f" LEFT JOIN (SELECT {quoted(settings.entity.key)}::VARCHAR AS {quoted(f'key of {table}')}, "
            f"{quoted(table)} FROM {quoted(table)}) ON entity = {quoted(f'key of {table}')}"
            for table in tables_by_entity(settings)
        )
        self._values = {name: _asked(connection, joins, name, metric) for name, metric in self._metrics.items()}
        connection.unregister(ROWS)

    def of(
        self, chosen: NDArray[np.bool_], entity: NDArray[np.int64], at: Sequence[datetime], until: datetime, seed: int
    ) -> list[BusinessOutcome]:
        """The metrics of some predictions.

        Args:
            chosen: Which ones, shape (n,).
            entity: A whole number for each row's entity, shape (n,).
            at: When each was made.
            until: End of the newest week.
            seed: Chooses the replicates.
        """
        weeks_back = np.array([(until - moment) // WEEK for moment in at], dtype=np.int64)
        return [
            _measured(name, metric, self._values[name], chosen, entity, weeks_back, until, seed)
            for name, metric in self._metrics.items()
        ]


def _asked(connection: duckdb.DuckDBPyConnection, joins: str, name: str, metric: BusinessMetric) -> Floats:
    """What an expression gives for each row, shape (n,); no number where it does not count."""
    where = f"coalesce(({metric.where})::BOOLEAN, false)" if metric.where else "true"
    try:
        found = connection.sql(
            f'SELECT "row number", CASE WHEN {where} THEN ({metric.value})::DOUBLE END AS "value" '
            f"FROM {quoted(ROWS)}{joins} ORDER BY 1"
        ).to_arrow_table()
    except duckdb.Error as error:
        raise ContractViolation(
            f"monitoring.business.{name} cannot be computed: {first_line(error)} A prediction has the columns "
            f"{', '.join(COLUMNS)}; columns of tables with one row for each entity are written TABLE.COLUMN, of others "
            "in a query in parentheses."
        ) from error
    values: Floats = found["value"].to_numpy().astype(np.float64)
    if len(found["row number"].unique()) != len(values):
        raise ContractViolation(
            f"monitoring.business.{name} finds several rows of a table for one entity: the key in source.tables says "
            "that there is one. Mend the table, or its key."
        )
    if np.isinf(values).any():
        raise ContractViolation(
            f"monitoring.business.{name} is infinite for {int(np.isinf(values).sum()):,} predictions: divide by "
            "nullif(…, 0), so that these do not count."
        )
    return values


def _measured(
    name: str,
    metric: BusinessMetric,
    values: Floats,
    chosen: NDArray[np.bool_],
    entity: NDArray[np.int64],
    weeks_back: NDArray[np.int64],
    until: datetime,
    seed: int,
) -> BusinessOutcome:
    counts = chosen & ~np.isnan(values)
    nothing = BusinessOutcome(
        name=name,
        title=metric.title or name.replace("_", " "),
        unit=metric.unit,
        per=metric.per,
        value=None,
        total=0.0,
        weeks=[],
    )
    if not counts.any():
        return nothing
    rows, of = metric.per * values[counts], entity[counts]
    weeks = []
    for back in sorted(set(weeks_back[counts].tolist()), reverse=True):
        week = counts & (weeks_back == back)
        if week.sum() >= FEWEST_OF_A_WEEK:
            mean = _mean(metric.per * values[week], entity[week])
            weeks.append(
                BusinessWeek(end=until - WEEK * back, rows=mean.rows, value=mean.value, low=mean.low, high=mean.high)
            )
    # The mean of so many is normal, whatever they are like, and replicates of them all take gigabytes.
    value = _mean(rows, of) if len(rows) > MANY_ROWS else _drawn_mean(rows, of, seed)
    return nothing.model_copy(update={"value": value, "total": float(values[counts].sum()), "weeks": weeks})


def _drawn_mean(values: Floats, entity: NDArray[np.int64], seed: int) -> Metric:
    """A mean with its interval by bootstrap: of few rows, most of them alike, it is not symmetric."""
    totals = Bootstrap(entity, REPLICATES, seed).totals(np.column_stack([values, np.ones(len(values))]))
    return interval(float(values.mean()), totals[:, 0] / totals[:, 1], len(values))


def _mean(values: Floats, entity: NDArray[np.int64]) -> Metric:
    """A mean with its interval by linearisation."""
    mean = float(values.mean())
    numbered = np.unique(entity, return_inverse=True)[1]
    contributions = entity_sums((values - mean)[:, None] / len(values), numbered)
    return normal_interval(mean, contributions[:, 0], len(values))
