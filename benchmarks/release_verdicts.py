"""How often a release is rolled back by mistake, and how soon a worse candidate is caught. Run in platform.

    python -m benchmarks.release_verdicts [--simulations N]

Both versions are invented, the controller is the real one: by default settings it asks them, looks at what people ask
of them, and decides. An answer takes 5 ms, spread log-normally (sigma 0.3), one in a hundred ten times as long. Scores
are spread by 0.2 around 0.4, and the versions differ in them by 0.05 a row. One request in a thousand fails, and one in
a hundred of people's is refused, by both. People ask 60 requests between two looks, or none; what they asked before is
in the prediction log, 100 requests that the champion answered. The candidates: as good;
errors of some points more; latency of some percent more; every score shifted by some standard deviations, or spread
wider, or nearly the same for everyone; and one that is 100 ms slower, and one that refuses 73% of people's requests, be
it now or before.
"""

from __future__ import annotations

import functools
import json
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.serving import Example
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.serving.client import Answer, v2_request
from kfp_lifecycle.serving.release import release as controller
from kfp_lifecycle.serving.release.local.envoy import LATENCY_BOUNDS_MS
from kfp_lifecycle.serving.release.release import RolledBack, Undecided, release
from kfp_lifecycle.serving.release.replay import Replayed
from kfp_lifecycle.serving.release.traffic import Counts, Stage

ROWS, LOGGED_ROWS = 50, 100
# Numbers of rows from here on are those that people asked before.
LOGGED_FROM = 10**9
SPREAD = 0.2
USUAL_FAILURES, USUAL_REFUSALS = 0.001, 0.01
AT_ONCE = 60
# A rate of one in a hundred needs more releases than one of nearly all or none.
OF_GOOD = 10


@dataclass(frozen=True)
class Behaviour:
    """How a version differs from a good one."""

    failures: float = 0.0
    """Added to the usual share of failing requests."""
    refusals: float = 0.0
    """Added to the usual share of people's requests that are refused; the examples of a release are well formed."""
    slower: float = 0.0
    """Added to its latency, as a share of it."""
    milliseconds: float = 0.0
    """Added to its latency."""
    shift: float = 0.0
    """Added to each score, in standard deviations."""
    spread: float = 1.0
    """How many times as far each score is from their mean."""


CANDIDATES: Mapping[str, Behaviour] = {
    "as good": Behaviour(),
    "errors +0.5 points": Behaviour(failures=0.005),
    "errors +1": Behaviour(failures=0.01),
    "errors +2": Behaviour(failures=0.02),
    "errors +5": Behaviour(failures=0.05),
    "latency +20%": Behaviour(slower=0.2),
    "latency +50%": Behaviour(slower=0.5),
    "latency +100%": Behaviour(slower=1.0),
    "latency +300%": Behaviour(slower=3.0),
    "scores +0.1 sd": Behaviour(shift=0.1),
    "scores +0.5 sd": Behaviour(shift=0.5),
    "scores +1 sd": Behaviour(shift=1.0),
    "scores spread by 1.3": Behaviour(spread=1.3),
    "scores spread by 2": Behaviour(spread=2.0),
    "scores nearly alike": Behaviour(spread=0.1),
    "100 ms slower": Behaviour(milliseconds=100.0),
    "refuses 73%": Behaviour(refusals=0.73),
}


