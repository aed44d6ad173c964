"""The six dimensions of a candidate's quality, on snapshots it has never seen, each figure with its uncertainty."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from components.complete import complete_folder
from components.evaluation.bootstrap import Bootstrap, Metric, interval, measure
from components.evaluation.evaluate_model import plots
from components.evaluation.evaluate_model.calibration_error import Reliability, calibration_errors
from components.evaluation.evaluate_model.explanation import explain, explanation_metrics, reasons
from components.evaluation.evaluate_model.fairness import GroupFairness, group_fairness
from components.evaluation.evaluate_model.latency import measure_latency
from components.evaluation.evaluate_model.robustness import examine_robustness
from components.evaluation.ranking import AreaUnderCurve, Performance
from components.training.calibration import Calibration
from components.training.dataset import BEST_POSSIBLE, Part, TrainingSet
from components.training.scoring import ModelFolder
from project.configuration import Configuration
from project.loading import load_configuration

# Customers whose reasons are told, those with the highest scores.
TOLD_CUSTOMERS = 3
CURVE_POINTS = 100


@dataclass
class Findings:
    """What an evaluation gathers.

    Attributes:
        metrics: By full name, `dimension.metric[.slice]`.
        notes: Sentences for a reader: what was not measured and why, what stands out.
        sections: Tables for a report: `dimension`, `title`, `columns`, `rows`.
        figures: Plots by file name without suffix.
    """

    metrics: dict[str, Metric] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sections: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        findings: What goes into the artifact.
        curve: False and true positive rates and thresholds of the ROC curve, at most 100 points.
        confusion: Counts [[true negatives, false positives], [false negatives, true positives]].
        metadata: For the artifact.
    """

    findings: Findings
    curve: tuple[list[float], list[float], list[float]]
    confusion: list[list[int]]
    metadata: dict[str, Any]


def evaluate(project: Path, training_set_folder: Path, model_folder: Path, destination: Path) -> Evaluation:
    """Examine the candidate on the test part and write the `evaluation` artifact.

    Args:
        project: The project artifact.
        training_set_folder: The training set artifact; its test part is judged, its train part is SHAP's background.
        model_folder: The model artifact.
        destination: Folder of the evaluation artifact.

    Raises:
        ContractViolation: the model is not complete, or the test part cannot be judged. Nothing is left at
            `destination` then.
    """
    configuration = load_configuration(project)
    training_set, model = TrainingSet(training_set_folder), ModelFolder(model_folder)
    part = training_set.trainable(("test",), configuration.training.smallest_class)["test"]
    # Trusted: it comes straight from the training step of the same run. No server loads it.
    trained = joblib.load(model_folder / "model.joblib")
    examination = Examination(configuration, training_set, model, part)
    examination.performance(trained["baselines"])
    examination.calibration()
    examination.fairness()
    examination.robustness()
    examination.explainability(trained["pipeline"])
    examination.latency()
    findings = examination.findings
    with complete_folder(destination) as folder:
        content = {
            "run_id": model.description["run_id"],
            "metrics": {name: metric.describe() for name, metric in findings.metrics.items()},
            "notes": findings.notes,
            "sections": findings.sections,
        }
        (folder / "evaluation.json").write_text(json.dumps(content, indent=2, allow_nan=False), "utf-8")
        examination.predictions().to_parquet(folder / "predictions.parquet", index=False)
        plots.save_plots(findings.figures, folder / "plots")
    auc = findings.metrics["performance.roc_auc"]
    return Evaluation(
        findings,
        roc_points(part.label, examination.score),
        confusion_matrix(part.label, examination.score >= model.threshold, labels=[0, 1]).tolist(),
        {"rows": len(part.label), "roc_auc": auc.value, "summary": f"AUC {auc.value:.3f}"},
    )


