"""Performance in production: how good predictions were whose outcome is known, with intervals, for all and by group."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import Measured
from kfp_lifecycle.modelling.metrics import LOG_MARGIN
from kfp_lifecycle.uncertainty.area import area
from kfp_lifecycle.uncertainty.bootstrap import entity_sums
from kfp_lifecycle.uncertainty.contributions import normal_interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Of fewer of either outcome no interval is worth its name.
FEWEST_OF_A_CLASS = 10


def measure_outcomes(
    label: Floats,
    score: Floats,
    entity: NDArray[np.int64],
    groups: Mapping[str, NDArray[np.object_]],
    fewest: int,
) -> list[Measured]:
    """Measure all rows, and each group of a sensitive column that is large enough.

    Args:
        label: 0 or 1, shape (n,).
        score: The label's probability, shape (n,).
        entity: A whole number for each row's entity, shape (n,).
        groups: Values by sensitive column, each of shape (n,); None where not known.
        fewest: Rows that a group needs.
    """
    everybody = {"": np.ones(len(label), np.bool_)}
    return [
        Measured(
            group=group,
            rows=int(rows.sum()),
            events=int(label[rows].sum()),
            metrics=_metrics(label[rows], score[rows], entity[rows]),
        )
        for group, rows in (everybody | large_groups(groups, everybody[""], fewest)).items()
    ]


def large_groups(groups: Mapping[str, NDArray[np.object_]], chosen: Flags, fewest: int) -> dict[str, Flags]:
    """The groups of sensitive columns that are large enough, by `column: value`.

    Args:
        groups: Values by sensitive column, each of shape (n,); None where not known.
        chosen: The rows that count, shape (n,).
        fewest: Of these, so many a group needs.

    Returns:
        The rows of each among those that count, shape (n,).
    """
    return {
        f"{column}: {value}": rows
        for column, values in groups.items()
        for value in sorted({value for value in values[chosen] if isinstance(value, str)})
        if (rows := chosen & (values == value)).sum() >= fewest
    }


def _metrics(label: Floats, score: Floats, entity: NDArray[np.int64]) -> dict[str, Metric]:
    events = int(label.sum())
    if min(events, len(label) - events) < FEWEST_OF_A_CLASS:
        return {}
    entity = np.unique(entity, return_inverse=True)[1]
    likely = np.clip(score, LOG_MARGIN, 1 - LOG_MARGIN)
    loss = -np.log(np.where(label == 1, likely, 1 - likely))
    expected = float(score.sum())
    return {
        "roc_auc": area(label, score, entity, int(entity.max()) + 1).metric(),
        "log_loss": _ratio(loss, np.ones(len(loss)), entity),
        **({"observed_over_expected": _ratio(label, score, entity)} if expected else {}),
    }


def _ratio(over: Floats, under: Floats, entity: NDArray[np.int64]) -> Metric:
    """A ratio of sums, linearised (Cochran 1977, "Sampling techniques", chapter 6), by entity."""
    value = float(over.sum() / under.sum())
    contributions = entity_sums(((over - value * under) / under.sum())[:, None], entity)
    return normal_interval(value, contributions[:, 0], len(over))
