"""A price rise, and 60 days after it a retrain, or a recalibration: approved by what it is shown to be worth."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from sklearn.metrics import brier_score_loss, roc_auc_score

from kfp_lifecycle.artifacts.evaluation import Evaluation, Metric
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary
from kfp_lifecycle.components.evaluation.decide_promotion.promotion import decide
from kfp_lifecycle.components.evaluation.evaluate_model.calibration_error import Reliability
from kfp_lifecycle.components.training.find_champion.finding import version_to_keep
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.modelling.comparison import graph_differences
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.simulation.business import simulate
from kfp_lifecycle.simulation.database import TABLES
from tests.feature_steps import build
from tests.modelling.trained import train_model
from tests.modelling.verdicts import verdict as a_verdict
from tests.projects import Project, read_project
from tests.registered import make_champion

pytestmark = pytest.mark.slow

CHANGED = date(2026, 5, 2)
BEFORE = datetime(2026, 5, 1, 23, 59, tzinfo=UTC)
LATER = BEFORE + timedelta(days=60)
# A linear model, which learns as much from these few rows as it ever will: what is better is so by the change.
TRAINING = {"estimator": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 1000}}


class Business:
    """A business with a price rise and its twin without, and the champion that was trained before it: until then the
    same happened in both."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for world, inject in (("risen", ["price_rise"]), ("quiet", [])):
            simulate(place / f"{world}.duckdb", customers=6_000, days=420, end=LATER.date(), inject=inject)
        before = self.project("before", snapshots=6)
        self.train("champion", before, "quiet", BEFORE)
        snapshots = json.loads((self.set_of("champion") / "training_set.json").read_text("utf-8"))["snapshots"]["test"]
        a_verdict(snapshots=snapshots).write(place / "champion")
        make_champion(place / "champion", before.locations.tracking_uri, "churn")

    def project(self, name: str, snapshots: int, **changes: Any) -> Project:
        """The reference project with a split and a gate of its own."""
        folder = self.place / f"project-{name}"
        for part in ("feature_repo", "expectations"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        content = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))
        content["snapshots"] = {"every_days": 15, "count": snapshots}
        content["split"] = {"test_snapshots": 1, "validation_snapshots": 1, **changes.pop("split", {})}
        content["training"] |= TRAINING
        content["features"]["skew_sample"] = 20
        content["gate"] = {"rules": [{"metric": "performance.roc_auc", "min": 0.5}], **changes}
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(content), "utf-8")
        return read_project(folder)

    def set_of(self, model: str) -> Path:
        """The training set of a model."""
        return self.place / f"{model}-set"

    def train(self, name: str, project: Project, world: str, as_of: datetime, remedy: str = "retrain") -> None:
        """Train on what is known of one of the two by a moment, or fit the champion anew on it, as a run does."""
        tables = self.place / f"{name}-tables"
        tables.mkdir()
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self.place / world}.duckdb' AS world (READ_ONLY)")
            for table in TABLES:
                connection.execute(f"COPY world.{table} TO '{tables / table}.parquet' (FORMAT parquet)")
        summaries = {table: TableSummary(rows=1, columns={}) for table in TABLES}
        Manifest(as_of=as_of, tables=summaries).write(tables)
        build(project.folder, tables, self.set_of(name), remedy=remedy)
        # The champion is in the registry of the project that it was trained in.
        version = version_to_keep(project.settings, project.locations, remedy).version
        found = self.place / f"{name}-parameters"
        Parameters(parameters={}, remedy=TrainingRemedy(remedy), version=version).write(found)
        train_model(project.folder, self.set_of(name), found, self.place / name)

    def verdict(self, name: str, project: Project) -> dict[str, Any]:
        """Decide on a model, whose evaluation has nothing to object to."""
        evaluation = self.place / f"{name}-evaluation"
        evaluation.mkdir(exist_ok=True)
        run_id = Model.read(self.place / name).run_id
        metrics = {"performance.roc_auc": Metric(0.7, 0.6, 0.8, 1)}
        Evaluation(run_id=run_id, metrics=metrics, notes=[], sections=[]).write(evaluation)
        approved = self.place / f"{project.folder.name}-approved"
        verdict = self.place / f"{project.folder.name}-verdict"
        decide(
            project.settings, project.locations, self.place / f"{name}-tables", self.set_of(name), self.place / name,
            evaluation, verdict, approved,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(verdict.read_text("utf-8"))
        return found


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Business:
    return Business(tmp_path_factory.mktemp("business"))


@pytest.mark.parametrize(("world", "decision"), [("risen", "approved"), ("quiet", "rejected")])
def test_a_retrain_60_days_after_a_change_is_approved_by_what_it_is_worth_and_only_where_there_was_one(
    business: Business, world: str, decision: str
) -> None:
    split = {"since": f"{CHANGED}", "test_share": 0.4}
    by_value = business.project(world, snapshots=5, split=split, champion={"metric": "expected_value_per_1000"})
    business.train(f"candidate-{world}", by_value, world, LATER)
    train = pd.read_parquet(business.set_of(f"candidate-{world}") / "train.parquet")
    assert (train["event_timestamp"].dt.date >= CHANGED).sum() > 1_000, "it learns from rows after the change"

    verdict = business.verdict(f"candidate-{world}", by_value)
    # Nothing else is demanded: what an error costs is counted.
    [comparison] = verdict["champion"]["comparisons"]
    assert (comparison["metric"], comparison["demand"]) == ("expected_value_per_1000", "superiority")
    assert comparison["method"] == "paired bootstrap"
    assert "before the business changed: only those from 2026-05" in " ".join(verdict["champion"]["notes"])
    assert verdict["decision"] == decision
    if decision == "approved":
        assert comparison["low"] > 0
        assert comparison["difference"] > 200, "dollars for 1,000 customers"
    else:
        assert comparison["low"] < 0 < comparison["high"]


def test_a_recalibration_60_days_after_a_change_mends_the_level_and_is_approved_by_what_is_shown_of_it(
    business: Business,
) -> None:
    project = business.project("recalibrated", snapshots=5, split={"since": f"{CHANGED}"})
    business.train("recalibrated", project, "risen", LATER, "recalibrate")
    champion, candidate = (ModelFolder(business.place / name) for name in ("champion", "recalibrated"))
    test = TrainingSet(business.set_of("recalibrated")).part("test")
    assert (test.frame["event_timestamp"].dt.date >= CHANGED).all()
    before, after = (model.scorer().score(test.features).astype(np.float64) for model in (champion, candidate))

    # Observed over expected, Brier score, expected calibration error: all better; the ranking is what it was.
    assert test.label.mean() / before.mean() > 1.5
    assert 0.8 < test.label.mean() / after.mean() < 1.25
    assert brier_score_loss(test.label, after) < brier_score_loss(test.label, before)
    errors = [Reliability(test.label, score) for score in (before, after)]
    ece = [found.errors(found.rows.sum(axis=0, keepdims=True))[0, 0] for found in errors]
    assert ece[1] < 0.5 * ece[0]
    assert roc_auc_score(test.label, after) == pytest.approx(roc_auc_score(test.label, before), abs=1e-4)
    graphs = [onnx.load(model.folder / "model.onnx") for model in (champion, candidate)]
    assert {item["what"] for item in graph_differences(*graphs)} == {
        "tensor calibration/slope",
        "tensor calibration/intercept",
    }
    client = connect(project.locations.tracking_uri)
    seconds = [client.get_run(model.description.run_id).data.metrics for model in (champion, candidate)]
    assert seconds[1]["seconds_fit"] < 0.1 * seconds[0]["seconds_fit"]
    assert "seconds_learning_curve" not in seconds[1]

    # By ROC AUC, which no calibration changes, it is judged by what it is worth: more, but so few rows do not show it.
    verdict = business.verdict("recalibrated", project)
    [worth, ranked] = verdict["champion"]["comparisons"]
    assert (worth["metric"], ranked["metric"], ranked["passed"]) == ("expected_value_per_1000", "roc_auc", True)
    assert worth["difference"] > 100, "dollars for 1,000 customers"
    assert worth["low"] < 0
    assert verdict["decision"] == "rejected"
    split = {"since": f"{CHANGED}"}
    by_brier = business.project("by-brier", snapshots=5, split=split, champion={"metric": "brier_score"})
    verdict = business.verdict("recalibrated", by_brier)
    assert verdict["champion"]["comparisons"][0]["low"] > 0
    assert verdict["decision"] == "approved"


def test_a_recalibration_before_labels_are_known_is_told_how_many_are_needed(business: Business) -> None:
    project = business.project("too-soon", snapshots=5, split={"since": f"{LATER:%Y-%m-%d}"})
    told = r"To recalibrate, labels since 2026-06-30 are too few: 0 rows of 0 dates, .*; 30 of either kind are needed"
    with pytest.raises(ContractViolation, match=told):
        business.train("too-soon", project, "risen", LATER, "recalibrate")
