"""How often the drift rule alarms: by mistake, and when it should. Run in the modelling environment.

    python -m benchmarks.drift_rule [--windows N]

A model of ten numeric and two categorical features and its score; in a shifted window every third feature and the
score move, by 0.1 (small) or 0.5 (medium) standard deviations, and as many points of the first category. Beside ours:
what Evidently decides by its defaults, any column of the same window counting as an alarm for both.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.rule import compare, decide
from kfp_lifecycle.config.monitoring import Monitoring

NUMBERS, CATEGORIES = 10, 2
REFERENCE_ROWS = 5000
SHIFTS = {"none": 0.0, "small": 0.1, "medium": 0.5}
ROWS = (100, 500, 5000)


def window(rows: int, shift: float, random: np.random.Generator) -> pd.DataFrame:
    """Rows of a window; every third feature and the score are moved."""
    columns: dict[str, object] = {}
    for number in range(NUMBERS):
        values = random.normal(shift if number % 3 == 0 else 0.0, 1, rows)
        # Half of real features have a long tail.
        columns[f"number_{number}"] = np.exp(values) if number % 2 else values
    for number in range(CATEGORIES):
        moved = 0.2 * shift if number == 0 else 0.0
        columns[f"category_{number}"] = random.choice(list("abc"), rows, p=[0.5 + moved, 0.3 - moved, 0.2])
    columns["score"] = 1 / (1 + np.exp(2 - random.normal(shift, 1, rows)))
    return pd.DataFrame(columns)


def ours(reference: pd.DataFrame, current: pd.DataFrame, inputs: list[Feature]) -> tuple[bool, bool]:
    """Whether any column drifts, and whether retraining is asked for."""
    findings = compare(reference, current, inputs, Monitoring())
    decision, _ = decide(findings, len(inputs), len(current), Monitoring())
    return any(finding.drifted for finding in findings), decision == "retrain"


def evidentlys(reference: pd.DataFrame, current: pd.DataFrame, inputs: list[Feature]) -> tuple[bool, bool]:
    """Whether any column drifts by Evidently's defaults, and whether the share that it takes for drift of all does."""
    from evidently.legacy.calculations.stattests.registry import get_stattest

    drifted = []
    for column in [*inputs, Feature("score", "numeric")]:
        kind = "num" if column.type == "numeric" else "cat"
        before, after = reference[column.name], current[column.name]
        drifted.append(get_stattest(before, after, kind, None)(before, after, kind, None).drifted)
    return any(drifted), bool(np.mean(drifted) >= 0.5)


def main() -> None:
    """Print the table."""
    os.environ["DO_NOT_TRACK"] = "1"
    parser = argument_parser(__doc__)
    parser.add_argument("--windows", type=int, default=30, help="windows behind each line")
    arguments = parser.parse_args()
    windows = arguments.windows
    inputs = [Feature(f"number_{number}", "numeric") for number in range(NUMBERS)]
    inputs += [Feature(f"category_{number}", "categorical") for number in range(CATEGORIES)]
    random = np.random.default_rng(0)
    reference = window(REFERENCE_ROWS, 0.0, random)
    started = time.monotonic()
    ratios = []
    print("                 a column drifts      the decision")
    print("rows   shift     ours   Evidently     retrain   Evidently's dataset drift")
    for rows in ROWS:
        for name, shift in SHIFTS.items():
            alarms = np.zeros(4)
            for _ in range(windows):
                current = window(rows, shift, random)
                alarms += [*ours(reference, current, inputs), *evidentlys(reference, current, inputs)]
            any_ours, retrain, any_theirs, theirs = alarms / windows
            print(f"{rows:5}  {name:8} {any_ours:5.0%}  {any_theirs:8.0%}  {retrain:10.0%}  {theirs:9.0%}", flush=True)
            if not shift:
                what = f"false alarms / windows of {rows:,} rows without drift"
                ratios += [Ratio(f"{what}, our rule", any_ours), Ratio(f"{what}, Evidently's defaults", any_theirs)]
    print(f"{windows} windows each, {time.monotonic() - started:.0f} s")
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
