"""Requests of people to the live endpoint, and the moments of the prediction log as the story's.

Servers log by the clock of this machine. After each week its rows are put down once more under the simulated days that
they were asked on; nothing but their time is another. What the servers wrote stays as it is, under today's date.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
from pyarrow import compute, parquet

from demo.story import DAY, Story
from demo.world import DemoFailed, World
from kfp_lifecycle.artifacts.prediction_log import FINISHED, GROWING, day_folder
from kfp_lifecycle.data.sql import literal
from kfp_lifecycle.governance.log_rows import read
from kfp_lifecycle.serving.client import Client

OPENS = timedelta(hours=8)
SECOND = timedelta(seconds=1)
# The log is written twice a second; a busy machine takes its time.
LOG_SECONDS, PATIENCE_SECONDS = 1.0, 120.0


@dataclass(frozen=True)
class Asked:
    """A request, and the answer that somebody acted on."""

    request: str
    """Its id."""
    customer: int
    at: datetime
    """In simulated time."""
    score: float
    acts: bool
    version: str


class People:
    """Who asks the endpoint, a request for each customer whose account is looked at."""

    def __init__(self, world: World) -> None:
        """Know who is a customer on which day, and connect."""
        self._world = world
        self._client = Client(world.port)
        self._answers: list[Asked] = []
        self._moments: dict[str, datetime] = {}
        self._begun = time.time()
        self.refused = 0

    @property
    def answers(self) -> list[Asked]:
        """What was answered to the requests of the story, in their order."""
        return self._answers

    def ask_for(self, begins: date, ends: date, customers: pd.DataFrame) -> None:
        """Ask for each customer of the days, the last not included.

        Args:
            begins: The first day.
            ends: The day after the last.
            customers: `customer_id`, `signed_up` and `left` (dates; none for who is there still).
        """
        for day, due in _days(self._world.story, begins, ends, customers):
            for number, customer in enumerate(due):
                answer = self.ask(customer, datetime.combine(day, clock_time(), UTC) + OPENS + number * SECOND)
                if answer is not None:
                    self._answers.append(answer)

    def ask(self, customer: int, at: datetime) -> Asked | None:
        """Ask for one customer; None where the endpoint refuses, which is counted."""
        tensor = {"name": "customer_id", "datatype": "INT64", "shape": [1], "data": [customer]}
        answer = self._client.post(f"/v2/models/{self._world.model}/infer", {"inputs": [tensor]})
        if answer.status != 200:
            self.refused += 1
            return None
        outputs = {item["name"]: item["data"][0] for item in answer.json()["outputs"]}
        request, version = answer.headers["x-request-id"], answer.headers["x-model-version"]
        self._moments[request] = at
        return Asked(request, customer, at, float(outputs["score"]), bool(outputs["decision"]), version)

    def put_down(self) -> None:
        """Write what was asked since the last time into the log, under the days that it was asked on.

        Raises:
            DemoFailed: the servers do not write it.
        """
        log = Path(self._world.locations.prediction_log) / self._world.model
        deadline = time.monotonic() + PATIENCE_SECONDS
        wanted = pa.array(list(self._moments), pa.string())
        while (rows := _rows_of(log, wanted, self._begun)).num_rows < len(wanted):
            if time.monotonic() > deadline:
                missing = len(wanted) - rows.num_rows
                raise DemoFailed(f"{missing} of {len(wanted)} answers are not in the prediction log {log}")
            time.sleep(LOG_SECONDS)
        moments = pa.array([self._moments[name] for name in rows["request_id"].to_pylist()], rows["time"].type)
        rows = rows.set_column(rows.schema.get_field_index("time"), rows.schema.field("time"), moments)
        days = pa.array([moment.date() for moment in moments.to_pylist()])
        for day in days.unique():
            found = rows.filter(compute.equal(days, day))
            at = datetime.combine(day.as_py(), clock_time(), UTC)
            place = log / day_folder(at)
            place.mkdir(parents=True, exist_ok=True)
            parquet.write_table(found, place / f"{at:%H}-simulated-{time.time_ns()}{FINISHED}")
        self._moments, self._begun = {}, time.time()


def customers_of(database: Path) -> pd.DataFrame:
    """Everybody who ever signed up, and when they left."""
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(
            "SELECT customer_id, signed_up_at::DATE AS signed_up, cancelled_at::DATE AS left "
            "FROM customers LEFT JOIN cancellations USING (customer_id) ORDER BY customer_id"
        ).df()


def _days(story: Story, begins: date, ends: date, customers: pd.DataFrame) -> Iterator[tuple[date, list[int]]]:
    # The online store is filled on the first of these days: whoever signed up since is not in it.
    known = customers["signed_up"] < pd.Timestamp(begins)
    day = begins
    while day < ends:
        here = known & (customers["left"].isna() | (customers["left"] >= pd.Timestamp(day)))
        yield day, [customer for customer in customers["customer_id"][here].tolist() if story.due(customer, day)]
        day += DAY


def _rows_of(log: Path, wanted: pa.Array, since: float) -> pa.Table:
    """The rows of some requests, out of what servers have written since a time, finished and growing files alike."""
    found = []
    for file in sorted(log.rglob("*")):
        if "-simulated-" in file.name or file.suffix not in (FINISHED, GROWING):
            continue
        table = _table(file, since)
        if table is not None:
            found.append(table.filter(compute.is_in(table["request_id"], value_set=wanted)))
    # A file that was finished while it was read is there twice.
    return _once(pa.concat_tables(found, promote_options="default")) if found else pa.table({})


def _table(file: Path, since: float) -> pa.Table | None:
    try:
        return read(file) if file.stat().st_mtime >= since else None
    except FileNotFoundError:
        # It was finished meanwhile, under another name.
        return None


def _once(rows: pa.Table) -> pa.Table:
    seen: set[str] = set()
    keep = []
    for name in rows["request_id"].to_pylist():
        keep.append(name not in seen)
        seen.add(name)
    return rows.filter(pa.array(keep))


def logged_rows(world: World) -> pd.DataFrame:
    """Every row of the story in the log: `request_id`, and the features that the model was given."""
    log = Path(world.locations.prediction_log) / world.model
    files = literal(str(log / "*" / "*-simulated-*.parquet"))
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT request_id, unnest(features) FROM read_parquet({files})").df()
