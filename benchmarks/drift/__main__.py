"""False alarms a year, power and delay of drift rules, side by side. Run in the modelling environment.

    python -m benchmarks.drift [features | outcomes | real …] [--champions N] [--windows N] [--elec2 FILE]

`features`: weekly windows, 18 features and the score watched, beside eight training dates of the same world. An alarm
is whatever a rule would call somebody for. `outcomes`: weeks of scores and labels, whose relation changes. `real`:
people among whom nothing drifts, and prices of electricity, where a file of them is given. NannyML and alibi-detect
take part where they are installed.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.drift.outcomes import CHANGES, WATCHERS, WEEKS_AFTER, WEEKS_BEFORE, delays
from benchmarks.drift.real import electricity, people
from benchmarks.drift.rules import Rule, alibi, before, evidently, installed, ks, nannyml, ours, psi
from benchmarks.drift.worlds import BREAKS, INPUTS, SHIFTS, WORLDS, Event, World, happened, joined_wrongly, shifted
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.feature import Feature

PARTS = ("features", "outcomes", "real")
WEEKS = 52
PEERS = {"NannyML": ("nannyml", nannyml), "alibi-detect": ("alibi_detect", alibi)}
HERE = [name for name, (module, _) in PEERS.items() if installed(module)]
RULES = ("KS", "PSI > 0.2", "Evidently, a column", "Evidently, half", *HERE, "before", "ours")
# Windows of more rows are looked at by a sample of 20,000.
ROWS = (100, 1000, 10_000, 100_000)
LARGEST_WINDOWS = 2
"""Windows of 100,000 rows of each champion: they take long, by the other rules."""


# Rows of a week in which this many events are expected, by the rate of the outcomes' world.
ROWS_OF_OUTCOMES = {320: 16, 1280: 64}


def rules(reference: pd.DataFrame, inputs: list[Feature] = INPUTS) -> dict[str, Rule]:
    """A champion, as each rule knows it."""
    column, half = evidently(reference, inputs)
    peers = [PEERS[name][1](reference, inputs) for name in HERE]
    found = (ks(reference, inputs), psi(reference, inputs), column, half, *peers, before(reference, inputs))
    return dict(zip(RULES, (*found, ours(reference, inputs)), strict=True))


def alarms(
    world: World, rows: int, champions: int, windows: int, event: Event | None = None, names: tuple[str, ...] = RULES
) -> dict[str, float]:
    """The share of windows in which each rule alarms."""
    random = np.random.default_rng(rows)
    count = dict.fromkeys(names, 0)
    for _ in range(champions):
        known = rules(world.reference(random))
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
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument(
        "--champions", type=int, default=4, help="behind each line, each with training dates of its own"
    )
    parser.add_argument("--windows", type=int, default=5, help="of each champion")
    parser.add_argument("--repeats", type=int, default=40, help="behind each line of outcomes")
    parser.add_argument("--elec2", type=Path, help="elec.csv, of prices of electricity")
    arguments = parser.parse_args()
    started, ratios = time.monotonic(), []
    parts = arguments.parts or PARTS
    if "features" in parts:
        ratios += of_features(arguments.champions, arguments.windows)
    if "outcomes" in parts:
        ratios += of_outcomes(arguments.repeats)
    if "real" in parts:
        ratios += of_real(arguments.elec2)
    print(f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} s of processors")
    save_ratios(ratios, arguments.ratios)


def of_features(champions: int, windows: int) -> list[Ratio]:
    """Rules about features, where nothing happens and where something does."""
    ratios = []
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
        for what, event in {**events, **BREAKS, "joined wrongly": joined_wrongly}.items():
            found = alarms(WORLDS[name], 1000, champions, windows, event)
            row(name, what, *(f"{found[rule]:.0%}" for rule in RULES))
            if what in BREAKS:
                ratios.append(Ratio(f"found in the first window, {name}, {what}", found["ours"], "1"))
    print(f"{champions} champions with {windows} windows each")
    return ratios


def of_outcomes(repeats: int) -> list[Ratio]:
    """What watches outcomes, where the relation of scores and labels changes."""
    ratios = []
    print(f"\nOutcomes: false alarms a year; after a change, the median delay in weeks and the share found in "
          f"{WEEKS_AFTER} weeks, of those that were silent before it")  # fmt: skip
    row("what happened", "events a week", *WATCHERS)
    for rows, events in ROWS_OF_OUTCOMES.items():
        random = np.random.default_rng(rows)
        quiet = delays(rows, None, repeats, random)
        yearly = {}
        for name, found in quiet.items():
            watched = sum(WEEKS_BEFORE + WEEKS_AFTER if at is None else at + 1 for at in found)
            yearly[name] = WEEKS * sum(at is not None for at in found) / watched
            if name.startswith("our"):
                ratios.append(Ratio(f"false alarms a year, {name}, {events} events a week", yearly[name], "≤ 1"))
        row("nothing", str(events), *(f"{yearly[name]:.2f}" for name in WATCHERS))
        for what, change in CHANGES.items():
            told = []
            for found in delays(rows, change, repeats, random).values():
                later = [at for at in found if at is None or at >= 0]
                seen = [at + 1 for at in later if at is not None]
                never = "never" if later else "–"
                told.append(f"{np.median(seen):.0f}, {len(seen) / len(later):.0%}" if seen else never)
            row(what, str(events), *told)
    return ratios


def of_real(elec2: Path | None) -> list[Ratio]:
    """Rules about features, on data that nobody invented."""
    found = people(rules)
    print(f"\nACS employment, {len(found)} weeks of 1,000 people: share of weeks in which each alarms")
    row(*RULES)
    row(*(f"{found[rule].mean():.0%}" for rule in RULES))
    if elec2 is not None:
        prices = electricity(elec2, rules)
        print("\nELEC2: share of weeks in which each alarms, by quarters of the time, beside the model's ROC AUC")
        row("weeks", "ROC AUC", *RULES)
        for part in np.array_split(np.arange(len(prices)), 4):
            of = prices.iloc[part]
            row(
                f"{of.week.min()} to {of.week.max()}",
                f"{of.AUC.mean():.2f}",
                *(f"{of[rule].mean():.0%}" for rule in RULES),
            )
    return [Ratio("false alarms a year, ACS employment", float(found["ours"].sum()), "≤ 1")]


if __name__ == "__main__":
    main()
