"""A whole evaluation of a trained model: what it leaves, and what it refuses."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest
from mlflow.utils.validation import path_not_unique, validate_param_and_metric_name
from sklearn import metrics

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.evaluation.evaluate_model.evaluation import Evaluation
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry.evaluation_record import record_verdict, recorded_name
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.business import write_project, write_training_set
from tests.modelling.evaluated import evaluate
from tests.modelling.trained import train_model
from tests.modelling.verdicts import verdict
from tests.projects import load_locations, save_locations

pytestmark = pytest.mark.slow

SETTINGS = {"actionable": ["tickets", "plan"], "wording": {"days_away": "{value:.0f} days away"}}


@dataclass(frozen=True)
class Evaluated:
    """A model, what it was trained on, and its evaluation."""

    project: Path
    training_set: Path
    model: Path
    evaluation: Path
    found: Evaluation

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.evaluation / "evaluation.json").read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    project = write_project(folder / "project", folder / "state", evaluation=SETTINGS)
    training_set = write_training_set(folder / "set", rows=600)
    Parameters(parameters={"max_iter": 20}).write(folder / "parameters")
    train_model(project, training_set, folder / "parameters", folder / "model")
    found = evaluate(project, training_set, folder / "model", folder / "evaluation")
    return Evaluated(project, training_set, folder / "model", folder / "evaluation", found)


def the_run(evaluated: Evaluated) -> Any:
    run_id = json.loads((evaluated.model / "model.json").read_text("utf-8"))["run_id"]
    return connect(load_locations(evaluated.project).tracking_uri).get_run(run_id)


def recorded_folder(evaluated: Evaluated) -> Path:
    """Where MLflow keeps the evaluation."""
    return Path(url2pathname(urlsplit(the_run(evaluated).info.artifact_uri).path)) / "evaluation"


def without_latency(evaluation: Path) -> dict[str, Any]:
    """What an evaluation says that is the same at each time."""
    content: dict[str, Any] = json.loads((evaluation / "evaluation.json").read_text("utf-8"))
    content["metrics"] = {name: m for name, m in content["metrics"].items() if not name.startswith("latency")}
    return content


def kept_at(evaluated: Evaluated, tracking_uri: str, folder: Path) -> Path:
    """A copy of the project whose records are kept elsewhere."""
    project = Path(shutil.copytree(evaluated.project, folder / "project"))
    save_locations(Locations(**{**load_locations(project).model_dump(), "tracking_uri": tracking_uri}), project)
    return project


def changed_test_part(evaluated: Evaluated, folder: Path, change: Any) -> Path:
    """A copy of the training set whose test part `change` made another."""
    shutil.copytree(evaluated.training_set, folder)
    change(pd.read_parquet(folder / "test.parquet")).to_parquet(folder / "test.parquet", index=False)
    return folder


class TestAnEvaluation:
    def test_measures_six_dimensions_each_with_an_interval(self, evaluated: Evaluated) -> None:
        found = evaluated.content["metrics"]
        dimensions = {"performance", "fairness", "robustness", "calibration", "explainability", "latency"}
        assert {name.partition(".")[0] for name in found} == dimensions
        for metric in found.values():
            assert metric["low"] <= metric["value"] <= metric["high"]
            assert metric["rows"] > 0

    def test_keeps_the_names_that_gate_rules_use(self, evaluated: Evaluated) -> None:
        assert {
            "performance.roc_auc",
            "performance.lift_at_10_percent",
            "performance.expected_value_per_1000",
            "performance.roc_auc.plan=pro",
            "fairness.demographic_parity_difference.group",
            "fairness.demographic_parity_ratio.group",
            "fairness.demographic_parity_ratio.group+rare",
            "calibration.expected_calibration_error",
            "robustness.worst_slice_auc",
            "robustness.worst_missing_feature_auc_drop",
            "explainability.additivity_error",
            "latency.p99_ms",
        } <= set(evaluated.content["metrics"])

    def test_proves_that_explanations_add_up_to_what_is_served(self, evaluated: Evaluated) -> None:
        found = evaluated.content["metrics"]
        assert found["explainability.additivity_error"]["value"] < 1e-9
        assert found["explainability.served_error"]["value"] < 1e-5
        assert found["explainability.importance_error"]["value"] < 0.2

    def test_tells_reasons_in_words_and_the_error_of_its_sample(self, evaluated: Evaluated) -> None:
        content = evaluated.content
        table = next(table for table in content["sections"] if table["title"] == "Why the highest scores are high")
        assert any("days away raises the risk by" in row[2] for row in table["rows"])
        assert any("share of the importance to within" in note for note in content["notes"])

    def test_compares_the_future_with_the_past_and_the_model_with_its_baselines(self, evaluated: Evaluated) -> None:
        content = evaluated.content
        assert any("Within the training dates, on rows left out of training" in note for note in content["notes"])
        assert content["metrics"]["performance.dummy_roc_auc"]["value"] == 0.5
        best = content["metrics"]["performance.best_possible_roc_auc"]["value"]
        assert content["metrics"]["performance.roc_auc"]["value"] < best + 0.05

    def test_names_the_groups_that_are_too_small(self, evaluated: Evaluated) -> None:
        assert any(note.startswith("rare=tiny has") for note in evaluated.content["notes"])

    def test_leaves_predictions_and_plots(self, evaluated: Evaluated) -> None:
        predictions = pd.read_parquet(evaluated.evaluation / "predictions.parquet")
        assert metrics.roc_auc_score(predictions.gone, predictions.score) == pytest.approx(
            evaluated.found.metadata["roc_auc"]
        )
        files = list((evaluated.evaluation / "plots").glob("*.svg"))
        assert len(files) >= 9
        for file in files:
            assert ET.parse(file).getroot().tag.endswith("svg")

    def test_is_the_same_when_it_is_run_again(self, evaluated: Evaluated, tmp_path: Path) -> None:
        evaluate(evaluated.project, evaluated.training_set, evaluated.model, tmp_path / "again")
        assert without_latency(tmp_path / "again") == without_latency(evaluated.evaluation)


class TestTheRecord:
    """What the model's MLflow run says of the evaluation."""

    def test_has_the_evaluation_with_its_plots_but_no_rows(self, evaluated: Evaluated) -> None:
        kept = recorded_folder(evaluated)
        assert without_latency(kept) == without_latency(evaluated.evaluation)
        plots = [{file.name for file in (place / "plots").iterdir()} for place in (kept, evaluated.evaluation)]
        assert plots[0] == plots[1]
        assert not list(kept.rglob("*.parquet"))

    def test_has_every_metric_with_its_interval(self, evaluated: Evaluated) -> None:
        recorded = the_run(evaluated).data.metrics
        content = json.loads((recorded_folder(evaluated) / "evaluation.json").read_text("utf-8"))
        for name, metric in content["metrics"].items():
            ends = [recorded[recorded_name(name) + end] for end in ("", ".low", ".high")]
            assert ends == [metric["value"], metric["low"], metric["high"]]

    def test_names_no_two_metrics_alike_and_all_as_mlflow_takes_them(self) -> None:
        names = ["a.b.plan=pro", "a.b.plan+sex", "a.b.c=x/y", "a.b.c=x|y", "a.b.c=x_y", "a.b.c=ü €"]
        told = [recorded_name(name) for name in names]
        assert len(set(told)) == len(names)
        assert told[:2] == ["a.b.plan:pro", "a.b.plan and sex"]
        assert all(validate_param_and_metric_name(name) and not path_not_unique(name) for name in told)

    def test_a_server_that_is_down_stops_the_step_before_it_begins(self, evaluated: Evaluated, tmp_path: Path) -> None:
        project = kept_at(evaluated, "http://127.0.0.1:9", tmp_path)
        with pytest.raises(ContractViolation, match=r"127.0.0.1:9 cannot be reached"):
            evaluate(project, evaluated.training_set, evaluated.model, tmp_path / "evaluation")
        assert not (tmp_path / "evaluation").exists()

    def test_a_run_that_was_deleted_is_named_with_the_remedy(self, evaluated: Evaluated, tmp_path: Path) -> None:
        uri = f"sqlite:///{evaluated.project.parent / 'state' / 'mlflow.db'}"
        with pytest.raises(ContractViolation, match=r"has no run 0123, which trained this model.*train again"):
            record_verdict(connect(uri), uri, verdict(run_id="0123"))


