"""A recalibration keeps the model in production and fits its calibration, or its threshold alone, anew."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kfp_lifecycle.artifacts.adjustment import Adjustment
from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.training_set import TrainingSetDescription
from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.components.evaluation.decide_promotion.adjusted import compare_adjusted
from kfp_lifecycle.components.evaluation.decide_promotion.promotion import decide
from kfp_lifecycle.components.evaluation.evaluate_model.explanation import explain_exported
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.verdict import decide as decide_drift
from kfp_lifecycle.components.training.find_champion.finding import ToKeep, version_to_keep
from kfp_lifecycle.components.training.tune_hyperparameters.search import search
from kfp_lifecycle.config.gate import Champion
from kfp_lifecycle.config.monitoring import Monitoring
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.calibration_graph import RawScorer, with_calibration
from kfp_lifecycle.modelling.comparison import compare_models, graph_differences
from kfp_lifecycle.modelling.dataset import TrainingSet, model_inputs
from kfp_lifecycle.modelling.estimator import raw_scores
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.monitoring.history import WindowRecord, record_window
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import FEATURES, customers, write_project, write_training_set
from tests.modelling.evaluated import evaluate
from tests.modelling.trained import fit_model, train_model
from tests.projects import read_project
from tests.registered import make_champion

pytestmark = pytest.mark.slow

CALIBRATIONS = [
    Calibration(Method.sigmoid, slope=1.3, intercept=0.7),
    Calibration(Method.isotonic, knots=[(0.01, 0.02), (0.2, 0.3), (0.6, 0.9)]),
    Calibration(Method.none),
    Calibration(Method.sigmoid, slope=1.3, intercept=-2.0, hazard_ratio=4.2),
    Calibration(Method.isotonic, knots=[(0.01, 0.02), (0.2, 0.3), (0.6, 0.9)], hazard_ratio=0.4),
    Calibration(Method.none, hazard_ratio=3.1, absence=True),
]


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(write_training_set(tmp_path_factory.mktemp("data") / "set", rows=400))


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}),
        ("sklearn.linear_model.LogisticRegression", {}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 6}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 20}),
        ("xgboost.XGBClassifier", {"n_estimators": 20}),
    ],
)
def test_an_exported_model_takes_another_calibration_and_all_before_it_stays(
    training_set: TrainingSet, estimator: str, parameters: dict[str, Any]
) -> None:
    model = fit_model(training_set, Training(estimator=estimator), parameters)
    exported = onnx.load_model_from_string(model.onnx)
    inputs = training_set.part("test").features
    raw = RawScorer(exported, training_set.features)(inputs)
    assert raw == pytest.approx(raw_scores(model.pipeline, inputs), abs=1e-6)
    changed = exported
    for calibration in CALIBRATIONS:
        # From each method to the next.
        changed = with_calibration(changed, calibration)
        served = Scorer(changed.SerializeToString(), training_set.features).score(inputs)
        assert served == pytest.approx(calibration.apply(raw), abs=1e-6)
        assert all("calibration/" in item["what"] for item in graph_differences(exported, changed))
        assert RawScorer(changed, training_set.features)(inputs) == pytest.approx(raw, abs=0)
    # The same calibration again gives the same file.
    assert with_calibration(changed, model.calibration).SerializeToString() == model.onnx


def test_a_graph_without_a_calibration_of_this_library_is_refused(training_set: TrainingSet) -> None:
    model = onnx.load_model_from_string(fit_model(training_set, Training(), {"max_iter": 5}).onnx)
    for node in model.graph.node:
        node.output[:] = [name.replace("calibration/", "tail/") for name in node.output]
    with pytest.raises(ContractViolation, match="does not say where its calibration begins"):
        with_calibration(model, CALIBRATIONS[0])


def more_leave(part: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A world in which, since the model was trained, every third of those who stayed leaves, too."""
    if part != "train":
        stayed = np.flatnonzero(frame["gone"] == 0)
        frame.loc[stayed[::3], "gone"] = 1
    return frame


