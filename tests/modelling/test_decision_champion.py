"""The candidate against the champion: on the same rows, paired, and by policy where the champion cannot be asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import helper

from kfp_lifecycle.artifacts.verdict import Verdict, Window
from kfp_lifecycle.components.evaluation.decide_promotion.comparison import Contest, Scored
from kfp_lifecycle.components.evaluation.decide_promotion.windows import Rows
from kfp_lifecycle.config.gate import Compared
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import DATES, write_project
from tests.modelling.candidates import Candidate
from tests.modelling.verdicts import verdict as a_verdict
from tests.projects import keep_records_at
from tests.registered import make_champion

LENIENT = [{"metric": "performance.roc_auc", "min": 0.5}]
TEST, VALIDATION, TRAIN = DATES["test"], DATES["validation"], DATES["train"]


class Arena:
    """A registry of its own beside the good candidate, in which any model can be made the champion."""

    def __init__(self, good: Candidate, place: Path) -> None:
        self.good, self.place, self.numbers = good, place, count()
        self.uri = f"sqlite:///{place / 'mlflow.db'}"
        good.train("weak", {"max_iter": 2, "max_leaf_nodes": 2})
        # The runs of both models, and no registered version.
        shutil.copy(good.state / "mlflow.db", place)
        shutil.copytree(good.place / "model-evaluation", good.place / "weak-evaluation")
        self.rename("weak-evaluation", "weak")

    def rename(self, evaluation: str, model: str) -> None:
        """Make an evaluation one of another model's run: what was measured is not what is tested here."""
        file = self.good.place / evaluation / "evaluation.json"
        run_id = json.loads((self.good.place / model / "model.json").read_text("utf-8"))["run_id"]
        file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "run_id": run_id}), "utf-8")

    def crown(
        self, model: str, snapshots: list[str] | None = TEST, change: Callable[[Path], None] | None = None
    ) -> str:
        """Make a changed copy of a model the champion, judged by snapshots; its version."""
        folder = self.place / f"champion-{next(self.numbers)}"
        shutil.copytree(self.good.place / model, folder)
        if snapshots:
            a_verdict(snapshots=snapshots).write(folder)
        if change:
            change(folder)
        return make_champion(folder, self.uri, "leaving")

    def decide(self, model: str, **champion: Any) -> dict[str, Any]:
        """The verdict on a model under lenient rules."""
        project = self.good.with_rules(LENIENT, **champion)
        keep_records_at(project, self.uri)
        return self.good.decide(model, project)


