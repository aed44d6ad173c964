"""Parity of exported models: every estimator that a project may name, over data sets, sizes, seeds and calibrations.

python -m benchmarks.parity [--sizes 300 2000] [--seeds 3] [--only PATTERN]

For each estimator: in how many cases the exported model is the trained one, the largest difference of two
probabilities, and what the others failed for. Runs in the modelling environment.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.training.train_model.fitting import fit_pipeline
from kfp_lifecycle.components.training.train_model.parity import check_parity
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling.calibration import fit_calibration
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.modelling.estimator import build_estimator, raw_scores
from kfp_lifecycle.modelling.export import export_onnx
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation

ESTIMATORS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {"max_iter": 300},
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss"},
    "sklearn.tree.DecisionTreeClassifier": {},
    "sklearn.tree.ExtraTreeClassifier": {},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 60},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 60},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 60},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 60},
    "sklearn.ensemble.AdaBoostClassifier": {"n_estimators": 20},
    "sklearn.ensemble.BaggingClassifier": {},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.naive_bayes.BernoulliNB": {},
    "sklearn.neighbors.KNeighborsClassifier": {},
    "sklearn.neural_network.MLPClassifier": {"max_iter": 30},
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": {},
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    "sklearn.svm.SVC": {"probability": True},
    "sklearn.gaussian_process.GaussianProcessClassifier": {},
    "lightgbm.LGBMClassifier": {"n_estimators": 60},
    "xgboost.XGBClassifier": {"n_estimators": 60},
}
FEATURES = [
    *(Feature(name, "numeric") for name in ("amount", "days", "count", "noise", "rate")),
    Feature("plan", "categorical"),
    Feature("city", "categorical"),
]


def plain(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """Numbers of everyday sizes; some are missing."""
    frame = pd.DataFrame(
        {
            "amount": random.gamma(4, 10, rows),
            "days": random.exponential(20, rows),
            "count": random.poisson(0.7, rows),
            "noise": random.normal(size=rows),
            "rate": random.random(rows),
            "plan": random.choice(["basic", "plus", "pro", ""], rows),
            "city": random.choice([f"city {number}" for number in range(12)], rows),
        }
    )
    frame.loc[random.random(rows) < 0.1, "days"] = np.nan
    return frame


def money(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """Amounts from pence to millions, far from 0 beside how they differ."""
    frame = plain(rows, random)
    return frame.assign(
        amount=np.round(random.lognormal(8, 3, rows), 2), days=1.7e6 + frame.days, count=19_000_000 + frame["count"]
    )


def tied(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """Few values, and many rows alike."""
    return plain(rows, random).assign(
        amount=random.integers(0, 4, rows),
        days=random.integers(0, 2, rows),
        noise=0.0,
        rate=random.integers(0, 3, rows),
    )


def neighbours(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """Values that are neighbouring float32 numbers."""
    steps = np.float32(4.857).view(np.int32) + random.integers(0, 60, rows).astype(np.int32)
    return plain(rows, random).assign(amount=steps.view(np.float32), rate=(steps // 3).view(np.float32))


def wide_apart(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """Values of every order of magnitude that float32 has."""
    return plain(rows, random).assign(amount=10 ** random.uniform(-30, 30, rows) * random.choice([-1, 1], rows))


DATA: dict[str, Callable[[int, np.random.Generator], pd.DataFrame]] = {
    made.__name__: made for made in (plain, money, tied, neighbours, wide_apart)
}


@dataclass(frozen=True)
class Outcome:
    """What came of one case: the largest difference, or why there is none."""

    difference: float
    reason: str = ""


def part(data: str, rows: int, seed: int) -> Part:
    """Rows of a data set with a signal in several columns, one event in five."""
    random = np.random.default_rng([seed, rows, *data.encode()])
    frame = DATA[data](rows, random)
    ranks = frame[["amount", "days", "count"]].rank(pct=True).fillna(0.5)
    logit = -3 + 2 * ranks.amount + 1.5 * ranks["count"] - ranks.days + (frame.plan == "pro")
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    label[:4] = (0, 1, 0, 1)
    numeric = [item.name for item in FEATURES if item.type == "numeric"]
    features = frame.astype(dict.fromkeys(numeric, np.float32))
    return Part(features, features, label, np.arange(rows))


def outcome(estimator: str, parameters: dict[str, Any], method: Method, data: str, rows: int, seed: int) -> Outcome:
    """Train, calibrate and export as `train_model` does, and compare on rows that are new."""
    train, calibrating, test = (part(data, size, seed + at) for at, size in enumerate((rows, max(200, rows // 3), 500)))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            pipeline = fit_pipeline(FEATURES, train, build_estimator(estimator, parameters, seed))
        calibration = fit_calibration(method, raw_scores(pipeline, calibrating.features), calibrating.label)
        scorer = Scorer(export_onnx(pipeline, calibration, FEATURES).SerializeToString(), FEATURES, threads=1)

        def probabilities(inputs: pd.DataFrame) -> NDArray[np.float64]:
            return calibration.apply(raw_scores(pipeline, inputs))

        return Outcome(check_parity(scorer, probabilities, {"test": test.features}, FEATURES, seed))
    except ContractViolation as violation:
        return Outcome(np.inf, str(violation))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each estimator, and one for each reason why a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", FutureWarning)
    for estimator, parameters in ESTIMATORS.items():
        if options.only not in estimator:
            continue
        found = {
            (method.value, data, rows, seed): outcome(estimator, parameters, method, data, rows, seed)
            for method in Method
            for data in DATA
            for rows in options.sizes
            for seed in range(options.seeds)
        }
        passed = [item.difference for item in found.values() if not item.reason]
        largest = f"{max(passed):.1e}" if passed else "-"
        print(f"{estimator:58s} {len(passed):4d} of {len(found)}, largest difference {largest}", flush=True)
        reasons: dict[str, list[Any]] = {}
        for case, item in found.items():
            if item.reason:
                reasons.setdefault(item.reason.partition(":")[0][:60], []).append((case, item.reason))
        for cases in reasons.values():
            print(f"    {len(cases)} such as {cases[0][0]}: {cases[0][1][:300]}", flush=True)


if __name__ == "__main__":
    main()
