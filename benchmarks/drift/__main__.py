"""False alarms a year, power and delay of drift rules, side by side. Run in the modelling environment.

    python -m benchmarks.drift [--champions N] [--windows N]

Weekly windows, 18 features and the score watched, beside eight training dates of the same world. An alarm is whatever
a rule would call somebody for.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.drift.rules import Rule, before, evidently, ks, ours, psi
from benchmarks.drift.worlds import BREAKS, SHIFTS, WORLDS, Event, World, happened, shifted
from benchmarks.ratios import Ratio, argument_parser, save_ratios

WEEKS = 52
RULES = ("KS", "PSI > 0.2", "Evidently, a column", "Evidently, half", "before", "ours")
# Windows of more rows are looked at by a sample of 20,000.
ROWS = (100, 1000, 10_000, 100_000)
LARGEST_WINDOWS = 2
"""Windows of 100,000 rows of each champion: they take long, by the other rules."""


def rules(world: World, random: np.random.Generator) -> dict[str, Rule]:
    """A champion of a world, as each rule knows it."""
    reference = world.reference(random)
    column, half = evidently(reference)
    found = (ks(reference), psi(reference), column, half, before(reference), ours(reference))
    return dict(zip(RULES, found, strict=True))


def alarms(
    world: World, rows: int, champions: int, windows: int, event: Event | None = None, names: tuple[str, ...] = RULES
) -> dict[str, float]:
    """The share of windows in which each rule alarms."""
    random = np.random.default_rng(rows)
    count = dict.fromkeys(names, 0)
    for _ in range(champions):
        known = rules(world, random)
        for _ in range(windows):
            window = world.window(rows, random)
            seen = window if event is None else happened(event, window)
            for name in names:
                count[name] += known[name](seen)
    return {name: number / (champions * windows) for name, number in count.items()}


def row(*cells: str) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--champions", type=int, default=4, help="behind each line, each with training dates of its own"
    )
    parser.add_argument("--windows", type=int, default=5, help="of each champion")
    arguments = parser.parse_args()
    champions, windows = arguments.champions, arguments.windows
    started, ratios = time.monotonic(), []
    print("False alarms a year")
    row("world", "rows", *RULES)
    for name, world in WORLDS.items():
        for rows in ROWS:
            found = alarms(world, rows, champions, LARGEST_WINDOWS if rows == ROWS[-1] else windows)
            row(name, f"{rows:,}", *(f"{WEEKS * found[rule]:.0f}" for rule in RULES))
            ratios.append(Ratio(f"false alarms a year, {name}, {rows:,} rows", WEEKS * found["ours"], "≤ 1"))
    print("\nPower in one window of 1,000 rows; the mean delay in weeks is one over it")
    row("world", "what happened", *RULES)
    for name in ("stationary", "wobble 0.2 sd"):
        events = {f"{by:g} sd in {features}": shifted(features, by) for features in (1, 3, 12) for by in SHIFTS}
        for what, event in {**events, **BREAKS}.items():
            found = alarms(WORLDS[name], 1000, champions, windows, event)
            row(name, what, *(f"{found[rule]:.0%}" for rule in RULES))
            if what in BREAKS:
                ratios.append(Ratio(f"found in the first window, {name}, {what}", found["ours"], "1"))
    print(f"{champions} champions with {windows} windows each, {time.monotonic() - started:.0f} s")
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