@pytest.fixture(scope="module")
def arena(good: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Arena:
    return Arena(good, tmp_path_factory.mktemp("arena"))


@pytest.mark.slow
class TestVerdicts:
    """Whole decisions with real models and a real registry."""

    def test_an_identical_model_is_no_improvement(self, arena: Arena) -> None:
        version = arena.crown("model")
        verdict = arena.decide("model")
        assert verdict["decision"] == "rejected"
        (comparison,) = verdict["champion"]["comparisons"]
        assert (comparison["difference"], comparison["low"], comparison["high"]) == (0, 0, 0)
        assert "there is no difference and nothing to gain" in verdict["champion"]["sentence"]
        assert f"it is not shown to be better than version {version}, which stays" in verdict["sentences"][0]

    def test_a_clearly_better_model_is_approved_and_carries_its_verdict(self, arena: Arena) -> None:
        arena.crown("weak")
        verdict = arena.decide("model")
        assert verdict["decision"] == "approved"
        (comparison,) = verdict["champion"]["comparisons"]
        assert comparison["low"] > 0
        assert comparison["method"] == "DeLong"
        assert verdict["champion"]["notes"] == ["The champion was judged by the newest snapshots too."]
        carried = json.loads((arena.good.place / "approved" / "verdict.json").read_text("utf-8"))
        assert carried == verdict
        assert Verdict.model_validate(carried).snapshots == TEST

    def test_a_worse_model_is_told_how_much_worse(self, arena: Arena) -> None:
        arena.crown("model")
        verdict = arena.decide("weak")
        assert verdict["champion"]["comparisons"][0]["high"] < 0
        assert "the candidate is worse by " in verdict["champion"]["sentence"]

    def test_both_are_compared_on_the_snapshots_that_the_champion_was_judged_by(self, arena: Arena) -> None:
        arena.crown("weak", [*VALIDATION, "2024-01-01"])
        verdict = arena.decide("model", non_inferiority={"roc_auc": 0.02, "log_loss": 0.02})
        newest, former = verdict["champion"]["windows"]
        scores = verdict["champion"]["scores"]
        assert len(scores) == 20, "what a release foresees of the candidate's scores beside the champion's"
        for side in ("champion", "candidate"):
            assert [pair[side] for pair in scores] == sorted(pair[side] for pair in scores)
        assert newest["snapshots"] == TEST
        assert not newest["learned_from"]
        assert former["snapshots"] == VALIDATION
        assert former["learned_from"]
        assert former["rows"] == len(pd.read_parquet(arena.good.training_set / "validation.parquet"))
        asked = [(item["window"], item["demand"], item["metric"]) for item in verdict["champion"]["comparisons"]]
        assert asked == [
            ("newest", "superiority", "roc_auc"),
            ("newest", "non_inferiority", "log_loss"),
            ("champion", "non_inferiority", "roc_auc"),
            ("champion", "non_inferiority", "log_loss"),
        ]
        gone, seen = verdict["champion"]["notes"]
        assert "no longer has 2024-01-01" in gone
        assert "has seen rows that the champion was judged by (they are in its validation data)" in seen

    @pytest.mark.parametrize(
        ("snapshots", "note"),
        [
            (None, "is not recorded with it"),
            (["2024-01-01"], "the training set no longer has 2024-01-01"),
            (TEST, "The champion was judged by the newest snapshots too."),
        ],
    )
    def test_where_those_snapshots_cannot_be_had_it_is_said(
        self, arena: Arena, snapshots: list[str] | None, note: str
    ) -> None:
        arena.crown("weak", snapshots)
        champion = arena.decide("model")["champion"]
        assert [window["name"] for window in champion["windows"]] == ["newest"]
        assert note in champion["notes"][0]

    def test_another_days_snapshots_stand_for_those_that_the_champion_was_judged_by(self, arena: Arena) -> None:
        arena.crown("weak", ["2025-05-09", "2025-07-04", "2025-06-02"])
        champion = arena.decide("model")["champion"]
        assert champion["windows"][1]["snapshots"] == ["2025-05-01", "2025-07-01"]
        gone, moved, seen = champion["notes"]
        assert "no longer has 2025-06-02" in gone
        assert "2025-05-01 stands for 2025-05-09, 2025-07-01 stands for 2025-07-04" in moved
        assert "in its validation data" in seen

    def test_a_better_ranking_does_not_make_up_for_worse_probabilities(self, arena: Arena) -> None:
        place = arena.good.place
        shutil.copytree(place / "model", place / "inflated")
        inflate(place / "inflated")
        shutil.copytree(place / "model-evaluation", place / "inflated-evaluation")
        arena.crown("weak")
        assert arena.decide("inflated")["decision"] == "approved"
        verdict = arena.decide("inflated", non_inferiority={"brier_score": 0.01})
        assert verdict["decision"] == "rejected"
        ranking, probabilities = verdict["champion"]["comparisons"]
        assert ranking["passed"]
        assert not probabilities["passed"]
        assert probabilities["method"] == "paired bootstrap"
        assert probabilities["difference"] == pytest.approx(probabilities["champion"] - probabilities["candidate"])
        assert "it may be worse than version" in verdict["sentences"][0]
        assert "a loss of 0.01 has to be ruled out: missed" in verdict["champion"]["sentence"]

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
            (lambda folder: (folder / "model.onnx").write_bytes(b"\0 no model"), "are damaged"),
            (lambda folder: (folder / "model.json").write_text("{", "utf-8"), "are damaged"),
            (lambda folder: describe(folder, feature_version="0ther"), "features are of version 0ther"),
            (lambda folder: rename_input(folder, "charge", "gone_by"), "it reads gone_by"),
            (shutil.rmtree, "cannot be brought from file://"),
        ],
        ids=[
            "a missing file",
            "a damaged model",
            "a damaged description",
            "other features",
            "a lost feature",
            "nothing",
        ],
    )
    def test_a_champion_that_cannot_be_asked_refuses_the_candidate_or_leaves_it_to_the_rules(
        self, arena: Arena, damage: Callable[[Path], None], words: str
    ) -> None:
        version = arena.crown("weak", change=damage)
        verdict = arena.decide("model")
        assert verdict["decision"] == "rejected"
        assert verdict["champion"]["compared"] is False
        assert words in verdict["champion"]["sentence"]
        assert f"could not be compared with version {version}" in verdict["sentences"][0]
        assert "Nothing is approved unseen" in verdict["champion"]["sentence"]

        verdict = arena.decide("model", unreachable="judge_absolutely")
        assert verdict["decision"] == "approved"
        assert words in verdict["champion"]["sentence"]
        assert "The rules alone decide" in verdict["champion"]["sentence"]
        assert "beats the champion" not in verdict["sentences"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), r"evaluation.json cannot be read \(No such file"),
        (lambda file: file.write_text('{"run_id": "x"', "utf-8"), "evaluation.json cannot be read"),
        (lambda file: rewrite(file, metrics=None), "evaluation.json: metrics: Input should be a valid dictionary"),
        (lambda file: rewrite(file, format=2), "is of format 2, and this step reads 1"),
        (
            lambda file: rewrite(file, run_id="another"),
            "is of the model of run another, but the candidate is that of run",
        ),
    ],
    ids=["missing", "damaged", "not whole", "of another format", "of another run"],
)
def test_what_is_no_evaluation_of_the_candidate_stops_the_step_before_anything_is_written(
    good: Candidate, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    shutil.copytree(good.place / "model-evaluation", tmp_path / "evaluation")
    damage(tmp_path / "evaluation" / "evaluation.json")
    for name in ("verdict", "approved"):
        place = good.place / name
        place.unlink(missing_ok=True) if place.is_file() else shutil.rmtree(place, ignore_errors=True)
    with pytest.raises(ContractViolation, match=words):
        good.decide(evaluation=str(tmp_path / "evaluation"))
    assert not (good.place / "verdict").exists()
    assert not (good.place / "approved").exists()


@pytest.mark.slow
def test_a_registry_that_is_down_stops_the_step_and_is_named_without_its_password(good: Candidate) -> None:
    project = good.with_rules(LENIENT)
    keep_records_at(project, "postgresql://mlflow:secret@127.0.0.1:9/mlflow")
    with pytest.raises(ContractViolation, match=r"127\.0\.0\.1:9 cannot be reached") as refused:
        good.decide(project=project)
    assert "secret" not in str(refused.value)


def describe(folder: Path, **values: Any) -> None:
    rewrite(folder / "model.json", **values)


def rewrite(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **values}), "utf-8")


