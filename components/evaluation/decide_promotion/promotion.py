"""Promotion decision: approve or reject a candidate, with every reason in plain words."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kfp_lifecycle.artifacts.evaluation import Evaluation
from kfp_lifecycle.artifacts.verdict import ChampionOutcome, Judgement, Rejection, Verdict
from kfp_lifecycle.components.evaluation.decide_promotion.adjusted import set_aside
from kfp_lifecycle.components.evaluation.decide_promotion.comparison import compare
from kfp_lifecycle.components.evaluation.decide_promotion.gate import judge, judge_suspect
from kfp_lifecycle.components.evaluation.decide_promotion.measured_card import complete_card
from kfp_lifecycle.components.evaluation.decide_promotion.remarks import beside_logistic, of_default_costs
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.champion import find_champion
from kfp_lifecycle.registry.evaluation_record import record_verdict
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder


def decide(
    settings: Configuration,
    locations: Locations,
    validated: Path,
    training_set_folder: Path,
    model_folder: Path,
    evaluation: Path,
    verdict_file: Path,
    approved: Path,
    asked_by: str = "",
) -> dict[str, Any]:
    """Judge every rule and the champion, write the `verdict` and `approved_model` artifacts, and record the verdict.

    Args:
        settings: What the component reads.
        locations: `tracking_uri` says where the registry is.
        validated: The validated tables that the training set was built from.
        training_set_folder: The training set artifact; champion and candidate score its rows.
        model_folder: The candidate.
        evaluation: What was measured of it.
        verdict_file: JSON file to write.
        approved: Folder to write: the model with its `verdict.json` when it is approved, else `rejected.json` alone.
        asked_by: The run of monitoring that asked for this training.

    Returns:
        Metadata: `decision` (`approved` or `rejected`), `sentence`, `missed`, `summary`.

    Raises:
        ContractViolation: the evaluation is of another model or is no evaluation, or MLflow cannot be reached. Nothing
            is written then.
    """
    model, training_set = ModelFolder(model_folder), TrainingSet(training_set_folder)
    measured = _read_evaluation(evaluation, model)
    rules = [judge(rule, measured.metrics, measured.notes) for rule in settings.gate.rules]
    rules += [judge_suspect(suspect, settings.gate.waivers) for suspect in measured.suspects]
    adjustment = model.description.origin.adjustment
    if adjustment is not None:
        rules = [set_aside(rule, adjustment) for rule in rules]

    name, tracking_uri = settings.deployment.model, locations.tracking_uri
    champion = find_champion(tracking_uri, name)
    against = compare(champion, model, settings, training_set, validated) if champion else None
    missed = sum(not rule.passed for rule in rules) + bool(against and not against.passed)
    decision: Literal["approved", "rejected"] = "rejected" if missed else "approved"
    remarks = [
        *beside_logistic(measured.metrics, model.description.estimator),
        *of_default_costs(settings.training.costs, model.description.threshold_by),
        *model.description.limited,
    ]
    verdict = Verdict(
        decision=decision,
        model=name,
        run_id=model.description.run_id,
        asked_by=asked_by,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        feature_version=model.description.feature_version,
        snapshots=training_set.description.snapshots["test"],
        rules=rules,
        champion_version=champion.version if champion else None,
        champion=against,
        remarks=remarks,
        sentences=tell(decision, name, rules, against, remarks),
    )
    with complete_folder(approved) as folder:
        if decision == "approved":
            shutil.copytree(model_folder, folder, dirs_exist_ok=True)
            verdict.write(folder)
            complete_card(folder, measured, verdict)
        else:
            Rejection(model=name, sentences=verdict.sentences).write(folder)
        record_verdict(connect(tracking_uri), tracking_uri, verdict)
        verdict.write(verdict_file)
    print("\n".join(verdict.sentences), flush=True)
    count = len(rules) + bool(against)
    summary = f"{decision}: {f'missed {missed}' if missed else 'met all'} of {count}"
    return {"decision": decision, "sentence": verdict.sentences[0], "missed": missed, "summary": summary}


def tell(
    decision: str,
    name: str,
    rules: Sequence[Judgement],
    against: ChampionOutcome | None,
    remarks: Sequence[str] = (),
) -> list[str]:
    """The verdict in sentences: the decision, what was missed, the champion, what was waived or set aside, remarks, and
    what was met."""
    missed = [rule.sentence for rule in rules if not rule.passed]
    waived = [rule.sentence for rule in rules if rule.waived]
    aside = [rule.sentence for rule in rules if rule.set_aside]
    met = [rule.sentence for rule in rules if rule.passed and not rule.waived and not rule.set_aside]
    champion = (
        [against.sentence, *against.notes]
        if against
        else [f"No version of {name} is in production yet: the rules alone decide."]
    )
    if decision == "approved":
        unmeasured = sum(rule.waived and rule.value is None for rule in rules)
        found = len(waived) - unmeasured
        rest = f"; {unmeasured} could not be measured and {_are(unmeasured)} waived" if unmeasured else ""
        rest += f"; {found} may leak the label and {_are(found)} waived with a reason" if found else ""
        rest += f"; {len(aside)} {_are(len(aside))} set aside, for outcomes to decide" if aside else ""
        beaten = " and beats the champion" if against and against.compared else ""
        judged = " that could be judged" if unmeasured or aside else ""
        first = f"Approved: {name} meets every rule{judged}{beaten}{rest}."
    else:
        reasons = [f"it misses {len(missed)} of {len(rules)} rules"] if missed else []
        if against and not against.passed:
            failed = [comparison.demand for comparison in against.comparisons if not comparison.passed]
            what = (
                "could not be compared with"
                if not against.compared
                else "is not shown to be better than"
                if "superiority" in failed
                else "may be worse than"
            )
            reasons.append(f"it {what} version {against.version}, which stays in production")
        first = f"Rejected: {' and '.join(reasons)}."
    return [first, *missed, *champion, *waived, *aside, *remarks, *met]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _read_evaluation(folder: Path, model: ModelFolder) -> Evaluation:
    found = Evaluation.read(folder)
    if found.run_id != model.description.run_id:
        raise ContractViolation(
            f"{Evaluation.FILE} is of the model of run {found.run_id}, but the candidate is that of run "
            f"{model.description.run_id}. Evaluate the model that is to be decided on."
        )
    return found