@dataclass
class Invented:
    """Traffic between two versions that do not exist."""

    behaviour: Behaviour
    people: int
    """Requests of people at each look."""
    chance: random.Random
    candidate: str = "2"
    champion: str | None = "1"
    addressable: bool = True
    champion_stays: bool = True
    counts_come_late: bool = False
    asked: int = 0
    """Requests that the candidate has had."""
    stage: Stage = field(default_factory=lambda: Stage(0))
    ended: str = ""
    _counts: dict[str, Counts] = field(default_factory=dict)

    def start_candidate(self) -> None:
        """It is there."""

    def shift(self, stage: Stage) -> None:
        """The next stage."""
        self.stage = stage

    def _of(self, version: str) -> Behaviour:
        return self.behaviour if version == self.candidate else Behaviour()

    def _milliseconds(self, behaviour: Behaviour) -> float:
        usual = 5 * math.exp(self.chance.gauss(0, 0.3)) * (10 if self.chance.random() < 0.01 else 1)
        return usual * (1 + behaviour.slower) + behaviour.milliseconds

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """One of the release's own requests."""
        behaviour, row = self._of(version), request["inputs"][0]["data"][0]
        self.asked += version == self.candidate
        if self.chance.random() < USUAL_FAILURES + behaviour.failures:
            return Answer(500, "", 0.005, {})
        if row >= LOGGED_FROM and random.Random(row).random() < behaviour.refusals:
            return Answer(400, "", 0.005, {})
        body = json.dumps({"outputs": [{"name": "score", "data": [score_of(version, row, behaviour)]}]})
        return Answer(200, body, self._milliseconds(behaviour) / 1000, {})

    def counts(self, version: str) -> Counts:
        """What people asked since the last look, added to what they did before."""
        share = self.stage.percent / 100
        expected = self.people * (share if version == self.candidate else 1 - share)
        number = max(0, round(self.chance.gauss(expected, math.sqrt(self.people * share * (1 - share)))))
        behaviour = self._of(version)
        self.asked += number if version == self.candidate else 0
        times = sorted(self._milliseconds(behaviour) for _ in range(number))
        fresh = Counts(
            number,
            sum(self.chance.random() < USUAL_FAILURES + behaviour.failures for _ in range(number)),
            sum(self.chance.random() < USUAL_REFUSALS + behaviour.refusals for _ in range(number)),
            {bound: number - bisect_right(times, bound) for bound in LATENCY_BOUNDS_MS},
        )
        self._counts[version] = self._counts.get(version, Counts()).plus(fresh)
        return self._counts[version]

    def promote(self) -> None:
        """The end of a release that went well."""
        self.ended = "promoted"

    def withdraw(self) -> None:
        """The end of one that did not."""
        self.ended = f"rolled back at {self.stage.percent}%"


@functools.cache
def score_of(version: str, row: int, behaviour: Behaviour) -> float:
    """The score of a row, the same at each request."""
    usual = random.Random(row).gauss(0, SPREAD) + random.Random(f"{version} {row}").gauss(0, 0.05)
    return 0.4 + usual * behaviour.spread + behaviour.shift * SPREAD


def simulate(behaviour: Behaviour, people: int, seed: int) -> tuple[str, int]:
    """One release: how it ended, and after how many requests to the candidate."""
    traffic = Invented(behaviour, people, random.Random(seed))
    rows = [Example(features={"row": row + seed * ROWS}, score=0.0) for row in range(ROWS)]
    examples = [row.model_copy(update={"score": score_of("2", row.features["row"], behaviour)}) for row in rows]
    inputs, first = [Feature("row", "numeric")], LOGGED_FROM + seed * LOGGED_ROWS
    logged = [
        Replayed(v2_request(inputs, [{"row": row}]), frozenset({"row"})) for row in range(first, first + LOGGED_ROWS)
    ]
    score_of.cache_clear()
    try:
        release(traffic, Deployment(model="invented"), inputs, examples, replayed=logged)
    except RolledBack:
        pass
    except Undecided:
        traffic.ended = "paused"
    return traffic.ended, traffic.asked


def main() -> None:
    """Simulate and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", nargs="*", metavar="CANDIDATE", help="these candidates")
    parser.add_argument(
        "--simulations",
        type=int,
        default=50,
        metavar="N",
        help="releases of each candidate; of a good one ten times as many",
    )
    arguments = parser.parse_args()
    controller.LOOK_SECONDS = 0.0
    print("| candidate | people ask | promoted | paused | back at 10% | back at 50% | at 100% | requests to it |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    ratios = []
    for name in arguments.only or CANDIDATES:
        behaviour = CANDIDATES[name]
        for people in (0, AT_ONCE):
            number = arguments.simulations * (OF_GOOD if name == "as good" else 1)
            runs = [simulate(behaviour, people, seed) for seed in range(number)]
            ends = Counter(end for end, _ in runs)
            requests = sorted(asked for _, asked in runs)[len(runs) // 2]
            kinds = ("promoted", "paused", *(f"rolled back at {percent}%" for percent in (10, 50, 100)))
            cells = " | ".join(f"{ends[kind] / len(runs):.1%}" for kind in kinds)
            print(f"| {name} | {people} | {cells} | {requests} |", flush=True)
            if name == "as good":
                back = sum(count for end, count in ends.items() if end.startswith("rolled back")) / len(runs)
                asking = f"{people} requests of people a look"
                ratios.append(Ratio(f"releases of a good candidate rolled back, {asking}", back, "at most 0.01"))
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
