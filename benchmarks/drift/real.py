"""Real windows: prices of electricity, which drift, and who is employed, which does not.

ELEC2 (Harries 1999, `elec.csv` as scikit-multiflow has it) is no package's; it is looked at where a file is given. ACS
employment comes with NannyML, in the environment `datasets`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.drift.rules import Rule
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.detection import ENTITY
from kfp_lifecycle.components.monitoring.detect_drift.rule import DATE, TIME
from kfp_lifecycle.environments.locks import environment_directory

ROWS_OF_A_WEEK, WEEKS_LEARNED, YEAR = 336, 16, 52
NUMBERS = [Feature(name, "numeric") for name in ("period", "nswprice", "nswdemand", "transfer")]
PEOPLE = environment_directory("datasets") / "nannyml" / "datasets" / "data"
PEOPLE_ROWS = 1000
CATEGORIES = ["SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM"]
CATEGORIES += ["SEX", "RAC1P"]
PEOPLE_INPUTS = [Feature("AGEP", "numeric"), *(Feature(name, "categorical") for name in CATEGORIES)]

Rules = Callable[[pd.DataFrame, int, list[Feature]], dict[str, Rule]]


def electricity(file: Path, rules: Rules) -> pd.DataFrame:
    """Alarms of each rule in each week after those learned from, and the model's ROC AUC in it."""
    frame = pd.read_csv(file)
    frame["week"] = np.arange(len(frame)) // ROWS_OF_A_WEEK
    frame = frame[frame.week < len(frame) // ROWS_OF_A_WEEK]
    names = [item.name for item in NUMBERS]
    # Every other week is learned from; the others are what the model is judged on, and the baseline.
    learned = frame[(frame.week < WEEKS_LEARNED) & (frame.week % 2 == 0)]
    model = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(learned[names], learned["class"])
    frame["score"] = model.predict_proba(frame[names])[:, 1]
    frame[ENTITY] = frame.index.astype(str)
    frame[DATE] = frame[TIME] = pd.Timestamp("1996-05-07", tz="UTC") + pd.to_timedelta(7 * frame.week, unit="D")
    known = rules(frame[(frame.week < WEEKS_LEARNED) & (frame.week % 2 == 1)], ROWS_OF_A_WEEK, NUMBERS)
    rows = []
    for week, window in frame[frame.week >= WEEKS_LEARNED].groupby("week"):
        rows.append({name: rule(window) for name, rule in known.items()})
        rows[-1] |= {"week": week, "AUC": roc_auc_score(window["class"], window["score"])}
    return pd.DataFrame(rows)


def people(rules: Rules) -> pd.DataFrame:
    """Alarms of each rule in a year of weeks of 1,000 people of 2016 to 2018, beside those of 2015."""
    frames = {name: pd.read_parquet(PEOPLE / f"employment_MA_{name}.pq") for name in ("reference", "analysis")}
    frame = pd.concat(frames.values()).rename(columns={"predicted_probability": "score"})
    frame[CATEGORIES] = frame[CATEGORIES].astype(str)
    frame[ENTITY] = np.arange(len(frame)).astype(str)
    # Within a year the order is by household, not of time.
    frame = frame.sample(frac=1, random_state=0, ignore_index=True)
    columns = [item.name for item in PEOPLE_INPUTS] + ["score", ENTITY]
    known = rules(frame.loc[frame.year == 2015, columns].head(5000), PEOPLE_ROWS, PEOPLE_INPUTS)
    later = frame[frame.year > 2015]
    rows = []
    for week in range(YEAR):
        # The years in their order.
        year = 2016 + 3 * week // YEAR
        window = later.loc[later.year == year, columns].iloc[week * PEOPLE_ROWS % 60_000 :].head(PEOPLE_ROWS)
        rows.append({name: rule(window.reset_index(drop=True)) for name, rule in known.items()})
    return pd.DataFrame(rows)
