"""A part of PromQL as values: written for Prometheus, or answered from what was just read where none runs.

Both say the same of the same metrics, which a test asks of a real Prometheus.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, Protocol

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""
Values = dict[Labels, float]
Moment = Mapping[str, Values]
"""All series of a moment, by the metric's name."""

WINDOW = "5m"
WINDOW_SECONDS = 300.0

_SELECTOR = re.compile(r"(?P<metric>[a-z_:]+)(?:\{(?P<matchers>.*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


@dataclass(frozen=True)
class Read:
    """What was read, and when (Unix time)."""

    at: float
    series: Moment


class Query(Protocol):
    """What a panel or an alert asks."""

    @property
    def by(self) -> tuple[str, ...]:
        """The labels of its answer."""

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest of what was read, oldest first."""


@dataclass(frozen=True)
class Rate:
    """How much counters grow in a second, over the window: `sum by (…) (rate(…))`."""

    selector: str
    by: tuple[str, ...] = ("model_name",)

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.selector,)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return f"sum by ({', '.join(self.by)}) (rate({self.selector}[{window}]))"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        return _summed(rates(self.selector, read), self.by)


@dataclass(frozen=True)
class Newest:
    """The newest value of gauges: `max by (…) (…)`."""

    selector: str
    by: tuple[str, ...] = ("model_name",)
    function: Literal["max", "sum"] = "max"

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.selector,)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return f"{self.function} by ({', '.join(self.by)}) ({self.selector})"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        found: dict[Labels, list[float]] = {}
        for labels, value in selected(self.selector, read[-1].series).items() if read else ():
            found.setdefault(_of(labels, self.by), []).append(value)
        together = math.fsum if self.function == "sum" else max
        return {labels: together(values) for labels, values in found.items()}


@dataclass(frozen=True)
class Quantile:
    """A quantile of a histogram's growth: `histogram_quantile(…)`."""

    share: float
    selector: str
    by: tuple[str, ...] = ("model_name",)

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.selector,)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return f"histogram_quantile({self.share:g}, {Rate(self.selector, (*self.by, 'le')).promql(window)})"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        spread: dict[Labels, dict[float, float]] = {}
        for labels, rate in Rate(self.selector, (*self.by, "le")).answer(read).items():
            bound = float(dict(labels).get("le", "nan"))
            if not math.isnan(bound):
                spread.setdefault(_of(labels, self.by), {})[bound] = rate
        return _finite({labels: _quantile(self.share, buckets) for labels, buckets in spread.items()})


@dataclass(frozen=True)
class Ratio:
    """One over the other."""

    above: Query
    below: Query

    @property
    def by(self) -> tuple[str, ...]:
        """Those of what is above."""
        return self.above.by

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return (*self.above.selectors, *self.below.selectors)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        match = ""
        if set(self.below.by) < set(self.above.by):
            match = f" on ({', '.join(self.below.by)}) group_left ()"
        return f"{_inner(self.above, window)} /{match} {_inner(self.below, window)}"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        below = self.below.answer(read)
        found = {}
        for labels, value in self.above.answer(read).items():
            whole = below.get(_of(labels, self.below.by))
            if whole:
                found[labels] = value / whole
        return found


@dataclass(frozen=True)
class Share:
    """A part of a whole, which is 0 where nothing of the part was ever counted."""

    part: Query
    whole: Query

    @property
    def by(self) -> tuple[str, ...]:
        """Those of the whole."""
        return self.whole.by

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return (*self.part.selectors, *self.whole.selectors)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        whole = _inner(self.whole, window)
        return f"({_inner(self.part, window)} or {whole} * 0) / {whole}"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        part = self.part.answer(read)
        return {labels: part.get(labels, 0.0) / whole for labels, whole in self.whole.answer(read).items() if whole}


@dataclass(frozen=True)
class Scaled:
    """A multiple, as in another unit."""

    query: Query
    factor: float

    @property
    def by(self) -> tuple[str, ...]:
        """Those of what is multiplied."""
        return self.query.by

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return self.query.selectors

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return f"{_inner(self.query, window)} * {self.factor:g}"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        return {labels: value * self.factor for labels, value in self.query.answer(read).items()}


