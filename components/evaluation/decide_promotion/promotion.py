"""The decision: promote or reject, with every reason in plain words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from components.champion import find_champion
from components.complete import complete_folder, write_whole
from components.contract import ContractViolation
from components.evaluation.bootstrap import Bootstrap, Metric
from components.evaluation.decide_promotion.comparison import Comparison, compare
from components.evaluation.decide_promotion.gate import Judgement, judge
from components.training.dataset import TrainingSet
from components.training.scoring import ModelFolder
from project.loading import load_configuration
from project.stores import load_stores

PROMOTED, REJECTED = "promoted", "rejected"
# What a rejected candidate leaves in place of a model.
REJECTION_FILE = "rejected.json"


def decide(
    project: Path, training_set_folder: Path, model_folder: Path, evaluation: Path, verdict: Path, approved: Path
) -> dict[str, Any]:
    """Judge every rule and the champion, and write the `verdict` and `approved_model` artifacts.

    Args:
        project: The project artifact.
        training_set_folder: The training set artifact; champion and candidate score its test part.
        model_folder: The candidate.
        evaluation: What was measured of it.
        verdict: JSON file to write.
        approved: Folder to write: the model when it is promoted, else `rejected.json` alone.

    Returns:
        Metadata: `decision` (`promoted` or `rejected`), `missed`, `summary`.

    Raises:
        ContractViolation: the evaluation is of another model, or the registry cannot be reached.
    """
    configuration = load_configuration(project)
    model = ModelFolder(model_folder)
    measured = _read_evaluation(evaluation, model)
    metrics = {name: Metric(**values) for name, values in measured["metrics"].items()}
    rules = [judge(rule, metrics, measured["notes"]) for rule in configuration.gate.rules]

    name = configuration.deployment.model
    champion = find_champion(load_stores(project).tracking_uri, name)
    comparison = None
    if champion:
        part = TrainingSet(training_set_folder).part("test")
        bootstrap = Bootstrap(part.entity, configuration.evaluation.bootstrap_replicates, configuration.training.seed)
        comparison = compare(
            champion, model, part, bootstrap, configuration.gate.champion, configuration.training.costs
        )
    decision = PROMOTED if all(rule.passed for rule in rules) and (not comparison or comparison.passed) else REJECTED
    sentences = tell(decision, name, rules, comparison)
    content = {
        "decision": decision,
        "model": name,
        "run_id": model.description["run_id"],
        "rules": [rule.describe() for rule in rules],
        "champion": comparison.describe() if comparison else None,
        "sentences": sentences,
    }
    with complete_folder(approved) as folder:
        if decision == PROMOTED:
            shutil.copytree(model_folder, folder, dirs_exist_ok=True)
        else:
            rejection = {"decision": decision, "model": name, "sentences": sentences}
            (folder / REJECTION_FILE).write_text(json.dumps(rejection, indent=2), "utf-8")
        write_whole(verdict, json.dumps(content, indent=2, allow_nan=False))
    print("\n".join(sentences), flush=True)
    missed = sum(not rule.passed for rule in rules) + bool(comparison and not comparison.passed)
    summary = f"{decision}: {f'missed {missed}' if missed else 'met all'} of {len(rules) + bool(comparison)}"
    return {"decision": decision, "missed": missed, "summary": summary}


def tell(decision: str, name: str, rules: list[Judgement], comparison: Comparison | None) -> list[str]:
    """The verdict in sentences: the decision, what was missed, the champion, what was met."""
    missed = [rule.sentence for rule in rules if not rule.passed]
    met = [rule.sentence for rule in rules if rule.passed]
    against = (
        comparison.sentence if comparison else f"No version of {name} is in production yet: the rules alone decide."
    )
    if decision == PROMOTED:
        first = f"Promoted: {name} meets every rule{' and beats the champion' if comparison else ''}."
    else:
        reasons = [f"it misses {len(missed)} of {len(rules)} rules"] if missed else []
        if comparison and not comparison.passed:
            reasons.append(f"it is not shown to be better than version {comparison.version}, which stays in production")
        first = f"Rejected: {' and '.join(reasons)}."
    return [first, *missed, against, *met]


def _read_evaluation(folder: Path, model: ModelFolder) -> dict[str, Any]:
    file = folder / "evaluation.json"
    if not file.is_file():
        raise ContractViolation(f"{folder} holds no evaluation.json: run evaluate_model again.")
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    if content["run_id"] != model.description["run_id"]:
        raise ContractViolation(
            f"evaluation.json is of the model of run {content['run_id']}, but the candidate is that of run "
            f"{model.description['run_id']}. Evaluate the model that is to be decided on."
        )
    return content
