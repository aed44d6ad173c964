"""False alarms a year, power and delay of drift rules, side by side. Run in the modelling environment.

    python -m benchmarks.drift [features | outcomes | real …] [--champions N] [--windows N] [--rules RULE …]
        [--elec2 FILE]

`features`: weekly windows, 18 features and the score watched, beside eight training dates of the same world. An alarm
is whatever a rule would call somebody for. `outcomes`: weeks of scores and labels, whose relation changes. `real`:
people among whom nothing drifts, and prices of electricity, where a file of them is given. NannyML and alibi-detect
take part where they are installed. Windows are the same ones in each run, whichever rules are asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import product, repeat
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.drift.outcomes import CHANGES, RATE, WATCHERS, WEEKS_AFTER, delays, false_alarms
from benchmarks.drift.outcomes import WORLDS as OUTCOME_WORLDS
from benchmarks.drift.real import electricity, people
from benchmarks.drift.rules import Rule, alibi, evidently, installed, ks, nannyml, ours, psi
from benchmarks.drift.worlds import (
    BREAKS,
    INPUTS,
    NEWEST_DATE,
    SHIFTS,
    WORLDS,
    Event,
    World,
    happened,
    joined_wrongly,
    shifted,
)
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.rule import TIME

PARTS = ("features", "outcomes", "real")
WEEKS = 52
WEEK = timedelta(days=7)
PEERS = {"NannyML": ("nannyml", nannyml), "alibi-detect": ("alibi_detect", alibi)}
HERE = [name for name, (module, _) in PEERS.items() if installed(module)]
NOTHING = {"nothing": lambda frame: frame}
OURS = "ours"
RULES = ("KS", "PSI > 0.2", "Evidently, a column", "Evidently, half", *HERE, OURS)
ROWS = (100, 1000, 10_000, 100_000)
LARGEST_WINDOWS = 1
"""Windows of 100,000 rows of each champion: they take long, by the other rules."""
# Of outcomes: weeks until one is known, by the events that are expected in a week.
HORIZONS = {10: (1, 4), 50: (1, 4), 250: (1, 4), 1000: (1,)}
FEWEST_RUNS = 12


def rules(chosen: Sequence[str], reference: pd.DataFrame, rows: int, inputs: list[Feature] = INPUTS) -> dict[str, Rule]:
    """A champion, as each chosen rule knows it, to be asked of windows of so many rows."""
    column, half = evidently(reference, inputs)
    peers = [PEERS[name][1](reference, inputs, rows) for name in HERE]
    found = (ks(reference, inputs), psi(reference, inputs), column, half, *peers, ours(reference, inputs))
    return {name: rule for name, rule in zip(RULES, found, strict=True) if name in chosen}


def alarms(
    world: World, rows: int, chosen: Sequence[str], champions: int, windows: int, events: Mapping[str, Event] = NOTHING
) -> dict[str, dict[str, float]]:
    """The share of windows in which each rule alarms, after each event; all of them on the same windows."""
    random = np.random.default_rng(rows)
    count = {what: dict.fromkeys(chosen, 0) for what in events}
    for _ in range(champions):
        known = rules(chosen, world.reference(random), rows)
        for week in range(1, windows + 1):
            window = world.window(rows, random).assign(**{TIME: NEWEST_DATE + week * WEEK})
            for what, event in events.items():
                seen = window if events is NOTHING else happened(event, window)
                for name, rule in known.items():
                    count[what][name] += rule(seen)
    return {
        what: {name: number / (champions * windows) for name, number in found.items()} for what, found in count.items()
    }


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
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES), help="all that are installed")
    parser.add_argument("--elec2", type=Path, help="elec.csv, of prices of electricity")
    arguments = parser.parse_args()
    started, ratios = time.monotonic(), []
    parts = arguments.parts or PARTS
    if "features" in parts:
        ratios += of_features(arguments.rules, arguments.champions, arguments.windows)
    if "outcomes" in parts:
        ratios += of_outcomes(arguments.repeats)
    if "real" in parts:
        ratios += of_real(arguments.rules, arguments.elec2)
    print(f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} s of processors")
    save_ratios(ratios, arguments.ratios)


def of_features(chosen: Sequence[str], champions: int, windows: int) -> list[Ratio]:
    """Rules about features, where nothing happens and where something does."""
    ratios = []
    print("False alarms a year")
    row("world", "rows", *chosen)
    for name, world in WORLDS.items():
        for rows in ROWS:
            seen = LARGEST_WINDOWS if rows == ROWS[-1] else windows
            found = alarms(world, rows, chosen, champions, seen)["nothing"]
            row(name, f"{rows:,}", *(f"{WEEKS * found[rule]:.0f}" for rule in chosen))
            if OURS in chosen:
                ratios.append(Ratio(f"false alarms a year, {name}, {rows:,} rows", WEEKS * found[OURS], "≤ 1"))
    print("\nPower in one window of 1,000 rows; the mean delay in weeks is one over it")
    row("world", "what happened", *chosen)
    for name in ("stationary", "wobble 0.2 sd"):
        events: dict[str, Event] = {
            f"{by:g} sd in {features}": shifted(features, by) for features in (1, 3, 12) for by in SHIFTS
        }
        events |= {**BREAKS, "joined wrongly": joined_wrongly}
        for what, found in alarms(WORLDS[name], 1000, chosen, champions, windows, events).items():
            row(name, what, *(f"{found[rule]:.0%}" for rule in chosen))
            if what in BREAKS and OURS in chosen:
                ratios.append(Ratio(f"found in the first window, {name}, {what}", found[OURS], "1"))
    print(f"{champions} champions with {windows} windows each")
    return ratios


def of_outcomes(repeats: int) -> list[Ratio]:
    """What watches outcomes, where nothing happens and where the relation of scores and labels changes."""
    ratios = []
    sizes = [(events, horizon) for events, horizons in HORIZONS.items() for horizon in horizons]
    with ProcessPoolExecutor() as pool:
        print("\nOutcomes: false alarms a year")
        row("world", "events a week", "horizon", *WATCHERS)
        lines = list(product(OUTCOME_WORLDS, sizes))
        for (name, size), found in zip(lines, pool.map(quiet, lines, repeat(repeats)), strict=True):
            row(name, *told_size(size), *(f"{found[watcher]:.2f}" for watcher in WATCHERS))
            ratios += [
                Ratio(f"false alarms a year, {watcher}, {name}, {size[0]} events a week", often, "≤ 1")
                for watcher, often in found.items()
                if watcher.startswith("our")
            ]
        print(
            "\nAfter a change: median of the weeks to the alarm, 1 being that in which it began, and the share that "
            f"alarmed within {WEEKS_AFTER}, of those that were silent before"
        )
        row("what happened", "events a week", "horizon", *WATCHERS)
        lines = list(product(CHANGES, sizes))
        for (what, size), found in zip(lines, pool.map(changed, lines, repeat(repeats)), strict=True):
            row(what, *told_size(size), *found)
    print(f"{repeats} runs behind each line; of {', '.join(f'{size:,}: {runs(size, repeats)}' for size in HORIZONS)}")
    return ratios


Size = tuple[int, int]
"""Events that are expected in a week, and weeks until an outcome is known."""


def runs(events: int, repeats: int) -> int:
    """How many: fewer of large weeks, which take long and differ less."""
    return max(FEWEST_RUNS, repeats * 50 // max(events, 50))


def quiet(line: tuple[str, Size], repeats: int) -> dict[str, float]:
    """False alarms a year in a world of outcomes."""
    name, (events, horizon) = line
    random = np.random.default_rng([events, horizon])
    return false_alarms(OUTCOME_WORLDS[name], round(events / RATE), horizon, runs(events, repeats), random)


def changed(line: tuple[str, Size], repeats: int) -> list[str]:
    """How soon each notices a change."""
    what, (events, horizon) = line
    random = np.random.default_rng([events, horizon, 1])
    told = []
    for found in delays(round(events / RATE), horizon, CHANGES[what], runs(events, repeats), random).values():
        if not found:
            told.append("alarmed before")
            continue
        # One that has not alarmed is later than all that have.
        middle = float(np.median([WEEKS_AFTER + 1 if at is None else at for at in found]))
        share = np.mean([at is not None for at in found])
        told.append(f"{middle:g}, {share:.0%}" if middle <= WEEKS_AFTER else f"–, {share:.0%}")
    return told


def told_size(size: Size) -> tuple[str, str]:
    """In words."""
    events, horizon = size
    return f"{events:,}", f"{horizon} week{'s' if horizon > 1 else ''}"


def of_real(chosen: Sequence[str], elec2: Path | None) -> list[Ratio]:
    """Rules about features, on data that nobody invented."""
    asked = partial(rules, chosen)
    found = people(asked)
    print(f"\nACS employment, {len(found)} weeks of 1,000 people: share of weeks in which each alarms")
    row(*chosen)
    row(*(f"{found[rule].mean():.0%}" for rule in chosen))
    if elec2 is not None:
        prices = electricity(elec2, asked)
        print("\nELEC2: share of weeks in which each alarms, by quarters of the time, beside the model's ROC AUC")
        row("weeks", "ROC AUC", *chosen)
        for part in np.array_split(np.arange(len(prices)), 4):
            of = prices.iloc[part]
            row(
                f"{of.week.min()} to {of.week.max()}",
                f"{of.AUC.mean():.2f}",
                *(f"{of[rule].mean():.0%}" for rule in chosen),
            )
    return [Ratio("false alarms a year, ACS employment", float(found[OURS].sum()), "≤ 1")] if OURS in chosen else []


if __name__ == "__main__":
    main()