@dataclass(frozen=True)
class Age:
    """Seconds since a time that a gauge tells: `time() - …`."""

    query: Query

    @property
    def by(self) -> tuple[str, ...]:
        """Those of the gauge."""
        return self.query.by

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return self.query.selectors

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return f"time() - {_inner(self.query, window)}"

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        return {labels: read[-1].at - value for labels, value in self.query.answer(read).items()}


@dataclass(frozen=True)
class FirstOf:
    """The first that has an answer, for each set of labels: `… or …`."""

    queries: tuple[Query, ...]

    @property
    def by(self) -> tuple[str, ...]:
        """Those of the first, which the others share."""
        return self.queries[0].by

    @property
    def selectors(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(selector for query in self.queries for selector in query.selectors)

    def promql(self, window: str = WINDOW) -> str:
        """As Prometheus is asked."""
        return " or ".join(_inner(query, window) for query in self.queries)

    def answer(self, read: Sequence[Read]) -> Values:
        """As of the newest."""
        found: Values = {}
        for query in self.queries:
            found = {**query.answer(read), **found}
        return found


def selected(selector: str, moment: Moment) -> Values:
    """The series of a moment that a selector means."""
    metric, matches = _matcher(selector)
    return {labels: value for labels, value in moment.get(metric, {}).items() if matches(dict(labels))}


def metric_of(selector: str) -> str:
    """The name of the metric."""
    return _matcher(selector)[0]


def rates(selector: str, read: Sequence[Read]) -> Values:
    """Growth in a second of each series, from the first to the last time that it was read within the window.

    A counter that is smaller than before began anew: a server was started again.
    """
    recent = [moment for moment in read if moment.at > read[-1].at - WINDOW_SECONDS] if read else []
    seen: dict[Labels, list[tuple[float, float]]] = {}
    for moment in recent:
        for labels, value in selected(selector, moment.series).items():
            seen.setdefault(labels, []).append((moment.at, value))
    found = {}
    for labels, points in seen.items():
        seconds = points[-1][0] - points[0][0]
        if seconds > 0:
            steps = pairwise(value for _, value in points)
            grown = math.fsum(after - before if after >= before else after for before, after in steps)
            found[labels] = grown / seconds
    return found


@cache
def _matcher(selector: str) -> tuple[str, Callable[[Mapping[str, str]], bool]]:
    parts = _SELECTOR.fullmatch(selector)
    if parts is None:
        raise ValueError(f'{selector!r} is no selector of a metric, such as up{{job="servers"}}')
    wanted = _MATCHER.findall(parts["matchers"] or "")

    def matches(labels: Mapping[str, str]) -> bool:
        for name, how, value in wanted:
            found = labels.get(name, "")
            fits = re.fullmatch(value, found) is not None if how == "=~" else (found == value) is (how == "=")
            if not fits:
                return False
        return True

    return parts["metric"], matches


def _of(labels: Labels, by: Iterable[str]) -> Labels:
    wanted = set(by)
    return tuple((name, value) for name, value in labels if name in wanted and value)


def _summed(values: Values, by: Iterable[str]) -> Values:
    found: Values = {}
    for labels, value in values.items():
        kept = _of(labels, by)
        found[kept] = found.get(kept, 0.0) + value
    return found


def _quantile(share: float, buckets: Mapping[float, float]) -> float:
    """As Prometheus has it: linear within a bucket, and the last bound that is a number for what is beyond it."""
    bounds = sorted(buckets)
    below = [buckets[bound] for bound in bounds]
    if len(bounds) < 2 or bounds[-1] != math.inf or not below[-1] > 0:
        return math.nan
    rank = share * below[-1]
    place = bisect_left(below, rank)
    if place == len(bounds) - 1:
        return bounds[-2]
    begin, before = (bounds[place - 1], below[place - 1]) if place else (0.0, 0.0)
    return begin + (bounds[place] - begin) * (rank - before) / (below[place] - before)


def _finite(values: Values) -> Values:
    return {labels: value for labels, value in values.items() if math.isfinite(value)}


def _inner(query: Query, window: str) -> str:
    """In brackets where an operator of its own could be misread."""
    text = query.promql(window)
    return text if isinstance(query, Rate | Newest | Quantile) else f"({text})"
