"""A real market that changed (UCI Bank Marketing; Moro, Cortez and Rita 2014): the leak is named, the past flatters.

Phone calls of a bank from May 2008 to November 2010, in the order of time. The length of a call, `duration`, is known
only after it. Models that are judged on random rows of the training months look better than the future will find them.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.modelling.evaluated import train_and_evaluate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "bank-additional-full.csv.gz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is not there: Bank Marketing is not redistributed"),
]

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
ENDS = {"train": "2009-08-31", "validation": "2009-11-30", "test": "2010-12-31"}


def calls() -> pd.DataFrame:
    """Every call with the first day of its month; years are not in the file, but its order is that of time."""
    with gzip.open(DATA, "rt") as file:
        frame = pd.read_csv(file, sep=";")
    month = frame.pop("month").map(MONTHS.index) + 1
    year = 2008 + (month.diff() < 0).cumsum()
    date = pd.to_datetime(pd.DataFrame({"year": year, "month": month, "day": 1})).dt.tz_localize("UTC")
    frame["gone"] = (frame.pop("y") == "yes").astype(int)
    return frame.assign(account=range(len(frame)), event_timestamp=date)


def judge(folder: Path, with_duration: bool) -> dict[str, Any]:
    """Train up to August 2009, calibrate up to November, judge what comes after; the content of evaluation.json."""
    frame = calls()
    assert list(frame.event_timestamp.dt.year.unique()) == [2008, 2009, 2010]
    inputs = [name for name in frame if name not in ("gone", "account", "event_timestamp")]
    features = [
        {"name": name.replace(".", "_"), "type": "numeric" if frame[name].dtype.kind in "if" else "categorical"}
        for name in inputs
        if with_duration or name != "duration"
    ]
    frame = frame.rename(columns=lambda name: name.replace(".", "_"))
    dates, began = {}, "2008-01-01"
    (folder / "set").mkdir(parents=True)
    for part, end in ENDS.items():
        rows = frame[(frame.event_timestamp >= began) & (frame.event_timestamp <= end)]
        dates[part] = sorted(rows.event_timestamp.dt.strftime("%Y-%m-%d").unique())
        rows.to_parquet(folder / "set" / f"{part}.parquet", index=False)
        began = end
    description = {
        "entity": "account",
        "label": "gone",
        "features": features,
        "sensitive": ["marital"],
        "feature_service": "calls",
        "feature_version": "bank",
        "snapshots": dates,
    }
    return train_and_evaluate(folder, description)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return judge(tmp_path_factory.mktemp("bank") / "honest", with_duration=False)


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return judge(tmp_path_factory.mktemp("bank") / "leaking", with_duration=True)


def leaks_named(content: dict[str, Any]) -> list[str]:
    return [note.partition(" ")[0] for note in content["notes"] if "may leak the label" in note]


def test_the_length_of_the_call_is_named_as_a_leak(leaking: dict[str, Any]) -> None:
    assert leaks_named(leaking) == ["duration"]


def test_no_feature_that_is_known_before_the_call_is(honest: dict[str, Any]) -> None:
    assert leaks_named(honest) == []


def test_the_report_says_how_much_worse_the_future_is_than_the_past(honest: dict[str, Any]) -> None:
    past, drop = (honest["metrics"][f"robustness.{name}"] for name in ("past_roc_auc", "future_roc_auc_drop"))
    assert drop["value"] > 0.02
    assert past["value"] - drop["value"] == pytest.approx(honest["metrics"]["performance.roc_auc"]["value"])
    assert any("on the later test dates it is" in note for note in honest["notes"])


def test_probabilities_learned_from_a_calmer_time_are_said_to_be_wrong(honest: dict[str, Any]) -> None:
    assert honest["metrics"]["calibration.spiegelhalter_p_value"]["value"] < 1e-6
    assert abs(honest["metrics"]["calibration.mean_error"]["value"]) > 0.05
