"""How long threads that wait for each other may spin, alone and beside a neighbour. Run in the modelling environment.

    python -m benchmarks.waiting_threads

A fit of the reference project's size (29,600 rows, 26 features, 100 rounds) in a process of its own, with as many
threads as there are cores: as steps do, with half as many turns, by GNU OpenMP's default, without spinning, and with
one thread; first alone, then beside a process that only computes, as another pod of a node may. Fits of more than
a minute are ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.runtime.contract import OPENMP_VARIABLES

FIT = """
import time
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
rng = np.random.default_rng(0)
features = rng.normal(size=(29_600, 26))
label = features[:, 0] + features[:, 1] ** 2 + rng.normal(size=29_600) > 1.2
model = HistGradientBoostingClassifier(max_iter=100, early_stopping=False)
seconds = []
for _ in range(3):
    began = time.perf_counter()
    model.fit(features, label)
    seconds.append(time.perf_counter() - began)
print(sorted(seconds)[1])
"""
MOST_SECONDS = 60.0
OURS = "as steps do"
WAYS: dict[str, Mapping[str, str]] = {
    OURS: OPENMP_VARIABLES,
    "half as many turns": {"GOMP_SPINCOUNT": str(int(OPENMP_VARIABLES["GOMP_SPINCOUNT"]) // 2)},
    "OpenMP's default": {},
    "without spinning": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def fit_seconds(variables: Mapping[str, str]) -> float:
    """Seconds of a fit, the median of three; `MOST_SECONDS` where the three together take three times that."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", FIT]
    try:
        done = subprocess.run(
            command, env={**kept, **variables}, capture_output=True, text=True, check=True, timeout=3 * MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return MOST_SECONDS
    return float(done.stdout)


def main() -> int:
    """Measure and print."""
    options = argument_parser(__doc__).parse_args()
    alone = {way: fit_seconds(variables) for way, variables in WAYS.items()}
    # In a session of its own: the kernel shares the cores out between sessions, as between pods.
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command, start_new_session=True) as neighbour:
        try:
            beside = {way: fit_seconds(variables) for way, variables in WAYS.items()}
        finally:
            neighbour.kill()
    print("                     alone, seconds   beside a neighbour, seconds")
    for way in WAYS:
        least = "≥ " if beside[way] >= MOST_SECONDS else ""
        print(f"{way:20} {alone[way]:14.2f} {least + format(beside[way], '.2f'):>29}")
    ratios = [
        Ratio(f"a fit {where}: {OURS} / {way}", seconds[OURS] / seconds[way])
        for where, seconds in (("alone", alone), ("beside a neighbour", beside))
        for way in WAYS
        if way != OURS
    ]
    save_ratios(ratios, options.ratios)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