def rename_input(folder: Path, before: str, after: str) -> None:
    """Let a model read another feature."""
    model = onnx.load(folder / "model.onnx")
    for item in model.graph.input:
        item.name = after if item.name == before else item.name
    for node in model.graph.node:
        node.input[:] = [after if name == before else name for name in node.input]
    onnx.save(model, folder / "model.onnx")
    inputs = json.loads((folder / "model.json").read_text("utf-8"))["inputs"]
    describe(folder, inputs=[{**item, "name": after if item["name"] == before else item["name"]} for item in inputs])


def inflate(folder: Path) -> None:
    """Take the root of each probability: the same ranking, and far too much confidence."""
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            if name == "probabilities":
                node.output[position] = "true_probabilities"
    model.graph.node.append(helper.make_node("Sqrt", ["true_probabilities"], ["probabilities"]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


# -- The comparison alone, on invented scores


def contest(place: Path, rows: int, seed: int = 0, *, window: str = "newest", label: Any = None) -> Contest:
    """Two scores of the same rows, each customer twice."""
    random = np.random.default_rng(seed)
    entity = np.repeat(np.arange(rows // 2), 2)
    truth = np.repeat(random.normal(size=rows // 2), 2)
    if label is None:
        label = (random.random(rows) < 1 / (1 + np.exp(1.5 - 1.5 * truth))).astype(np.int8)

    def scored(noise: float) -> Scored:
        errors = np.repeat(random.normal(size=rows // 2), 2) + random.normal(0, 0.5, rows)
        return Scored((1 / (1 + np.exp(1.5 - truth - noise * errors))).astype(np.float32), 0.3)

    described = Window(
        name=window,
        snapshots=["2025-07-01"],
        rows=rows,
        positives=int(label.sum()),
        entities=rows // 2,
        learned_from=False,
    )
    frame = pd.DataFrame({"account": entity})
    configuration = load_configuration(write_project(place / "project", place / "state"))
    return Contest(Rows(described, Part(frame, frame, label, entity)), scored(0.6), scored(0.9), configuration)


def test_the_lead_in_auc_has_the_variance_of_obuchowski(tmp_path: Path) -> None:
    """Against the textbook's sums over all pairs, and against leaving out one customer after the other."""
    both = contest(tmp_path, 240)
    found = both.meet("superiority", "roc_auc", 0.0, "1")
    label, entity = both.rows.part.label, both.rows.part.entity
    positives, negatives = np.flatnonzero(label == 1), np.flatnonzero(label == 0)

    def kernel(score: Any) -> Any:
        difference = score[positives][:, None].astype(float) - score[negatives][None, :]
        return (difference > 0) + 0.5 * (difference == 0)

    lead = kernel(both.ours.score) - kernel(both.theirs.score)
    theta = lead.mean()
    of_positives = np.bincount(entity[positives], lead.mean(axis=1) - theta, 120)
    of_negatives = np.bincount(entity[negatives], lead.mean(axis=0) - theta, 120)
    m, n = len(positives), len(negatives)
    i10, i01 = len(np.unique(entity[positives])), len(np.unique(entity[negatives]))
    variance = (
        i10 / (i10 - 1) * (of_positives**2).sum() / m**2
        + i01 / (i01 - 1) * (of_negatives**2).sum() / n**2
        + 2 * 120 / 119 * (of_positives * of_negatives).sum() / (m * n)
    )
    assert found.difference == pytest.approx(theta, abs=1e-7)
    assert found.low is not None
    assert found.high is not None
    error = (found.high - found.low) / (2 * 1.959964)
    assert error == pytest.approx(np.sqrt(variance), rel=0.01)

    without = []
    for customer in range(120):
        rows, columns = entity[positives] != customer, entity[negatives] != customer
        without.append(lead[rows][:, columns].mean())
    jackknife = np.sqrt(119 / 120 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert error == pytest.approx(jackknife, rel=0.05)


def test_an_additive_lead_has_the_interval_of_a_paired_test_by_customer(tmp_path: Path) -> None:
    both = contest(tmp_path, 4000)
    found = both.meet("non_inferiority", "brier_score", 0.01, "1")
    label = both.rows.part.label
    gain = (both.theirs.score - label) ** 2 - (both.ours.score - label) ** 2
    by_customer = gain.reshape(-1, 2).mean(axis=1)
    error = by_customer.std(ddof=1) / np.sqrt(len(by_customer))
    assert found.difference == pytest.approx(by_customer.mean(), abs=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(error, rel=0.2)


@pytest.mark.parametrize("metric", get_args(Compared))
def test_every_metric_is_compared_in_its_own_direction(tmp_path: Path, metric: Compared) -> None:
    both = contest(tmp_path, 2000)
    found = both.meet("superiority", metric, 0.0, "1")
    swapped = Contest(both.rows, both.theirs, both.ours, both.configuration).meet("superiority", metric, 0.0, "1")
    assert found.difference is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.difference <= found.high
    assert swapped.difference == pytest.approx(-found.difference)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    if metric in ("roc_auc", "average_precision", "brier_score", "log_loss"):
        assert found.difference > 0, "the candidate errs less"


def test_no_loss_is_shown_only_when_the_worse_end_is_inside_the_margin(tmp_path: Path) -> None:
    both = contest(tmp_path, 400)
    swapped = Contest(both.rows, both.theirs, both.ours, both.configuration)
    shown = swapped.meet("non_inferiority", "roc_auc", 0.5, "1")
    assert shown.difference is not None
    assert shown.low is not None
    assert shown.difference < 0
    assert shown.passed
    assert not swapped.meet("non_inferiority", "roc_auc", -shown.low - 1e-9, "1").passed
    assert swapped.meet("non_inferiority", "roc_auc", -shown.low + 1e-9, "1").passed


def test_too_few_events_in_a_window_are_said_and_prove_nothing(tmp_path: Path) -> None:
    label = np.zeros(400, dtype=np.int8)
    label[:4] = 1
    found = contest(tmp_path, 400, window="champion", label=label).meet("non_inferiority", "roc_auc", 0.1, "7")
    assert not found.passed
    assert found.difference is None
    assert "version 7 on the 400 rows that it was judged by: 4 rows of one class are fewer than" in found.sentence


def test_a_metric_that_is_undefined_for_one_of_them_proves_nothing(tmp_path: Path) -> None:
    both = contest(tmp_path, 400)
    never = Contest(both.rows, both.ours, Scored(both.theirs.score, 2.0), both.configuration)
    found = never.meet("superiority", "precision", 0.0, "3")
    assert not found.passed
    assert found.champion is None
    assert "precision is undefined for version 3: no row reaches its threshold" in found.sentence
