"""The whole evaluation of a large test part: its time and its memory. Run in the modelling environment.

    python -m benchmarks.evaluation [--rows N] [--replicates N]

A gradient boosting model of 20 features is judged on rows of two snapshots, by two sensitive columns and their
intersection, in every dimension as in a run. The evaluation has a process of its own, so that its peak memory is its
own. Beside it: what the bootstrap of ROC AUC would take as a plain loop.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.invented_project import read_project, write_project
from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.artifacts.evaluation import Evaluation
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.components.training.train_model.describing import prepare
from kfp_lifecycle.components.training.train_model.training import train_model
from kfp_lifecycle.runtime.side_process import side_process

ROWS, REPLICATES, TRAIN_ROWS = 200_000, 1000, 20_000
PROMISED_SECONDS, PROMISED_MB = 60, 2000
NUMBERS, CATEGORIES = 17, 3
DATES = {"train": ["2025-01-01"], "validation": ["2025-03-01", "2025-04-01"], "test": ["2025-06-01", "2025-07-01"]}
# Replicates of the plain loop; its time is in proportion to them.
LOOPED = 10
EVALUATION = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
from benchmarks.invented_project import read_project
from kfp_lifecycle.components.evaluation.evaluate_model.evaluation import evaluate
imported = time.perf_counter()
folder = Path(sys.argv[1])
evaluate(*read_project(folder), folder / "set", folder / "model", folder / "evaluation")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([imported - began, time.perf_counter() - imported, time.process_time(), peak]))
"""


def snapshot(rows: int, date: str, random: np.random.Generator) -> pd.DataFrame:
    """Rows of one date; seven numbers and a category matter, a tenth of all numbers is missing."""
    numbers = random.normal(size=(rows, NUMBERS))
    category = random.choice(list("abcde"), (rows, CATEGORIES))
    logit = -2.2 + numbers[:, :7].sum(axis=1) / 2 + 0.5 * (category[:, 0] == "a")
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "key": np.arange(rows),
            "event_timestamp": pd.Timestamp(date, tz="UTC"),
            "event": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
            **{f"number_{at}": numbers[:, at] for at in range(NUMBERS)},
            **{f"category_{at}": category[:, at] for at in range(CATEGORIES)},
            "age": random.choice(["young", "middle", "old"], rows),
            "sex": random.choice(["f", "m"], rows),
        }
    )


def write_inputs(folder: Path, rows: int, replicates: int) -> None:
    """The project, the training set and the model that the evaluation reads."""
    random = np.random.default_rng(0)
    features = [{"name": f"number_{at}", "type": "numeric"} for at in range(NUMBERS)]
    features += [{"name": f"category_{at}", "type": "categorical"} for at in range(CATEGORIES)]
    (folder / "set").mkdir()
    for part, dates in DATES.items():
        count = rows // 2 if part == "test" else TRAIN_ROWS
        frame = pd.concat([snapshot(count, date, random) for date in dates], ignore_index=True)
        frame.to_parquet(folder / "set" / f"{part}.parquet", index=False)
    description = {
        "entity": "key",
        "label": "event",
        "features": features,
        "sensitive": ["age", "sex"],
        "feature_service": "benchmark",
        "feature_version": "invented",
        "snapshots": DATES,
    }
    TrainingSetDescription.model_validate(description).write(folder / "set")
    (folder / "set" / "feature_repo").mkdir()
    actionable = ["number_0", "number_7", "category_0"]
    write_project(folder, "key", {"bootstrap_replicates": replicates, "actionable": actionable})
    Parameters(parameters={}).write(folder / "parameters.json")
    with side_process(prepare) as beside:
        train_model(*read_project(folder), folder / "set", folder / "parameters.json", folder / "model", beside)


def looped_seconds(folder: Path) -> float:
    """What a bootstrap of ROC AUC takes for one replicate, drawn and computed row by row of a Python loop."""
    rows = pd.read_parquet(folder / "evaluation" / "predictions.parquet")
    label, score, random = rows["event"].to_numpy(), rows["score"].to_numpy(), np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(LOOPED):
        drawn = random.integers(0, len(label), len(label))
        roc_auc_score(label[drawn], score[drawn])
    return (time.perf_counter() - began) / LOOPED


def main() -> None:
    """Print the figures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="test rows")
    parser.add_argument("--replicates", type=int, default=REPLICATES, help="of the bootstrap")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as place:
        folder = Path(place)
        write_inputs(folder, arguments.rows, arguments.replicates)
        command = [sys.executable, "-c", EVALUATION, place]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        imports, seconds, processor, peak = json.loads(told)
        looped = arguments.replicates * looped_seconds(folder)
        measured = len(Evaluation.read(folder / "evaluation").metrics)
    print(
        f"{arguments.rows:,} rows, {arguments.replicates:,} replicates, {measured} metrics: {seconds:.0f} s "
        f"({processor:.0f} s of processor time with imports, which took {imports:.0f} s), peak {peak:,.0f} MB; "
        f"a plain loop over replicates of ROC AUC alone: {looped:.0f} s"
    )
    what = f"evaluation of {arguments.rows:,} rows with {arguments.replicates:,} replicates"
    ratios = [
        Ratio(f"seconds of the {what} / {PROMISED_SECONDS}", seconds / PROMISED_SECONDS, "below 1"),
        Ratio(f"peak memory of it / {PROMISED_MB:,} MB", peak / PROMISED_MB, "below 1"),
        Ratio("seconds of it / those of a plain loop over one metric's replicates", seconds / looped),
    ]
    save_ratios(ratios, arguments.ratios)


if __name__ == "__main__":
    main()
