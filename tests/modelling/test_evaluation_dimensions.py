"""What each dimension finds where the truth is known: a formula as the model, customers made for the question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.components.evaluation.evaluate_model.calibration_error import examine_calibration
from kfp_lifecycle.components.evaluation.evaluate_model.decision_changes import examine_decision_changes
from kfp_lifecycle.components.evaluation.evaluate_model.explanation import Explanation, reasons
from kfp_lifecycle.components.evaluation.evaluate_model.fairness import GroupFairness, examine_fairness
from kfp_lifecycle.components.evaluation.evaluate_model.findings import MOST_EXAMINED, Sample
from kfp_lifecycle.components.evaluation.evaluate_model.performance import compare_with_past, examine_performance
from kfp_lifecycle.components.evaluation.evaluate_model.refits import area_in_past
from kfp_lifecycle.components.evaluation.evaluate_model.robustness import examine_robustness, outside_range, with_noise
from kfp_lifecycle.components.evaluation.evaluate_model.slices import examine_slices, find_slices
from kfp_lifecycle.config.evaluation import Evaluation
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.dataset import Part
from kfp_lifecycle.reports.plot_style import svg
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap

pytestmark = pytest.mark.slow

Formula = Callable[[dict[str, np.ndarray]], np.ndarray]


class FormulaModel:
    """A model whose score is a formula of its inputs, asked as the served one is."""

    def __init__(self, formula: Formula, features: list[Feature]) -> None:
        self.formula, self.features = formula, features

    def feed(self, inputs: pd.DataFrame) -> dict[str, np.ndarray]:
        types = {"numeric": np.float32, "categorical": object}
        return {item.name: inputs[[item.name]].to_numpy(dtype=types[item.type]) for item in self.features}

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        score: np.ndarray = self.formula({name: values[:, 0] for name, values in feed.items()}).astype(np.float32)
        return score


def logistic(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def part_of(columns: dict[str, Any], label: np.ndarray, entity: np.ndarray | None = None) -> Part:
    frame = pd.DataFrame(columns).assign(event_timestamp=pd.Timestamp("2025-07-01", tz="UTC"))
    entity = np.arange(len(label)) if entity is None else entity
    return Part(frame.assign(account=entity), frame.drop(columns="event_timestamp"), label.astype(np.int8), entity)


def sample_of(
    formula: Formula,
    columns: dict[str, Any],
    label: np.ndarray | None = None,
    sensitive: dict[str, Any] | None = None,
    threshold: float = 0.5,
    **settings: Any,
) -> Sample:
    """Test rows scored by a formula; where no label is given the score is the true probability."""
    kinds = {
        name: "numeric" if np.asarray(values).dtype.kind == "f" else "categorical" for name, values in columns.items()
    }
    model: Any = FormulaModel(formula, [Feature(name, kind) for name, kind in kinds.items()])  # type: ignore[arg-type]
    score = model.run(model.feed(pd.DataFrame(columns)))
    if label is None:
        label = (np.random.default_rng(99).random(len(score)) < score).astype(np.int8)
    part = part_of({**columns, **(sensitive or {})}, label)
    bootstrap = Bootstrap(part.entity, 200, 0)
    evaluation = Evaluation(**{"min_group_rows": 100, **settings})
    costs = Costs(saved=240, action=15, success_rate=0.3)
    return Sample(
        part, model, score, threshold, list(sensitive or {}), bootstrap.entity, bootstrap, evaluation, costs, 0
    )


def normal(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows).astype(np.float32)


class TestPerformance:
    def test_compares_with_the_baselines_on_the_same_rows(self) -> None:
        x = normal(2000)
        sample = sample_of(lambda feed: logistic(2 * feed["x"]), {"x": x})
        found = examine_performance(
            sample, {"dummy": np.full(2000, 0.5), "logistic": logistic(2 * x + normal(2000, 1))}
        )
        gain = found.metrics["performance.roc_auc_gain_over_logistic"]
        difference = found.metrics["performance.roc_auc"].value - found.metrics["performance.logistic_roc_auc"].value
        assert gain.value == pytest.approx(difference)
        assert 0 < gain.low < gain.value < gain.high
        table = next(table for table in found.sections if "baselines" in table.title)
        assert table.columns == ["metric", "model", "dummy", "logistic"]

    def test_says_what_is_undefined_and_gives_no_number(self) -> None:
        sample = sample_of(lambda feed: 0.2 + 0 * feed["x"], {"x": normal(200)}, threshold=1.0)
        found = examine_performance(sample, {})
        assert "performance.precision" not in found.metrics
        assert "performance.precision is undefined: no row reaches the threshold." in found.notes
        assert found.metrics["performance.roc_auc"].value == 0.5

    @pytest.mark.parametrize("broken", [np.nan, 1.5, -0.1])
    def test_a_score_that_is_no_probability_is_refused(self, broken: float) -> None:
        with pytest.raises(ContractViolation, match="scores 1 of 50 test rows with no probability; row 0 gets"):
            sample_of(lambda feed: np.where(np.arange(50) == 0, broken, 0.5), {"x": normal(50)}, np.arange(50) % 2)


class TestCalibration:
    def test_names_an_overconfident_model(self) -> None:
        x = normal(3000)
        label = (np.random.default_rng(1).random(3000) < logistic(x)).astype(np.int8)
        found = examine_calibration(sample_of(lambda feed: logistic(3 * feed["x"]), {"x": x}, label))
        assert found.metrics["calibration.slope"].high < 0.5
        assert found.metrics["calibration.expected_calibration_error"].low > 0.05
        assert found.metrics["calibration.spiegelhalter_p_value"].value < 0.001
        assert "differ from what happened by more than chance" in found.notes[0]

    def test_says_what_a_constant_score_leaves_undefined(self) -> None:
        found = examine_calibration(sample_of(lambda feed: 0.3 + 0 * feed["x"], {"x": normal(300)}))
        assert "calibration.slope" not in found.metrics
        assert any(note.startswith("calibration.slope is undefined") for note in found.notes)
        assert found.metrics["calibration.expected_calibration_error"].value < 0.1


class TestFairness:
    def sample(self, rows: int = 3000, lift: float = 0.0, seed: int = 3) -> Sample:
        random = np.random.default_rng(seed)
        gender = random.choice(["a", "b", "c"], rows, p=[0.6, 0.38, 0.02])
        region = random.choice(["north", "south"], rows)
        x = normal(rows, seed) + lift * (gender == "b")
        return sample_of(lambda feed: logistic(feed["x"] - 1), {"x": x}, None, {"gender": gender, "region": region})

    @pytest.mark.parametrize("column", ["gender", "gender+region"])
    def test_agrees_with_fairlearn(self, column: str) -> None:
        sample = self.sample()
        found = examine_fairness(sample)
        frame = sample.part.frame
        judged = (frame.gender != "c").to_numpy()
        groups = frame[column.split("+")][judged]
        for name in ("demographic_parity_ratio", "demographic_parity_difference", "equalized_odds_difference"):
            expected = getattr(fairlearn.metrics, name)(
                sample.label[judged], sample.acted[judged].astype(int), sensitive_features=groups
            )
            metric = found.metrics[f"fairness.{name}.{column}"]
            assert metric.value == pytest.approx(expected)
            assert metric.low <= metric.value <= metric.high
            assert metric.rows == judged.sum()

    def test_shows_small_groups_and_judges_them_neither_way(self) -> None:
        found = examine_fairness(self.sample())
        assert any(note.startswith("gender=c has") and "neither passes nor fails" in note for note in found.notes)
        assert any(note.startswith("2 of 6 groups by gender+region have fewer rows") for note in found.notes)
        assert "fairness.selection_rate.gender=c" not in found.metrics
        table = next(table for table in found.sections if table.title == "Decisions by gender")
        assert [row[-1] for row in table.rows] == ["yes", "yes", "too small"]

    def test_says_that_nothing_was_measured_where_no_two_groups_are_large_enough(self) -> None:
        found = examine_fairness(self.sample(rows=150))
        assert (
            "Fairness by gender was not measured: fewer than two of its groups are large enough to judge."
            in found.notes
        )
        assert not any(name.startswith("fairness.demographic_parity_ratio.gender") for name in found.metrics)

    def test_groups_of_one_are_no_error(self) -> None:
        everyone = [f"person {number}" for number in range(150)]
        found = examine_fairness(
            sample_of(lambda feed: logistic(feed["x"]), {"x": normal(150)}, None, {"id": everyone})
        )
        assert not found.metrics
        assert any(note.startswith("Fairness by id was not measured") for note in found.notes)

    def test_never_acting_leaves_the_ratio_undefined(self) -> None:
        sample = sample_of(
            lambda feed: 0.1 + 0 * feed["x"], {"x": normal(400)}, None, {"gender": np.arange(400) % 2}, threshold=0.5
        )
        found = examine_fairness(sample)
        assert any(note.startswith("fairness.demographic_parity_ratio.gender is undefined") for note in found.notes)
        assert found.metrics["fairness.demographic_parity_difference.gender"].value == 0
        # 0 of 200 rows of both groups were acted on, which is no proof that none ever is.
        assert found.metrics["fairness.demographic_parity_difference.gender"].high > 0

    def test_intervals_cover_the_true_difference_of_equal_and_of_unequal_groups(self) -> None:
        for column, lift in (("region", 0.0), ("gender", 0.4)):

            def difference(rows: int, seed: int, column: str = column, lift: float = lift) -> Metric:
                sample = self.sample(rows, lift, seed)
                found = GroupFairness(column, sample.part.frame[column].to_numpy(), sample).difference("selection_rate")
                assert found is not None
                return found

            truth = difference(200_000, 1).value if lift else 0.0
            found = [difference(800, seed) for seed in range(30)]
            assert sum(metric.low <= truth <= metric.high for metric in found) >= 26

    def test_a_column_of_many_values_is_judged_by_its_most_frequent_ones(self) -> None:
        values = np.minimum(np.arange(1000) // 2, 200).astype(str)
        found = examine_fairness(
            sample_of(lambda feed: logistic(feed["x"]), {"x": normal(1000)}, None, {"code": values})
        )
        assert found.notes[0].startswith("code has 201 values: the 100 most frequent")
        table = next(table for table in found.sections if table.title == "Decisions by code")
        assert len(table.rows) == 101


class TestSlices:
    def test_finds_where_a_good_model_is_terrible(self) -> None:
        random = np.random.default_rng(0)
        x, tenure = normal(4000), random.uniform(0, 100, 4000).astype(np.float32)
        noise = normal(4000, 1)
        label = (random.random(4000) < logistic(2 * np.where(tenure < 25, noise, x))).astype(np.int8)
        sample = sample_of(lambda feed: logistic(2 * feed["x"] + 0 * feed["tenure"]), {"x": x, "tenure": tenure}, label)
        found = examine_slices(sample)
        worst = found.metrics["robustness.worst_slice_auc"]
        assert found.metrics["performance.roc_auc.tenure=q1"].value == worst.value == pytest.approx(0.5, abs=0.05)
        # The corrected interval is wider than that of the slice alone.
        assert worst.low < found.metrics["performance.roc_auc.tenure=q1"].low
        assert "slices tenure=q1 ranks worst" in found.notes[0]

    def test_looks_at_the_features_that_the_model_rests_on_most_where_the_table_is_wide(self) -> None:
        columns = {f"x{number}": normal(400, number) for number in range(MOST_EXAMINED + 20)}
        ranked = sorted(columns, reverse=True)
        sample = replace(sample_of(lambda feed: logistic(feed["x9"]), columns), ranked=ranked)
        assert list(sample.examined) == [name for name in columns if name in ranked[:MOST_EXAMINED]]
        sliced = {name.rpartition("=")[0] for name in find_slices(sample)}
        assert sliced == set(sample.examined)
        few = sample_of(lambda feed: logistic(feed["x9"]), {"x9": columns["x9"]})
        assert list(few.examined) == ["x9"]

    def test_finds_the_pair_of_conditions_where_probabilities_are_wrong(self) -> None:
        random = np.random.default_rng(0)
        plan, channel = random.choice(["basic", "pro"], 6000), random.choice(["shop", "web"], 6000)
        x = normal(6000)
        truth = logistic(x - 1 + 1.2 * ((plan == "pro") & (channel == "web")))
        label = (random.random(6000) < truth).astype(np.int8)
        columns = {"x": x, "plan": plan.astype(object), "channel": channel.astype(object)}
        found = examine_slices(sample_of(lambda feed: logistic(feed["x"] - 1), columns, label))
        assert "furthest off for plan=pro and channel=web" in found.notes[1]
        assert found.metrics["robustness.worst_slice_calibration_gap"].low > 0.1

    def test_a_true_model_has_no_slice_that_is_wrong_beyond_chance(self) -> None:
        wrong = 0
        for seed in range(25):
            columns = {name: normal(1000, 100 * seed + at) for at, name in enumerate(("x", "y", "z", "w"))}
            label = (np.random.default_rng(seed).random(1000) < logistic(columns["x"] + columns["y"] - 1)).astype(
                np.int8
            )
            sample = sample_of(
                lambda feed: logistic(feed["x"] + feed["y"] - 1 + 0 * (feed["z"] + feed["w"])), columns, label
            )
            wrong += examine_slices(sample).metrics["robustness.worst_slice_calibration_gap"].low > 0
        assert wrong <= 4

    def test_says_that_no_slice_is_large_enough(self) -> None:
        sample = sample_of(lambda feed: logistic(feed["x"]), {"x": normal(20)}, np.arange(20) % 2)
        found = examine_slices(sample)
        assert [note[:24] for note in found.notes] == ["No slice has enough rows"] * 2


class TestRobustness:
    def test_measures_each_disturbance_beside_the_undisturbed_ranking(self) -> None:
        rows = 1500
        plan = np.random.default_rng(0).choice(["basic", "pro"], rows).astype(object)
        columns = {"x": normal(rows), "y": normal(rows, 1), "z": normal(rows, 2), "w": normal(rows, 3), "plan": plan}

        def formula(feed: dict[str, np.ndarray]) -> Any:
            known = sum(np.nan_to_num(feed[name]) * weight for name, weight in zip("xyzw", (2, 1, 0.5, 0), strict=True))
            return logistic(known + 1.0 * (feed["plan"] == "pro") - 0.5)

        sample = sample_of(formula, columns)
        train = sample.part.features
        before = sample.part.frame.assign(event_timestamp=pd.Timestamp("2025-06-01", tz="UTC"), x=normal(rows, 4))
        found = examine_robustness(
            sample, train, before, "account", {"near": ["x", "y"], "far": ["z", "w"], "own": ["plan"]}
        )
        drops = {name: metric.value for name, metric in found.metrics.items()}
        assert "suffers most when x is missing" in found.notes[0]
        assert drops["robustness.three_missing_features_auc_drop"] > drops["robustness.worst_missing_feature_auc_drop"]
        assert drops["robustness.worst_missing_feature_auc_drop"] > drops["robustness.unseen_category_auc_drop"] > 0
        assert drops["robustness.worst_missing_view_auc_drop"] > drops["robustness.worst_missing_feature_auc_drop"]
        assert any(
            note.startswith("Of the feature views near is needed most: without its 2 features AUC falls")
            for note in found.notes
        )
        assert "all of far missing" in str(found.sections)
        assert "all of own missing" not in str(found.sections)
        assert drops["robustness.large_noise_auc_drop"] > drops["robustness.noise_auc_drop"]
        assert drops["robustness.outside_range_auc_drop"] > 0
        # Stale x says nothing: as bad as if it were missing.
        stale, missing = drops["robustness.stale_features_auc_drop"], drops["robustness.worst_missing_feature_auc_drop"]
        assert stale >= missing - 0.03
        assert "features 30 days older" in str(found.sections)

    def test_a_model_that_breaks_under_a_missing_value_is_refused(self) -> None:
        sample = sample_of(lambda feed: logistic(feed["x"]), {"x": normal(100)})
        with pytest.raises(
            ContractViolation, match="With x missing the model scores 100 of 100 rows with no probability"
        ):
            examine_robustness(sample, sample.part.features, sample.part.frame.head(0), "account", {})

    def test_of_many_rows_some_entities_are_disturbed(self) -> None:
        sample = sample_of(
            lambda feed: logistic(2 * np.nan_to_num(feed["x"])), {"x": normal(3000)}, disturbed_rows=1000
        )
        found = examine_robustness(sample, sample.part.features, sample.part.frame.head(0), "account", {})
        drop = found.metrics["robustness.worst_missing_feature_auc_drop"]
        assert drop.rows == 1000
        # Without its only feature the model ranks by chance.
        assert drop.value == pytest.approx(sample.whole.value - 0.5, abs=0.02)

    def test_noise_stays_within_the_training_range_and_outliers_leave_it(self) -> None:
        known, random = np.linspace(0, 10, 100), np.random.default_rng(0)
        values = np.array([[0.0], [5.0], [10.0], [12.0], [np.nan]], dtype=np.float32).repeat(200, axis=0)
        noisy = with_noise(values, known, 0.5, random)
        assert np.isnan(noisy).sum() == 200
        assert [float(np.nanmin(noisy)), float(np.nanmax(noisy))] == [0, 12]
        assert (noisy != values).sum() > 200
        outside = outside_range(values, known, random)
        changed = outside[outside != values]
        assert 0 < np.isfinite(changed).sum() < 200
        assert not ((changed >= 0) & (changed <= 10)).any()


class TestDecisionChanges:
    def sample(self, **settings: Any) -> Sample:
        columns = {"x": np.linspace(0, 1, 1000).astype(np.float32), "y": normal(1000)}
        return sample_of(lambda feed: np.where(feed["x"] > 0.5, 0.9, 0.1) + 0 * feed["y"], columns, **settings)

    def test_the_smallest_change_is_the_nearest_one_tried(self) -> None:
        sample = self.sample(actionable=["x"])
        found = examine_decision_changes(sample, sample.part.features)
        assert found.metrics["robustness.decisions_changed"].value == 1
        # x is uniform and the decision turns at a half: the tenth nearest to it, but for the grid, is within a tenth.
        assert found.metrics["robustness.decisions_changed_by_little"].value == pytest.approx(0.15, abs=0.1)
        table = found.sections[0]
        assert [row[3] for row in table.rows] == sorted(row[3] for row in table.rows)
        assert all(row[2].startswith("x ") for row in table.rows)

    def test_what_the_decision_does_not_rest_on_changes_nothing(self) -> None:
        sample = self.sample(actionable=["y"])
        found = examine_decision_changes(sample, sample.part.features)
        assert found.metrics["robustness.decisions_changed"].value == 0
        assert found.metrics["robustness.decisions_changed"].high > 0

    def test_two_features_are_changed_together(self) -> None:
        plan = np.array(["basic", "pro"], dtype=object)[np.arange(600) % 2]
        columns = {"plan": plan, "x": np.linspace(0, 1, 600).astype(np.float32)}
        sample = sample_of(
            lambda feed: np.where((feed["plan"] == "pro") & (feed["x"] > 0.6), 0.9, 0.1),
            columns,
            actionable=["plan", "x"],
        )
        found = examine_decision_changes(sample, sample.part.features)
        assert found.metrics["robustness.decisions_changed"].value == 1

    def test_without_actionable_features_it_is_said_that_nothing_was_measured(self) -> None:
        found = examine_decision_changes(self.sample(), pd.DataFrame())
        assert not found.metrics
        assert found.notes[0].startswith("robustness.decisions_changed_by_little was not measured")

    def test_a_name_of_no_feature_is_refused(self) -> None:
        with pytest.raises(
            ContractViolation, match=r"evaluation.actionable: the model has no feature xx. Did you mean x\?"
        ):
            examine_decision_changes(self.sample(actionable=["xx"]), pd.DataFrame())


class TestRefits:
    def train(self) -> Part:
        x, leak = normal(3000, 5), normal(3000, 6)
        label = (np.random.default_rng(5).random(3000) < logistic(x + 3 * leak)).astype(np.int8)
        return part_of({"x": x, "leak": leak}, label, np.arange(3000) // 2)

    def fitted(self, train: Part) -> Any:
        return make_pipeline(FunctionTransformer(np.nan_to_num), LogisticRegression()).fit(train.features, train.label)

    def sample(self) -> Sample:
        return sample_of(lambda feed: logistic(feed["x"] + feed["leak"]), {"x": normal(200), "leak": normal(200, 1)})

    def test_the_past_is_measured_on_entities_that_were_left_out(self) -> None:
        train = self.train()
        past = area_in_past(self.fitted(train), train, 0)
        assert past is not None
        assert past.rows == pytest.approx(750, abs=60)
        assert (past.contributions != 0).sum() <= past.rows / 2 + 1
        assert 0.8 < past.value < 0.95

    @pytest.mark.parametrize(("shift", "told"), [(0.9, "worse by 0."), (-0.9, "better by 0."), (0.0, "may be chance")])
    def test_the_future_is_compared_with_the_past_in_words(self, shift: float, told: str) -> None:
        past = sample_of(lambda feed: logistic((2 + shift) * feed["x"]), {"x": normal(2000)}).whole
        sample = sample_of(lambda feed: logistic((2 - shift) * feed["x"]), {"x": normal(2000, 1)})
        found = compare_with_past(sample, past, {"2025-07-01": np.ones(2000, dtype=bool)})
        assert told in found.notes[0]
        metric = found.metrics["robustness.future_roc_auc_drop"]
        assert metric.value == pytest.approx(past.value - sample.whole.value)
        assert (metric.low > 0, metric.high < 0) == (shift > 0, shift < 0)


class TestTitles:
    """What people read says the title; a metric, which rules name, the name."""

    def test_are_in_notes_and_tables_of_slices_and_outages(self) -> None:
        columns = {"nian_ling": normal(3000), "you_xi": normal(3000, 1)}
        plain = sample_of(
            lambda feed: logistic(np.nan_to_num(2 * feed["nian_ling"]) + np.nan_to_num(feed["you_xi"])), columns
        )
        sample = replace(plain, titles={"nian_ling": "年龄", "you_xi": "<b>$x$</b>"})
        before = sample.part.frame.iloc[:0]
        outages = examine_robustness(sample, sample.part.features, before, "account", {})
        slices = examine_slices(sample)
        assert outages.notes[0].startswith("The ranking suffers most when 年龄 is missing: AUC falls by ")
        assert any(row[0] == "<b>$x$</b> missing" for row in outages.sections[0].rows)
        assert any(row[0].startswith("年龄=q") for row in slices.sections[0].rows)
        assert all("nian_ling" not in note for note in [*outages.notes, *slices.notes])
        assert "performance.roc_auc.nian_ling=q1" in slices.metrics
        drawn = svg(outages.figures["robustness_drops"])
        assert "年龄 missing</text>" in drawn
        assert "&lt;b&gt;$x$&lt;/b&gt; missing</text>" in drawn

    def test_of_groups_have_the_name_beside_them_where_a_rule_may_look_for_it(self) -> None:
        sample = replace(TestFairness().sample(), titles={"gender": "Geschlecht / Sex"})
        found = examine_fairness(sample)
        told = [section.title for section in found.sections]
        assert told == ["Decisions by Geschlecht / Sex", "Decisions by region", "Decisions by Geschlecht / Sex+region"]
        assert found.notes[0].startswith("Geschlecht / Sex=c [gender=c] has ")
        assert "fairness.demographic_parity_ratio.gender" in found.metrics

    def test_of_what_a_customer_controls_are_in_the_changes(self) -> None:
        sample = replace(TestDecisionChanges().sample(actionable=["x"]), titles={"x": "Länge (Seiten)"})
        found = examine_decision_changes(sample, sample.part.features)
        assert all(row[2].startswith("Länge (Seiten) ") for row in found.sections[0].rows)
        assert "up to two of Länge (Seiten) move by 10%" in found.notes[0]


class TestReasons:
    explanation = Explanation(
        "by hand",
        "log-odds",
        ["days_away", "plan", "tickets"],
        np.array([[1.0, -0.2, 0.0]]),
        -1.0,
        np.array([-0.2]),
        pd.DataFrame({"days_away": [41.2], "plan": ["pro"], "tickets": [np.nan]}),
    )

    def test_are_told_in_the_projects_words(self) -> None:
        wording = {"days_away": "no login for {value:.0f} days"}
        told = reasons(self.explanation, Calibration(Method.none), 0, wording, {"tickets": "Anfragen", "plan": "套餐"})
        points = 100 * (logistic(np.array(-0.2)) - logistic(np.array(-1.2)))
        assert told[0] == f"no login for 41 days raises the risk by {points:.0f} points"
        assert told[1].startswith("套餐 = pro lowers the risk by 5 points")
        assert told[2] == "missing Anfragen lowers the risk by 0.0 points"

    def test_wording_that_cannot_be_filled_in_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"the wording of x, 'no \{days\}', cannot be filled in"):
            Evaluation(wording={"x": "no {days}"})