class Examination:
    """One candidate on one test part; each dimension adds to the findings."""

    def __init__(self, configuration: Configuration, training_set: TrainingSet, model: ModelFolder, part: Part) -> None:
        """Score the rows once, and draw the bootstrap that all dimensions share."""
        self.configuration, self.training_set, self.model, self.part = configuration, training_set, model, part
        self.seed = configuration.training.seed
        self.scorer = model.scorer()
        self.score = self.scorer.score(part.features)
        self.acted: NDArray[np.bool_] = self.score >= model.threshold
        self.bootstrap = Bootstrap(part.entity, configuration.evaluation.bootstrap_replicates, self.seed)
        self.findings = Findings()

    def performance(self, baselines: dict[str, Any]) -> None:
        """Figures at the threshold and of the ranking, beside the baselines and the best possible."""
        findings, part, rows = self.findings, self.part, len(self.part.label)
        costs = self.configuration.training.costs
        statistic = Performance(part.label, self.score, self.model.threshold, costs)
        values = statistic(np.ones((1, rows)))[0]
        replicates = self.bootstrap.replicate(statistic)
        for position, name in enumerate(statistic.names):
            if np.isfinite(values[position]):
                metric = interval(float(values[position]), replicates[:, position], rows)
                findings.metrics[f"performance.{name}"] = metric
            else:
                findings.notes.append(f"performance.{name} is undefined: no row reaches the threshold.")
        baseline_scores = {name: item.predict_proba(part.features)[:, 1] for name, item in baselines.items()}
        for name, score in baseline_scores.items():
            metric = measure(AreaUnderCurve(part.label, score), self.bootstrap)
            findings.metrics[f"performance.{name}_roc_auc"] = metric
        if BEST_POSSIBLE in part.frame:
            best = AreaUnderCurve(part.label, part.frame[BEST_POSSIBLE].to_numpy(dtype=float))
            findings.metrics["performance.best_possible_roc_auc"] = measure(best, self.bootstrap)
        (true_negatives, false_positives), (false_negatives, true_positives) = confusion_matrix(
            part.label, self.acted, labels=[0, 1]
        ).tolist()
        findings.sections.append(
            {
                "dimension": "performance",
                "title": f"Decisions at the threshold {self.model.threshold:.3f}",
                "columns": ["", "acted on", "left alone"],
                "rows": [["event", true_positives, false_negatives], ["no event", false_positives, true_negatives]],
            }
        )
        auc = findings.metrics["performance.roc_auc"].value
        findings.figures |= {
            "performance_roc": plots.roc_plot(part.label, self.score, baseline_scores["logistic"], auc),
            "performance_precision_recall": plots.precision_recall_plot(part.label, self.score, self.model.threshold),
            "performance_scores": plots.score_plot(part.label, self.score, self.model.threshold),
            "performance_value": plots.value_plot(part.label, self.score, self.model.threshold, costs),
        }

    def calibration(self) -> None:
        """Predicted against observed frequency."""
        reliability = Reliability(self.part.label, self.score)
        self.findings.metrics |= calibration_errors(reliability, self.bootstrap)
        self.findings.figures["calibration_reliability"] = plots.calibration_plot(reliability, self.bootstrap)

    def fairness(self) -> None:
        """Decisions by group, for each sensitive column."""
        for column in self.training_set.sensitive:
            found = group_fairness(
                column,
                self.part.frame[column],
                self.part.label,
                self.acted,
                self.bootstrap,
                self.configuration.evaluation.smallest_group,
            )
            self.findings.metrics |= found.metrics
            self.findings.notes += found.notes
            self.findings.sections.append(_group_table(found))
            self.findings.figures[f"fairness_{column}"] = plots.fairness_plot(found)

    def robustness(self) -> None:
        """Slices, outages, noise, new values."""
        found = examine_robustness(
            self.scorer,
            self.part,
            self.training_set.sensitive,
            self.bootstrap,
            self.configuration.evaluation.smallest_group,
            self.seed,
        )
        self.findings.metrics |= found.metrics
        self.findings.notes += found.notes
        drops = dict(sorted(found.drops.items(), key=lambda item: -item[1].value))
        self.findings.figures["robustness_drops"] = plots.interval_plot(
            "What disturbances cost", "loss of AUC", drops, mark=0
        )
        if found.slices:
            whole = self.findings.metrics["performance.roc_auc"].value
            self.findings.figures["robustness_slices"] = plots.interval_plot(
                "Worst slices (dotted: all rows)", "AUC", found.slices, mark=whole
            )

    def explainability(self, pipeline: Any) -> None:
        """Contributions by SHAP for a sample and for the highest scores."""
        findings, part = self.findings, self.part
        most = self.configuration.evaluation.explained_rows
        sample = np.random.default_rng(self.seed).permutation(len(part.label))[:most]
        highest = np.argsort(-self.score, kind="stable")[:TOLD_CUSTOMERS]
        inputs = part.features.iloc[np.concatenate([highest, sample])]
        background = self.training_set.part("train").features
        told = explain(pipeline, self.training_set.features, inputs, background, self.seed)
        metrics, notes = explanation_metrics(told, self.seed)
        findings.metrics |= metrics
        findings.notes += notes
        calibration = Calibration.read(self.model.description["calibration"])
        findings.sections.append(
            {
                "dimension": "explainability",
                "title": "Why the highest scores are high",
                "columns": [self.training_set.entity, "score", "reasons"],
                "rows": [
                    [
                        str(part.frame[self.training_set.entity].iloc[row]),
                        round(float(self.score[row]), 3),
                        "; ".join(reasons(told, calibration, position)),
                    ]
                    for position, row in enumerate(highest)
                ],
            }
        )
        importance = pd.Series(np.abs(told.contributions).mean(axis=0), index=told.features)
        findings.figures["explainability_importance"] = plots.importance_plot(importance, told.scale)

    def latency(self) -> None:
        """The model alone, one row at a time, one thread."""
        feed = self.scorer.feed(self.part.features.head(self.configuration.evaluation.latency_requests))
        requests = self.configuration.evaluation.latency_requests
        self.findings.metrics |= measure_latency(self.model.scorer(threads=1), feed, requests, self.seed)
        self.findings.notes.append(
            "Latency is that of the ONNX model alone, one row at a time on one thread, without the server around it."
        )

    def predictions(self) -> pd.DataFrame:
        """The test rows with their score: entity key, `event_timestamp`, label, `score`, sensitive columns."""
        known = self.training_set
        columns = dict.fromkeys([known.entity, "event_timestamp", known.label, *known.sensitive])
        return self.part.frame[list(columns)].assign(score=self.score)


def roc_points(label: NDArray[Any], score: NDArray[Any]) -> tuple[list[float], list[float], list[float]]:
    """The ROC curve in at most 100 points; its first threshold, infinite in theory, is 1."""
    false, true, thresholds = roc_curve(label, score)
    rows = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).astype(int))
    return false[rows].tolist(), true[rows].tolist(), np.minimum(thresholds[rows], 1.0).tolist()


def _group_table(found: GroupFairness) -> dict[str, Any]:
    def share(value: float) -> float | None:
        return round(float(value), 4) if np.isfinite(value) else None

    rows = [
        [name, int(row.rows), share(row.selection_rate), share(row.true_positive_rate), share(row.false_positive_rate)]
        for name, row in found.groups.iterrows()
    ]
    columns = [found.column, "rows", "acted on", "events found", "others acted on"]
    return {"dimension": "fairness", "title": f"Decisions by {found.column}", "columns": columns, "rows": rows}
