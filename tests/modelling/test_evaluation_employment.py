"""Real people among whom nothing drifts (ACS, Massachusetts, 2015 to 2018): nothing claims that it does.

The rows are as NannyML ships them. Who is employed can be told as well in 2018 as in 2015, ROC AUC about 0.90.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.environments.locks import environment_directory
from tests.modelling.evaluated import train_and_evaluate

DATA = environment_directory("datasets") / "nannyml" / "datasets" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the data set is not there: make setup-tests brings it to {DATA}"),
]

RULE = Monitoring()
# Of each year: enough for intervals of two points, and quickly trained.
ROWS = 8000
YEARS = {"train": [2015], "validation": [2016], "test": [2017, 2018]}
CATEGORIES = ["SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM"]
CATEGORIES += ["SEX", "RAC1P"]
FEATURES = [{"name": "AGEP", "type": "numeric"}, *({"name": name, "type": "categorical"} for name in CATEGORIES)]


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Every row, with the score of the data set's own model, in an order by chance: within a year theirs is not of time
    but by household."""
    frames = {name: pd.read_parquet(DATA / f"employment_MA_{name}.pq") for name in ("reference", "analysis")}
    later = frames["analysis"].merge(pd.read_parquet(DATA / "employment_MA_analysis_target.pq"), on="id")
    frame = pd.concat([frames["reference"], later]).rename(columns={"predicted_probability": "score"})
    frame[CATEGORIES] = frame[CATEGORIES].astype(str)
    frame["event_timestamp"] = pd.to_datetime(frame.year.astype(str) + "-07-01", utc=True)
    return frame.sample(frac=1, random_state=0, ignore_index=True)


@pytest.mark.parametrize("window", [500, 5000, 20_000])
def test_the_drift_rule_is_silent_in_every_later_year_whatever_the_windows_size(
    people: pd.DataFrame, window: int
) -> None:
    inputs = [Feature(**item) for item in FEATURES]
    baseline = Baseline(people[people.year == 2015].head(5000), inputs)
    drifted, decisions = Counter[str](), Counter[str]()
    for year in (2016, 2017, 2018):
        findings = baseline.compare(people[people.year == year].head(window), RULE)
        drifted.update(finding.column for finding in findings if finding.drifted)
        decisions[decide(findings, len(inputs), window, RULE).verdict] += 1
    assert drifted == {}
    assert decisions == {"keep": 3}


@pytest.fixture(scope="module")
def content(people: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of evaluation.json of a model of 2015, judged by 2017 and 2018."""
    folder = tmp_path_factory.mktemp("employment")
    (folder / "set").mkdir()
    dates: dict[str, list[str]] = {}
    for part, years in YEARS.items():
        rows = pd.concat([people[people.year == year].head(ROWS) for year in years])
        rows.drop(columns=["score", "prediction"]).to_parquet(folder / "set" / f"{part}.parquet", index=False)
        dates[part] = [f"{year}-07-01" for year in years]
    description = {
        "entity": "id",
        "label": "employed",
        "features": FEATURES,
        "sensitive": ["SEX"],
        "feature_service": "people",
        "feature_version": "acs",
        "snapshots": dates,
    }
    return train_and_evaluate(folder, description)


def test_the_future_is_said_to_be_as_the_past(content: dict[str, Any]) -> None:
    drop = content["metrics"]["robustness.future_roc_auc_drop"]
    assert drop["low"] < 0 < drop["high"]
    assert drop["high"] - drop["low"] < 0.04
    (told,) = [note for note in content["notes"] if "on the later test dates" in note]
    assert told.endswith("may be chance.")


def test_each_years_ranking_is_as_is_known(content: dict[str, Any]) -> None:
    for date in ("2017-07-01", "2018-07-01"):
        assert content["metrics"][f"performance.roc_auc.snapshot={date}"]["value"] == pytest.approx(0.905, abs=0.01)


def test_probabilities_of_2016_are_still_true(content: dict[str, Any]) -> None:
    assert abs(content["metrics"]["calibration.mean_error"]["value"]) < 0.015
    assert not any("may leak the label" in note for note in content["notes"])
