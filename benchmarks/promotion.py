"""How often the comparison with the champion promotes: by mistake, and when it should. Run in modelling.

    python -m benchmarks.promotion [--simulations N]

Businesses are simulated of which every customer has two rows, alike in what they do and in how the models err on them.
Champion and candidate see the truth through noise of their own, as two models that were trained independently do, and
have an AUC of about 0.80 (an event in 11% of rows); a better candidate has less noise. Decided as `decide_promotion`
does by default: the lower end of the 95% interval of the lead in AUC above 0 on the newest rows, and above -0.02 on as
many rows that the champion was judged by. Beside it: the same test as if rows were independent, and the higher AUC.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.config.gate import Champion
from kfp_lifecycle.uncertainty.area import Area, area
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, interval

Floats = NDArray[np.float64]

ROWS = (1_000, 10_000, 100_000)
# Simulations cost as many rows as they have; fewer of the largest give figures in the same time.
SHARES = (1.0, 0.5, 0.15)
LEADS = (0.0, 0.005, 0.01, 0.02)
CHAMPION_NOISE = 1.0
# Share of the variance that both rows of a customer have in common, of the truth as of a model's errors.
OF_CUSTOMER = 0.7
# Share of a model's errors that every other model makes too.
OF_ALL_MODELS = 0.5
MEAN, SPREAD = -2.8, 1.7
REPLICATES = 400


@dataclass(frozen=True)
class Business:
    """Rows of one simulated window.

    Attributes:
        entity: The customer of each row, shape (n,).
        label: 0 or 1, shape (n,).
        truth: The event's log-odds, shape (n,).
        shared: Errors that all models make, shape (n,), of variance 1.
    """

    entity: NDArray[np.int64]
    label: NDArray[np.int8]
    truth: Floats
    shared: Floats

    def score(self, noise: float, own: Floats) -> Floats:
        """A model's probabilities: the truth through errors of a standard deviation, well calibrated, shape (n,)."""
        seen = self.truth + noise * (np.sqrt(OF_ALL_MODELS) * self.shared + np.sqrt(1 - OF_ALL_MODELS) * own)
        kept = SPREAD**2 / (SPREAD**2 + noise**2)
        # The mean of a logistic curve over a normal distribution: MacKay 1992, "The evidence framework".
        expected = (MEAN + kept * (seen - MEAN)) / np.sqrt(1 + np.pi * SPREAD**2 * (1 - kept) / 8)
        probability: Floats = 1 / (1 + np.exp(-expected))
        return probability


def effects(rows: int, random: np.random.Generator) -> Floats:
    """Of variance 1, alike for the two rows of a customer, shape (rows,)."""
    of_customer = np.repeat(random.standard_normal(rows // 2), 2)
    both: Floats = np.sqrt(OF_CUSTOMER) * of_customer + np.sqrt(1 - OF_CUSTOMER) * random.standard_normal(rows)
    return both


def business(rows: int, random: np.random.Generator) -> Business:
    """A window of a number of rows."""
    truth = MEAN + SPREAD * effects(rows, random)
    label = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    return Business(np.repeat(np.arange(rows // 2), 2), label, truth, effects(rows, random))


def noises(random: np.random.Generator) -> tuple[float, dict[float, float]]:
    """The champion's AUC, and the noise of a candidate that leads by each of `LEADS`, from a million rows."""
    large = business(1_000_000, random)
    own = effects(1_000_000, random)
    grid = np.linspace(CHAMPION_NOISE, CHAMPION_NOISE - 0.35, 8)
    values = [area(large.label, large.score(noise, own), large.entity, 500_000).value for noise in grid]
    return values[0], {lead: float(np.interp(values[0] + lead, values, grid)) for lead in LEADS}


def measured(window: Business, noise: float, random: np.random.Generator) -> Area:
    """A model's AUC on a window."""
    own = effects(len(window.label), random)
    return area(window.label, window.score(noise, own), window.entity, int(window.entity[-1]) + 1)


def by_row(window: Business, random: np.random.Generator) -> bool:
    """Whether an equal candidate is promoted when rows are taken for independent."""
    rows = len(window.label)
    ours, theirs = (
        area(window.label, window.score(CHAMPION_NOISE, effects(rows, random)), np.arange(rows), rows) for _ in range(2)
    )
    return ours.less(theirs).low > 0


def by_bootstrap(window: Business, random: np.random.Generator) -> bool:
    """Whether an equal candidate is promoted by the paired bootstrap of the Brier score."""
    rows = len(window.label)
    ours, theirs = ((window.score(CHAMPION_NOISE, effects(rows, random)) - window.label) ** 2 for _ in range(2))
    bootstrap = Bootstrap(window.entity, REPLICATES, int(random.integers(2**32)))
    sums = bootstrap.totals(np.column_stack([theirs - ours, np.ones(rows)]))
    return interval(float((theirs - ours).mean()), sums[:, 0] / sums[:, 1], rows).low > 0


def main() -> None:
    """Print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--simulations", type=int, default=200, help="behind each line of the smallest business")
    arguments = parser.parse_args()
    rule = Champion()
    allowed = rule.non_inferiority["roc_auc"]
    random = np.random.default_rng(0)
    started = time.monotonic()
    champion_auc, noise_of = noises(random)
    print(f"the champion's AUC is {champion_auc:.3f}; share of candidates promoted, by their true lead:")
    print("                          " + "".join(f"{f'+{lead:g}' if lead else 'equal':>9}" for lead in LEADS))
    ratios = []
    for rows, share in zip(ROWS, SHARES, strict=True):
        simulations = max(10, int(share * arguments.simulations))
        better, whole, higher = (np.zeros(len(LEADS)) for _ in range(3))
        independent = bootstrapped = identical = 0
        for _ in range(simulations):
            newest, former = business(rows, random), business(rows, random)
            before = [measured(window, CHAMPION_NOISE, random) for window in (newest, former)]
            identical += before[0].less(before[0]).low > rule.margin
            for position, lead in enumerate(LEADS):
                now = [measured(window, noise_of[lead], random) for window in (newest, former)]
                superior = now[0].less(before[0]).low > rule.margin
                better[position] += superior
                whole[position] += superior and now[1].less(before[1]).low > -allowed
                higher[position] += now[0].value > before[0].value
            independent += by_row(newest, random)
            bootstrapped += by_bootstrap(newest, random)
        for name, promoted in (("the rule", whole), ("better on the newest", better), ("the higher AUC", higher)):
            figures = "".join(f"{count / simulations:>9.1%}" for count in promoted)
            print(f"{rows:>7,} {name:>20}{figures}", flush=True)
        print(
            f"        of equal ones: {independent / simulations:.1%} as if rows were independent, "
            f"{bootstrapped / simulations:.1%} by the bootstrap of the Brier score; of identical ones {identical}; "
            f"{simulations:,} simulations",
            flush=True,
        )
        ratios.append(Ratio(f"equal models promoted / judged on {rows:,} rows", float(whole[0] / simulations), "2.5%"))
    print(f"{time.monotonic() - started:.0f} s")
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