class Kept:
    """A champion, and what two remedies make of it once the world has moved; all is done as the steps do it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        briefly = {"bootstrap_replicates": 50, "explained_rows": 5, "latency_requests": 10}
        self.project = write_project(place / "project", place / "state", evaluation=briefly)
        self.given = read_project(self.project)
        Parameters(parameters={"max_iter": 30}).write(place / "searched")
        write_training_set(place / "before")
        train_model(self.project, place / "before", place / "searched", place / "champion")
        # The gate's own evaluation would take a while, and a registry keeps no pickle.
        (place / "champion" / "model.joblib").unlink()
        self.version = make_champion(place / "champion", self.given.locations.tracking_uri, "leaving")
        write_training_set(place / "since", seed=1, change=more_leave)

    def do(self, remedy: TrainingRemedy, name: str, training_set: str = "since", asked_by: str = "") -> Path:
        """The model artifact that a run with this remedy makes."""
        keep = version_to_keep(self.given.settings, self.given.locations, remedy, asked_by)
        found = self.place / f"{name}-parameters"
        inputs = self.given.settings, self.given.locations, self.place / training_set, found, self.place / "study"
        search(*inputs, remedy, keep.version, keep.adjustment)
        train_model(self.project, self.place / training_set, found, self.place / name)
        return self.place / name


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def recalibrated(kept: Kept) -> Path:
    return kept.do(TrainingRemedy.recalibrate, "recalibrated")


def scored(model: Path, kept: Kept) -> tuple[Any, Any]:
    """Label and score of the test rows since the change."""
    part = TrainingSet(kept.place / "since").part("test")
    return part.label, ModelFolder(model).scorer().score(part.features)


def test_a_recalibration_mends_the_level_and_ranks_as_before(kept: Kept, recalibrated: Path) -> None:
    label, before = scored(kept.place / "champion", kept)
    _, after = scored(recalibrated, kept)
    assert label.mean() / before.mean() > 1.4
    assert label.mean() / after.mean() == pytest.approx(1, abs=0.1)
    assert ((after - label) ** 2).mean() < ((before - label) ** 2).mean()
    assert roc_auc_score(label, after) == pytest.approx(roc_auc_score(label, before), abs=1e-6)
    graphs = [onnx.load(folder / "model.onnx") for folder in (kept.place / "champion", recalibrated)]
    differences = [*graph_differences(*graphs)]
    assert {item["what"] for item in differences} == {"tensor calibration/slope", "tensor calibration/intercept"}


def test_it_trains_and_searches_nothing_and_says_what_was_done(kept: Kept, recalibrated: Path) -> None:
    described, before = Model.read(recalibrated), Model.read(kept.place / "champion")
    rows = TrainingSet(kept.place / "since").part("calibration")
    told = (
        f"The scores of version {kept.version} were recalibrated on {len(rows.label):,} rows since 2025-05-01, "
        f"{rows.label.sum():,} of them events; its HistGradientBoostingClassifier is the same."
    )
    assert described.notes == [told]
    assert told in (recalibrated / "model_card.md").read_text("utf-8")
    assert (described.origin.remedy, described.origin.version) == ("recalibrate", kept.version)
    for field in ("estimator", "parameters", "seed", "learned_until", "importance", "learning_curve"):
        assert getattr(described, field) == getattr(before, field), field
    assert described.calibration != before.calibration
    assert (recalibrated / "explainer.npz").read_bytes() == (kept.place / "champion" / "explainer.npz").read_bytes()
    run = connect(kept.given.locations.tracking_uri).get_run(described.run_id)
    assert (run.data.tags["remedy"], run.data.tags["kept_version"]) == ("recalibrate", kept.version)
    assert run.data.metrics["seconds_fit"] < 0.05
    assert not {"seconds_learning_curve", "seconds_importance"} & set(run.data.metrics)
    assert (
        "those of version 1, without a search"
        in Parameters.read(kept.place / "recalibrated-parameters").metadata()["summary"]
    )


def test_a_recalibrated_model_is_evaluated_as_any_other_and_approved_by_what_it_is_worth(
    kept: Kept, recalibrated: Path, tmp_path: Path
) -> None:
    found = evaluate(kept.project, kept.place / "since", recalibrated, tmp_path / "evaluation").findings
    assert found.metrics["explainability.additivity_error"].value < 1e-5
    assert found.metrics["explainability.served_error"].value < 1e-5
    assert found.metrics["performance.roc_auc"].value > 0.6
    assert found.metrics["robustness.past_roc_auc"].value > 0.6
    verdict, approved = tmp_path / "verdict", tmp_path / "approved"
    places = tmp_path / "tables", kept.place / "since", recalibrated, tmp_path / "evaluation", verdict, approved
    decide(kept.given.settings, kept.given.locations, *places)
    told = Verdict.read(verdict)
    assert told.decision == "approved"
    assert told.champion is not None
    # The project compares by ROC AUC, which no calibration changes.
    assert told.champion.notes[0].startswith(
        "It ranks as version 1 does, whose estimator it has: it has to be better in"
    )
    better = told.champion.comparisons[0]
    assert (better.metric, better.demand) == ("expected_value_per_1000", "superiority")
    assert better.low is not None
    assert better.low > 0
    assert Model.read(approved).origin.version == "1"


def test_a_recalibrated_model_is_watched_from_the_moment_on_that_it_was_made(
    kept: Kept, recalibrated: Path, tmp_path: Path
) -> None:
    """Since the newest labels customers stay away for longer: the weeks after the release are as that moment was."""

    def week(day: str, seed: int) -> pd.DataFrame:
        frame = customers(800, day, np.random.default_rng(seed), 1600)
        return frame.assign(days_away=1.6 * frame["days_away"])

    shutil.copytree(kept.place / "since", tmp_path / "present")
    columns = ["account", "event_timestamp", *(item["name"] for item in FEATURES)]
    week("2025-08-01", seed=5)[columns].to_parquet(tmp_path / "present" / "present.parquet", index=False)
    model = kept.do(TrainingRemedy.recalibrate, "watched", str(tmp_path / "present"))
    inputs, scorer = Model.read(model).inputs, ModelFolder(model).scorer()
    known = pd.read_parquet(model / "baseline" / "reference.parquet")
    assert known["event_timestamp"].max() == pd.Timestamp("2025-08-01", tz="UTC")
    assert known["score"].to_numpy() == pytest.approx(scorer.score(known), abs=1e-6)

    def verdicts(baseline: pd.DataFrame) -> set[str]:
        rule, found = Monitoring(), set()
        for number in range(4):
            rows = model_inputs(week("2025-08-04", seed=10 + number), inputs, "a week")
            findings = Baseline(baseline, inputs).compare(rows.assign(score=scorer.score(rows)), rule)
            found.add(decide_drift(findings, len(inputs), len(rows), rule).verdict)
        return found

    assert verdicts(known) == {"keep"}
    of_labels_alone = pd.read_parquet(recalibrated / "baseline" / "reference.parquet")
    assert verdicts(of_labels_alone) == {"world moved"}


def test_what_no_array_explains_is_explained_by_comparison(kept: Kept, recalibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(recalibrated, tmp_path / "model")
    (tmp_path / "model" / "explainer.npz").unlink()
    given = TrainingSet(kept.place / "since")
    inputs, background = given.part("test").features.head(5), given.part("train").features
    found = explain_exported(ModelFolder(tmp_path / "model"), inputs, background, seed=42)
    assert found.method == "PermutationExplainer against 50 training rows"
    assert found.base + found.contributions.sum(axis=1) == pytest.approx(found.output, abs=1e-6)
    assert found.output == pytest.approx(
        RawScorer(onnx.load(tmp_path / "model" / "model.onnx"), given.features)(inputs)
    )


def test_a_new_threshold_leaves_every_score_as_it_was(kept: Kept) -> None:
    model = kept.do(TrainingRemedy.threshold, "threshold")
    compared = compare_models(kept.place / "champion", model)
    assert compared["identical"]
    described, before = Model.read(model), Model.read(kept.place / "champion")
    # More events come at every score, so that it pays from a lower one on.
    assert described.threshold < before.threshold
    assert described.calibration == before.calibration
    (told,) = described.notes
    assert re.fullmatch(
        rf"The threshold of version 1 was set anew on \d[\d,]* rows since 2025-05-01, \d+ of them events, from "
        rf"{before.threshold:.4f} to {described.threshold:.4f}; its scores are the same\.",
        told,
    )


def test_where_nothing_is_in_production_there_is_nothing_to_keep(kept: Kept, tmp_path: Path) -> None:
    given = read_project(write_project(tmp_path / "project", kept.place / "state", deployment={"model": "new"}))
    assert version_to_keep(given.settings, given.locations, "retrain", "monitoring-1") == ToKeep()
    told = "There is nothing to recalibrate: no version of new is in production. Start a whole training"
    with pytest.raises(ContractViolation, match=told):
        version_to_keep(given.settings, given.locations, "recalibrate")
    with pytest.raises(ContractViolation, match="remedy is 'mend', and a training can retrain, recalibrate, set the"):
        version_to_keep(given.settings, given.locations, "mend")


def measured(kept: Kept, run: str, **changed: Any) -> Adjustment:
    """What a run of monitoring measured, in the history of windows: five times as many events as foretold."""
    until = datetime(2025, 7, 21, 6, tzinfo=UTC)
    found = Adjustment(
        **{
            "remedy": "recalibrate",
            "version": kept.version,
            "hazard_ratio": 5.0,
            "threshold": 0.25,
            "since": until - timedelta(weeks=2),
            "until": until,
            "observed": 250,
            "expected": 50.0,
            "entities": 1800,
            "gain": Metric(2100, 1500, 2700, 2000),
            "currency": "USD",
        }
        | changed
    )
    window = WindowRecord(
        model="leaving", version=kept.version, start=until - timedelta(days=7), end=until, predictions=400,
        compared=400, mean_score=0.1, verdict="world moved", remedy=found.remedy, sentence="The world moved.",
        adjustment=found, runs=[run],
    )  # fmt: skip
    record_window(kept.given.locations.tracking_uri, kept.given.settings.name, window)
    return found


def test_what_monitoring_measured_is_carried_out_without_a_label(kept: Kept, tmp_path: Path) -> None:
    found = measured(kept, "monitoring-5")
    model = kept.do(TrainingRemedy.recalibrate, "adjusted", "before", asked_by="monitoring-5")
    described = Model.read(model)
    _, before = scored(kept.place / "champion", kept)
    _, after = scored(model, kept)
    assert after == pytest.approx(1 - (1 - before.astype(float)) ** 5, abs=1e-6)
    assert (described.threshold, described.origin.adjustment) == (0.25, found)
    assert described.notes == [
        f"The scores of version {kept.version} were recalibrated for 5.00 times as many events, by outcomes that "
        "monitoring followed: 250 events where 50.0 were foretold, from 2025-07-07 to 2025-07-21; its "
        "HistGradientBoostingClassifier is the same."
    ]

    # Labelled rows are of the world before: there its probabilities are far too high, and that decides nothing.
    rules = [
        {"metric": "performance.roc_auc", "min": 0.6},
        {"metric": "calibration.mean_error", "max": 0.02},
    ]
    briefly = {"bootstrap_replicates": 50, "explained_rows": 5, "latency_requests": 10}
    project = write_project(tmp_path / "project", kept.place / "state", evaluation=briefly, gate={"rules": rules})
    evaluate(project, kept.place / "before", model, tmp_path / "evaluation")
    places = tmp_path / "tables", kept.place / "before", model, tmp_path / "evaluation"
    settings = read_project(project).settings
    decide(settings, kept.given.locations, *places, tmp_path / "verdict", tmp_path / "approved", "monitoring-5")
    told = Verdict.read(tmp_path / "verdict")
    assert told.decision == "approved"
    assert told.sentences[0] == (
        "Approved: leaving meets every rule that could be judged and beats the champion; 1 is set aside, for outcomes "
        "to decide."
    )
    assert [(rule.metric, rule.set_aside) for rule in told.rules] == [
        ("performance.roc_auc", False),
        ("calibration.mean_error", True),
    ]
    assert any(
        "Set aside: labelled rows are older than the outcomes that decide" in sentence for sentence in told.told_beside
    )
    assert told.champion is not None
    (better,) = told.champion.comparisons
    assert (better.metric, better.window, better.difference, better.low) == (
        "expected_value_per_1000",
        "followed",
        2100,
        1500,
    )
    # By this the release foresees how scores will lie.
    assert told.champion.scores[-1].candidate > told.champion.scores[-1].champion
    # The ranking is judged as ever.
    stricter = read_project(
        write_project(
            tmp_path / "stricter",
            kept.place / "state",
            evaluation=briefly,
            gate={"rules": [{"metric": "performance.roc_auc", "min": 0.99}]},
        )
    )
    decide(stricter.settings, kept.given.locations, *places, tmp_path / "refused", tmp_path / "rejected")
    assert Verdict.read(tmp_path / "refused").decision == "rejected"


def test_a_level_that_is_off_is_corrected_though_a_gain_is_not_shown() -> None:
    until = datetime(2025, 7, 21, tzinfo=UTC)
    told = {
        "remedy": "recalibrate", "version": "3", "hazard_ratio": 0.65, "hazard_ratio_low": 0.56,
        "hazard_ratio_high": 0.76, "threshold": 0.08, "since": until - timedelta(weeks=2), "until": until,
        "observed": 171, "expected": 260.8, "entities": 900, "currency": "USD",
    }  # fmt: skip

    def passed(gain: Metric, **changed: float) -> bool:
        comparison, _ = compare_adjusted(Adjustment(**told | changed, gain=gain), Champion(metric="roc_auc"))
        return comparison.passed

    assert passed(Metric(47, -327, 421, 900))
    assert not passed(Metric(-47, -421, 327, 900)), "it would have lost"
    assert not passed(Metric(47, -327, 421, 900), hazard_ratio_high=1.02), "the level may be right"


def test_a_measured_threshold_leaves_every_score_as_it_was(kept: Kept) -> None:
    measured(kept, "monitoring-6", remedy="set the threshold", hazard_ratio=1.0, threshold=0.031)
    model = kept.do(TrainingRemedy.threshold, "lowered", "before", asked_by="monitoring-6")
    assert compare_models(kept.place / "champion", model)["identical"]
    assert Model.read(model).threshold == 0.031
    assert "was set anew by outcomes that monitoring followed, from" in Model.read(model).notes[0]


def test_what_was_measured_of_another_version_or_remedy_is_not_carried_out(kept: Kept) -> None:
    given = kept.given
    measured(kept, "monitoring-7", version="7")
    told = r"monitoring-7 measured how to recalibrate version 7, and version 1 is in production by now"
    with pytest.raises(ContractViolation, match=told):
        version_to_keep(given.settings, given.locations, "recalibrate", "monitoring-7")
    # It measured no threshold, and nobody knows the other: these are fitted on labelled rows.
    for remedy, asked_by in (("set the threshold", "monitoring-7"), ("recalibrate", "monitoring-unknown")):
        assert version_to_keep(given.settings, given.locations, remedy, asked_by) == ToKeep(kept.version)


OTHER = [
    ({"feature_version": "0ther"}, "trained on feature definitions f00d, and these are 0ther; start a whole training"),
    ({"features": "fewer"}, "has to have the features that the project has now"),
]


@pytest.mark.parametrize(("change", "told"), OTHER)
def test_a_model_of_other_features_is_not_kept(kept: Kept, tmp_path: Path, change: dict[str, str], told: str) -> None:
    shutil.copytree(kept.place / "since", tmp_path / "since")
    description = json.loads((tmp_path / "since" / "training_set.json").read_text("utf-8"))
    if "features" in change:
        change = {**change, "features": description["features"][:-1]}
    TrainingSetDescription.model_validate(description | change).write(tmp_path / "since")
    with pytest.raises(ContractViolation, match=told):
        kept.do(TrainingRemedy.recalibrate, "other", str(tmp_path / "since"))
    assert not (kept.place / "other").exists()


def test_rows_that_a_model_has_learned_from_calibrate_nothing(kept: Kept, tmp_path: Path) -> None:
    def sooner(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(event_timestamp=frame["event_timestamp"] - pd.Timedelta(days=40))

    write_training_set(tmp_path / "sooner", change=sooner)
    told = (
        "learned from rows until 2025-03-01, whose labels reach to 2025-03-31; the first here are of 2025-03-22. Give"
    )
    with pytest.raises(ContractViolation, match=told):
        kept.do(TrainingRemedy.recalibrate, "known", str(tmp_path / "sooner"))


def test_a_version_that_is_gone_and_a_project_that_calibrates_nothing_are_refused(kept: Kept, tmp_path: Path) -> None:
    Parameters(parameters={}, remedy=TrainingRemedy.recalibrate, version="9").write(tmp_path / "gone")
    with pytest.raises(
        ContractViolation, match=r"Version 9 of leaving.*is not in the registry any more: start a whole"
    ):
        train_model(kept.project, kept.place / "since", tmp_path / "gone", tmp_path / "model")
    Parameters(parameters={}, remedy=TrainingRemedy.recalibrate, version="1").write(tmp_path / "there")
    plain = write_project(tmp_path / "project", kept.place / "state", training={"calibration": "none"})
    with pytest.raises(
        ContractViolation, match=r"training.calibration is none, so that there is no calibration to fit"
    ):
        train_model(plain, kept.place / "since", tmp_path / "there", tmp_path / "model")


def test_too_few_labels_are_counted_beside_those_that_are_needed(kept: Kept, tmp_path: Path) -> None:
    def hardly_any(part: str, frame: pd.DataFrame) -> pd.DataFrame:
        left = np.flatnonzero(frame["gone"] == 1)
        return frame.drop(index=left[6:]).reset_index(drop=True) if part == "validation" else frame

    write_training_set(tmp_path / "few", change=hardly_any)
    with pytest.raises(ContractViolation, match=r"\d of \d+ rows have gone = 1; training.min_class_rows asks for 10"):
        kept.do(TrainingRemedy.recalibrate, "few", str(tmp_path / "few"))