class TestBadInput:
    def evaluate(
        self, evaluated: Evaluated, tmp_path: Path, change: Any, project: Path | None = None
    ) -> dict[str, Any]:
        folder = changed_test_part(evaluated, tmp_path / "set", change)
        evaluate(project or evaluated.project, folder, evaluated.model, tmp_path / "evaluation")
        content: dict[str, Any] = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text("utf-8"))
        return content

    def test_one_class_only_is_refused_and_leaves_nothing(self, evaluated: Evaluated, tmp_path: Path) -> None:
        with pytest.raises(ContractViolation, match="test part: 0 of 600 rows have gone = 1"):
            self.evaluate(evaluated, tmp_path, lambda frame: frame.assign(gone=0))
        assert not (tmp_path / "evaluation").exists()

    def test_a_feature_without_any_value_is_refused(self, evaluated: Evaluated, tmp_path: Path) -> None:
        with pytest.raises(ContractViolation, match="feature charge has no value in any of 600 rows"):
            self.evaluate(evaluated, tmp_path, lambda frame: frame.assign(charge=np.nan))

    def test_twenty_rows_are_judged_with_wide_intervals(self, evaluated: Evaluated, tmp_path: Path) -> None:
        def twenty(frame: pd.DataFrame) -> pd.DataFrame:
            return pd.concat([frame[frame.gone == 1].head(8), frame[frame.gone == 0].head(12)], ignore_index=True)

        state = evaluated.project.parent / "state"
        project = write_project(tmp_path / "project", state, training={"min_class_rows": 5})
        content = self.evaluate(evaluated, tmp_path, twenty, project)
        auc = content["metrics"]["performance.roc_auc"]
        assert auc["rows"] == 20
        assert auc["high"] - auc["low"] > 0.2
        assert "No slice has enough rows and events for its ROC AUC to be judged." in content["notes"]
        assert (
            "Fairness by group was not measured: fewer than two of its groups are large enough to judge."
            in (content["notes"])
        )

    def test_an_incomplete_model_is_refused(self, evaluated: Evaluated, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        with pytest.raises(ContractViolation, match="holds no complete model"):
            evaluate(evaluated.project, evaluated.training_set, tmp_path / "model", tmp_path / "evaluation")
