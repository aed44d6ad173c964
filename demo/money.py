"""What decisions were worth in the two worlds, by the project's costs.

Nobody in the simulation is acted upon: what an offer would have saved is the project's own assumption
(`training.costs`), the same for both worlds. The twin world's decisions are those of version 1 on the very features
that were served; where version 1 answered, both worlds are one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo.story import EVERY, Story
from demo.traffic import Asked, logged_rows
from demo.world import DemoFailed, World
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.modelling.dataset import model_inputs
from kfp_lifecycle.modelling.decisions import decision_values
from kfp_lifecycle.modelling.scoring import Scorer, decided
from kfp_lifecycle.registry.champion import registered_version
from kfp_lifecycle.serving.client import SCORE_TOLERANCE
from kfp_lifecycle.uncertainty.bootstrap import HIGH, LOW, Bootstrap, interval

FIRST = "1"
REPLICATES = 2_000
WEEK = 7


@dataclass(frozen=True)
class Sum:
    """Money by a day, with its 95% interval."""

    day: date
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class WorldMoney:
    """One world since the release."""

    name: str
    contacts: int
    reached: int
    """Of them, who would have left."""
    value: Metric
    """In the project's currency."""


@dataclass(frozen=True)
class Money:
    """Both worlds since the release, on predictions whose outcome is known."""

    predictions: int
    left: int
    ours: WorldMoney
    twin: WorldMoney
    difference: Metric
    by_week: Sequence[Sum]
    """The difference, summed up since the release."""
    currency: str


def decisions(world: World, answers: Sequence[Asked], customers: pd.DataFrame) -> pd.DataFrame:
    """Each answer beside what version 1 says of the same features, and what became of the customer.

    Returns:
        `customer`, `day`, `version`, `acts`, `twin_acts`, `outcome` (null where the horizon is not over).

    Raises:
        DemoFailed: version 1 does not say again what it said.
    """
    rows = pd.DataFrame([vars(answer) for answer in answers])
    logged = logged_rows(world).set_index("request_id").loc[rows["request"]]
    with tempfile.TemporaryDirectory() as scratch:
        registered = registered_version(world.locations.tracking_uri, world.model, FIRST)
        if registered is None:
            raise DemoFailed("the registry does not know version 1")
        folder = registered.fetch(Path(scratch))
        model = registered.description(Path(scratch) / "description")
        scorer = Scorer((folder / "model.onnx").read_bytes(), model.inputs)
    scores = scorer.score(model_inputs(logged, model.inputs, "the prediction log"))
    served = (rows["version"] == FIRST).to_numpy()
    off = float(np.abs(scores[served] - rows["score"].to_numpy()[served]).max(initial=0))
    if off > SCORE_TOLERANCE:
        raise DemoFailed(f"version 1 scores the features that it was served with by {off:.2g} otherwise than then")
    day = rows["at"].dt.tz_localize(None).dt.normalize()
    left = rows["customer"].map(customers.set_index("customer_id")["left"])
    horizon = day + pd.Timedelta(days=EVERY)
    outcome = ((left >= day) & (left < horizon)).astype(float)
    over = horizon <= pd.Timestamp(world.story.ends)
    return pd.DataFrame(
        {
            "customer": rows["customer"],
            "day": day.dt.date,
            "version": rows["version"],
            "acts": rows["acts"],
            "twin_acts": decided(scores, model.threshold),
            "outcome": outcome.where(over),
        }
    )


def money(world: World, made: pd.DataFrame, released: date) -> Money | None:
    """What both worlds' decisions were worth since a release; None where no outcome is known since."""
    since = made[(made["day"] >= released) & made["outcome"].notna()].reset_index(drop=True)
    if since.empty:
        return None
    costs = world.configuration.training.costs
    outcome = since["outcome"].to_numpy(np.float64)
    values = np.column_stack(
        [decision_values(outcome, since[name].to_numpy(np.bool_), costs) for name in ("acts", "twin_acts")]
    )
    bootstrap = Bootstrap(pd.factorize(since["customer"])[0].astype(np.int64), REPLICATES, world.story.seed)
    columns = np.column_stack([values, values[:, 0] - values[:, 1]])
    totals = bootstrap.totals(columns)

    def summed(place: int) -> Metric:
        return interval(float(columns[:, place].sum()), totals[:, place], len(since))

    def world_of(name: str, place: int, acts: str) -> WorldMoney:
        chosen = since[acts].to_numpy(np.bool_)
        return WorldMoney(name, int(chosen.sum()), int(outcome[chosen].sum()), summed(place))

    return Money(
        predictions=len(since),
        left=int(outcome.sum()),
        ours=world_of("retrained", 0, "acts"),
        twin=world_of("twin", 1, "twin_acts"),
        difference=summed(2),
        by_week=_by_week(since["day"], columns[:, 2], bootstrap, released),
        currency=costs.currency,
    )


def _by_week(days: pd.Series, difference: NDArray[np.float64], bootstrap: Bootstrap, released: date) -> list[Sum]:
    passed = np.array([(day - released).days for day in days])
    ends = range(WEEK, int(passed.max()) + WEEK + 1, WEEK)
    summed = np.column_stack([np.where(passed < end, difference, 0.0) for end in ends])
    low, high = np.quantile(bootstrap.totals(summed), (LOW, HIGH), axis=0)
    return [
        Sum(date.fromordinal(released.toordinal() + end), float(value), float(below), float(above))
        for end, value, below, above in zip(ends, summed.sum(axis=0), low, high, strict=True)
    ]


def churn_by_week(story: Story, customers: pd.DataFrame) -> list[tuple[date, float]]:
    """Of the customers of each Monday the share that left within the horizon, as far as it is over."""
    found = []
    for monday in [story.begins, *story.mondays]:
        day, end = pd.Timestamp(monday), pd.Timestamp(monday) + pd.Timedelta(days=EVERY)
        if end > pd.Timestamp(story.ends):
            break
        here = (customers["signed_up"] < day) & (customers["left"].isna() | (customers["left"] >= day))
        found.append((monday, float((customers["left"][here] < end).mean())))
    return found
